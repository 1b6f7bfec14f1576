"""How far a study is: the state of every job, read from the journal and the runs' own files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tuneyard.core.run_folder import RunFolder, RunStatus
from tuneyard.study.jobs import Job, baselines, evaluations, training
from tuneyard.study.journal import Journal
from tuneyard.study.study import Study

PLANNED = "planned"
REFUSED = "refused"


@dataclass(frozen=True)
class JobState:
    """A job and what has become of it."""

    job: Job
    state: str
    """planned, refused, or the state of its run."""
    run: RunFolder | None = None
    reason: str | None = None
    """Why it was refused or lost."""
    tries: int = 0
    """How many runs it took so far."""


def jobs_of(study: Study) -> Iterator[Job]:
    """Every job of a study: baselines first, then each run with its evaluations."""
    yield from baselines(study)
    for point in study.points():
        train = training(study, point)
        yield train
        yield from evaluations(study, point, train)


StatusOf = Callable[[RunFolder], RunStatus]


def states_of(study: Study, status_of: StatusOf = RunFolder.status) -> Iterator[JobState]:
    """Every job with its state, in order; one at a time.

    Args:
        study: whose jobs.
        status_of: tells the state of a run, for who reads the run's files anyway. Default: by reading them.
    """
    journal = Journal(study.folder.journal)
    for job in jobs_of(study):
        yield _state_of(study, journal, job, status_of)


def _state_of(study: Study, journal: Journal, job: Job, status_of: StatusOf) -> JobState:
    entry = journal.entry(job)
    if entry is None:
        return JobState(job, PLANNED)
    if entry.run is None or entry.refused:
        return JobState(job, REFUSED, reason=entry.refused)
    run = RunFolder(study.workspace.runs / entry.run)
    if not run.spec.is_file():
        return JobState(job, PLANNED, reason=f"{entry.run} was removed")
    status = status_of(run)
    return JobState(job, status.state, run, status.reason or None, len(entry.runs))
