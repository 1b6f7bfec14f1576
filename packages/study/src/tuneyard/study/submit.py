"""A study on SLURM: all its trainings as job arrays, and evaluations that each wait for their training.

A run that fails for want of memory is done once more with half the batch: its own job asks for that before it ends
(`tuneyard.study.retry`), else the next submission does. The journal, under the study's lock, says whether it was done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from tuneyard.control.resolving.scheduled import Later, scheduled
from tuneyard.control.slurm.script import gpus_of, options
from tuneyard.control.slurm.submit import require, submit_runs
from tuneyard.core.errors import RunError
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.slurm_jobs import read_job
from tuneyard.study.execute import alone
from tuneyard.study.jobs import Job, baselines, evaluations, training
from tuneyard.study.journal import Journal
from tuneyard.study.scripts import ARRAY_LIMIT, array_limit
from tuneyard.study.start import Starter, is_of
from tuneyard.study.study import Point, Study

TRIED = ("failed", "cancelled")
"""Endings after which a job is done again only when that is asked for."""

RETRY_PATIENCE = 300.0
"""Seconds that the job of a failed run waits for others of its study that do the same."""


@dataclass
class Submitted:
    """What was given to SLURM."""

    trainings: int = 0
    evaluations: int = 0
    notes: list[str] = field(default_factory=list)
    """What was halved, and what could not be."""


@dataclass
class Submission:
    """Giving all of a study that is not done yet to SLURM. It may be killed, and done again."""

    study: Study
    given: Mapping[str, Any] = field(default_factory=dict)
    """sbatch's options from the command line, before those of the experiment and of tuneyard.yaml."""
    again: bool = False
    """Whether what failed or was cancelled is tried once more."""
    _variables: dict[str, str] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)

    def options(self) -> dict[str, Any]:
        """sbatch's options for every job.

        Raises:
            RequestError: one of them is unknown, or belongs elsewhere.
        """
        own = {key: value for key, value in self.study.experiment.slurm.items() if key != ARRAY_LIMIT}
        return options(self.study.workspace, {**own, **self.given})

    def counting_on(self, awaited: str | None = None) -> AbstractContextManager[None]:
        """Inside, specs are resolved for the nodes, with a training that will have succeeded."""
        return scheduled(Later(gpus_of(self.options()), frozenset([awaited] if awaited else [])))

    def submit(self) -> Submitted:
        """Submit what is left: trainings, then their evaluations and the baseline.

        Raises:
            RequestError: a spec or an option is wrong.
            SetupError: SLURM is not here or does not take a job, or another process runs the study.
        """
        require()
        with alone(self.study):
            self._open()
            return self._submit(self.study.points(), baselines(self.study))

    def retry(self) -> Submitted:
        """Submit once more, with half the batch, what ran out of memory, and the evaluations that waited for it.

        What an earlier retry has made and not submitted is submitted too. Nothing is, after the study was cancelled.

        Raises:
            RequestError: a spec or an option is wrong.
            SetupError: SLURM is not here or does not take a job, or another process runs the study.
        """
        require()
        with alone(self.study, RETRY_PATIENCE):
            self._open()
            points = [point for point in self.study.points() if any(map(self._is_to_retry, self._jobs(point)))]
            return self._submit(points, [job for job in baselines(self.study) if self._is_to_retry(job)])

    def _open(self) -> None:
        self._journal = Journal(self.study.folder.journal)
        self._starter = Starter(self.study, self._journal)

    def _submit(self, points: Iterable[Point], others: Iterable[Job]) -> Submitted:
        """Submit what is left of some runs with their evaluations, and of other evaluations."""
        trained = [(job, self._made(job)) for job in (training(self.study, point) for point in points)]
        trainings = self._give([run for _, run in trained if self._is_due(run)], None)
        pairs = [pair for job, run in trained for pair in self._evaluations(job, run)]
        pairs += [(self._made(job), None) for job in others]
        # a training that has failed meanwhile is waited for in vain; its own job sees to it where it wanted memory
        due = [(run, after) for run, after in pairs if self._is_due(run) and not _has_failed(after)]
        given = self._give([run for run, _ in due], [after for _, after in due])
        return Submitted(trainings, given, self._notes)

    def _jobs(self, point: Point) -> list[Job]:
        train = training(self.study, point)
        return [train, *evaluations(self.study, point, train)]

    def _is_to_retry(self, job: Job) -> bool:
        """Whether a job ran out of memory since the study was last cancelled, or has been halved already."""
        run = self._run_of(job)
        if run is None or self._is_halved(job):
            return run is not None
        latest = run.latest()
        given = read_job(latest.job) if latest else None
        cancelled = self._journal.cancelled_at
        return run.ran_out_of_memory() and (cancelled is None or given is None or cancelled < given.submitted)

    def _run_of(self, job: Job) -> RunFolder | None:
        """The run that the journal names for a job; None where there is none or it was removed."""
        entry = self._journal.entry(job)
        run = RunFolder(self.study.workspace.runs / entry.run) if entry is not None and entry.run else None
        return run if run is not None and run.spec.is_file() else None

    def _is_halved(self, job: Job) -> bool:
        entry = self._journal.entry(job)
        return entry is not None and entry.halved

    def _made(self, job: Job, after: RunFolder | None = None) -> RunFolder:
        """The run that does a job: the one there is, unless it ran out of memory or evaluates another training."""
        model = f"run:{after.id}" if after else None
        run = self._run_of(job)
        if run is None or not is_of(run, model):
            return self._make(job, model, after)
        if self._is_halved(job) or not run.ran_out_of_memory():
            return run
        try:
            halved = self._make(job, model, after, halved_from=run)
        except RunError as error:
            self._notes.append(f"{job.key}: {error.message}")
            return run
        self._notes.append(f"{job.key}: out of memory; again with half the batch per device: {halved.id}")
        return halved

    def _make(
        self, job: Job, model: str | None, after: RunFolder | None, halved_from: RunFolder | None = None
    ) -> RunFolder:
        with self.counting_on(after.id if after else None):
            made = self._starter.make(job, model, halved_from=halved_from)
        self._variables |= made.variables
        return made.run

    def _evaluations(self, train: Job, run: RunFolder) -> list[tuple[RunFolder, RunFolder | None]]:
        """The evaluations of a training, with it; none of one that has ended without a model."""
        if train.point is None or _has_failed(run):
            return []
        return [(self._made(job, run), run) for job in evaluations(self.study, train.point, train)]

    def _is_due(self, run: RunFolder) -> bool:
        status = run.status()
        if status.state in TRIED:
            return self.again
        return status.state == "lost" or status.attempt == 0

    def _give(self, runs: list[RunFolder], after: list[RunFolder | None] | None) -> int:
        if runs:
            chosen, limit = self.options(), array_limit(self.study)
            submit_runs(
                self.study.workspace,
                runs,
                limit=limit,
                after=after,
                given=chosen,
                variables=self._variables,
                when_out_of_memory=self._retry_command(),
            )
        return len(runs)

    def _retry_command(self) -> list[str]:
        words = [f"{name}={value}" for name, value in self.given.items()]
        return [sys.executable, "-P", "-m", "tuneyard.study.retry", str(self.study.file), *words]


def _has_failed(run: RunFolder | None) -> bool:
    status = run.status() if run else None
    return status is not None and status.ended and status.state != "succeeded"
