"""A study on SLURM: all its trainings as job arrays, and evaluations that each wait for their training."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from tuneyard.control.scheduled import Later, scheduled
from tuneyard.control.slurm import require, submit_runs
from tuneyard.control.slurm_script import gpus_of, options
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.execute import alone
from tuneyard.study.jobs import Job, baselines, evaluations, training
from tuneyard.study.journal import Journal
from tuneyard.study.scripts import ARRAY_LIMIT, array_limit
from tuneyard.study.start import Starter
from tuneyard.study.study import Study

TRIED = ("failed", "cancelled")
"""Endings after which a job is done again only when that is asked for."""


@dataclass
class Submitted:
    """What was given to SLURM."""

    trainings: int = 0
    evaluations: int = 0


@dataclass
class Submission:
    """Giving all of a study that is not done yet to SLURM. It may be killed, and done again."""

    study: Study
    given: Mapping[str, Any] = field(default_factory=dict)
    """sbatch's options from the command line, before those of the experiment and of tuneyard.yaml."""
    again: bool = False
    """Whether what failed or was cancelled is tried once more."""
    _variables: dict[str, str] = field(default_factory=dict)

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
            self._journal = Journal(self.study.folder.journal)
            self._starter = Starter(self.study, self._journal)
            trained = [(job, self._made(job)) for job in (training(self.study, p) for p in self.study.points())]
            trainings = self._give([run for _, run in trained if self._is_due(run)], None)
            pairs = [pair for job, run in trained for pair in self._evaluations(job, run)]
            pairs += [(self._made(job), None) for job in baselines(self.study)]
            due = [(run, after) for run, after in pairs if self._is_due(run)]
            given = self._give([run for run, _ in due], [after for _, after in due])
        return Submitted(trainings, given)

    def _made(self, job: Job, after: RunFolder | None = None) -> RunFolder:
        entry = self._journal.entry(job)
        if entry is not None and entry.run is not None:
            run = RunFolder(self.study.workspace.runs / entry.run)
            if run.spec.is_file():
                return run
        with self.counting_on(after.id if after else None):
            made = self._starter.make(job, f"run:{after.id}" if after else None)
        self._variables |= made.variables
        return made.run

    def _evaluations(self, train: Job, run: RunFolder) -> list[tuple[RunFolder, RunFolder | None]]:
        """The evaluations of a training, with it; none of one that has ended without a model."""
        state = run.status()
        if train.point is None or (state.ended and state.state != "succeeded"):
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
            submit_runs(self.study.workspace, runs, limit=limit, after=after, given=chosen, variables=self._variables)
        return len(runs)
