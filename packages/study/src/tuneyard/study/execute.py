"""Run a study: a bounded number of runs at once, evaluations as soon as their training has ended, until all is done.

Nothing is kept that the files do not tell. The process may be killed at any moment: the runs that it started go on
under their own supervisors, and the next `yard study run` finds them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from tuneyard.control.devices import cpu_slots, gpus
from tuneyard.control.turns import turn
from tuneyard.core.errors import RequestError, SetupError, TuneyardError
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.jobs import TRAIN, Job, baselines, evaluations, training
from tuneyard.study.journal import Entry, Journal
from tuneyard.study.links import link
from tuneyard.study.start import Starter, is_of
from tuneyard.study.study import Study

POLL_SECONDS = 0.2

Tell = Callable[[str], None]


@dataclass
class Tally:
    """What became of the jobs of a study."""

    succeeded: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: bool = False


@dataclass
class _Flying:
    job: Job
    run: RunFolder


@dataclass
class Execution:
    """The running of a study by this process."""

    study: Study
    tell: Tell
    again: bool = False
    """Whether what failed or was cancelled is tried once more."""
    at_once: int | None = None
    """Runs in flight at most. None: two for each device, so that the next is ready when one ends."""
    tally: Tally = field(default_factory=Tally)
    only: list[Job] | None = None
    """Just these jobs, beside whoever runs others, and nothing that follows from them. None: the whole study, alone."""
    _ready: deque[Job] = field(default_factory=deque)
    _flying: list[_Flying] = field(default_factory=list)
    _resumed: set[str] = field(default_factory=set)

    def run(self) -> Tally:
        """Do all jobs of the study.

        Raises:
            SetupError: another process runs this study.
        """
        with alone(self.study) if self.only is None else nullcontext():
            self._journal = Journal(self.study.folder.journal)
            self._starter = Starter(self.study, self._journal)
            cancels = self._journal.cancels
            waiting = self._jobs()
            while self._fill(waiting) or self._flying:
                time.sleep(POLL_SECONDS)
                self._journal.refresh()
                if self._journal.cancels > cancels:
                    self.tally.cancelled = True
                    break
                self._look()
        return self.tally

    def _jobs(self) -> Iterator[Job]:
        """Trainings in order, and the baselines behind the first of them; each made when it is its turn."""
        if self.only is not None:
            yield from self.only
            return
        for point in self.study.points():
            yield training(self.study, point)
            if point.number == 0:
                yield from baselines(self.study)

    def _fill(self, waiting: Iterator[Job]) -> bool:
        """Start jobs while there is room; whether any job is left or under way."""
        most = self.at_once or 2 * slots(self.study)
        while len(self._flying) < most:
            if self._ready:
                self._begin(self._ready.popleft())
            elif (job := next(waiting, None)) is not None:
                self._begin(job)
            else:
                return bool(self._ready)
        return True

    def _begin(self, job: Job) -> None:
        """Find the run of a job, or start one; a job that cannot be started does not stop the others."""
        entry = self._journal.entry(job)
        try:
            run = self._go_on(job, entry) if entry and entry.run else self._starter.start(job, self._model(job))
            if run is not None:
                self._fly(job, run)
        except TuneyardError as error:
            self._journal.write(job, "refused", message=str(error))
            self.tally.refused += 1
            self.tell(f"{job.key}: not started: {error}")

    def _fly(self, job: Job, run: RunFolder) -> None:
        status = run.status()
        if status.state == "lost" and run.id not in self._resumed:
            self._resume(run)
        if status.state == "succeeded":
            self._ended(_Flying(job, run), status.state)
            return
        self.tell(f"{job.key}: {run.id}")
        self._flying.append(_Flying(job, run))

    def _go_on(self, job: Job, entry: Entry) -> RunFolder | None:
        """The run that the journal names for a job, resumed where that is due.

        One that was removed is made anew, and so is an evaluation of another training than the one that counts now.
        """
        run, model = RunFolder(self.study.workspace.runs / str(entry.run)), self._model(job)
        if not is_of(run, model):
            return self._starter.start(job, model)
        state = run.status().state
        if state in ("failed", "cancelled"):
            if not self.again:
                self._ended(_Flying(job, run), state)
                return None
            self._resume(run)
        return run

    def _model(self, job: Job) -> str | None:
        """`run:ID` of the training that an evaluation is of."""
        if job.stage == TRAIN or job.point is None:
            return None
        entry = self._journal.entry(training(self.study, job.point))
        if entry is None or entry.run is None:
            raise RequestError(f"Cannot load model: the training of run {job.owner} has not been started")
        return f"run:{entry.run}"

    def _resume(self, run: RunFolder) -> None:
        self._resumed.add(run.id)
        self._starter.resume(run)
        self.tell(f"{run.id}: goes on")

    def _look(self) -> None:
        """Take note of what has ended."""
        flying, self._flying = self._flying, []
        for each in flying:
            status = each.run.status()
            if not status.ended:
                self._flying.append(each)
            elif status.state == "lost" and each.run.id not in self._resumed:
                self._try(each, lambda each=each: self._resume(each.run))
            else:
                self._ended(each, status.state)

    def _try(self, each: _Flying, action: Callable[[], None]) -> None:
        try:
            action()
        except TuneyardError as error:
            self.tell(f"{each.job.key}: {error}")
            self.tally.failed += 1
        else:
            self._flying.append(each)

    def _ended(self, each: _Flying, state: str) -> None:
        job, run = each.job, each.run
        entry = self._journal.entry(job)
        if state == "failed" and run.ran_out_of_memory() and entry is not None and not entry.halved:
            self._halve(each)
            return
        self.tell(f"{job.key}: {state}" + ("" if state == "succeeded" else f" (`yard show {run.id}`)"))
        if state != "succeeded":
            self.tally.failed += 1
            return
        self.tally.succeeded += 1
        link(self.study, job, run)
        if job.stage == TRAIN and job.point is not None and self.only is None:
            # in front of the trainings that wait: an evaluation starts as soon as its training has ended
            self._ready.extend(evaluations(self.study, job.point, job))

    def _halve(self, each: _Flying) -> None:
        try:
            run = self._starter.start(each.job, self._model(each.job), halved_from=each.run)
        except TuneyardError as error:
            self.tally.failed += 1
            self.tell(f"{each.job.key}: failed: {error}")
            return
        self.tell(f"{each.job.key}: out of memory; again with half the batch per device: {run.id}")
        self._flying.append(_Flying(each.job, run))


def slots(study: Study) -> int:
    """How many of a study's runs can work at once on this machine."""
    wanted = study.base.get("gpus")
    available = len(gpus())
    if not available or wanted == 0:
        return cpu_slots()
    if wanted == "all":
        return 1
    return max(1, available // (wanted if isinstance(wanted, int) else 1))


@contextmanager
def alone(study: Study, patience: float = 0.5) -> Iterator[None]:
    """Be the only process that starts runs of a study; raises SetupError where another does for `patience` seconds."""
    try:
        with turn(study.folder.lock, patience):
            yield
    except SetupError as error:
        if error.where != str(study.folder.lock):
            raise
        raise SetupError(
            "another process runs this study",
            where=str(study.file),
            way_out=f"`yard study status {study.file}` shows how it goes; `yard study cancel` ends it",
        ) from error
