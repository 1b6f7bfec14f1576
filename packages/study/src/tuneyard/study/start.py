"""One job of a study: the run that does it already, or a new one; half the batch after running out of memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tuneyard.control import launch
from tuneyard.control.index import run_ids
from tuneyard.control.resolving.batch import ACCUMULATION, PER_DEVICE
from tuneyard.control.resolving.request import create
from tuneyard.control.run import resume_variables
from tuneyard.control.study_mark import marked, read_mark
from tuneyard.core.errors import RunError
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.data import give_data
from tuneyard.study.jobs import TRAIN, Job, content_of, request_of
from tuneyard.study.journal import HALVED, Journal
from tuneyard.study.study import Study

REUSABLE = ("queued", "preparing", "waiting", "running", "succeeded")
"""States of a run that does, or has done, what another job asks for too."""


@dataclass(frozen=True)
class Made:
    """The run of a job."""

    run: RunFolder
    new: bool
    """Whether its folder was just made, so that nobody has started it."""
    variables: dict[str, str]
    """For its worker: whether it is to do without the hub."""


@dataclass
class Starter:
    """Starts the jobs of a study, each content once."""

    study: Study
    journal: Journal

    @cached_property
    def _by_content(self) -> dict[str, list[str]]:
        """Content -> ids of the runs that studies of this workspace have made of it, the newest first."""
        runs = self.study.workspace.runs
        found: dict[str, list[str]] = {}
        for name in run_ids(runs):
            mark = read_mark(RunFolder(runs / name))
            if mark is not None and mark.get("content"):
                found.setdefault(mark["content"], []).append(name)
        return found

    def start(self, job: Job, model: str | None = None, *, halved_from: RunFolder | None = None) -> RunFolder:
        """As `make`, and a run that is new is started here."""
        made = self.make(job, model, halved_from=halved_from)
        if made.new:
            launch.start(self.study.workspace, made.run, made.variables)
        return made.run

    def make(self, job: Job, model: str | None = None, *, halved_from: RunFolder | None = None) -> Made:
        """The run that does a job from now on, not started; one that does the same already is taken over.

        Args:
            job: a training, or an evaluation of `model`.
            model: `run:ID` of the training; None for a training or a baseline.
            halved_from: the run that ran out of memory, where this is its second try.

        Raises:
            RequestError, SetupError: as resolving and starting a run do.
        """
        if halved_from is not None:
            job = replace(job, mapping=with_half_batch(job, halved_from.read_spec()))
        request = request_of(self.study, job, model)
        resolved = request.resolve(self.study.workspace, job.kind)
        content = content_of(self.study, resolved)
        what = "started" if halved_from is None else HALVED
        same = self._same(content)
        if same is not None:
            # one that carries this very job's mark is its own, orphaned when the journal could not be written any more
            own = (read_mark(same) or {}).get("asked") == job.asked
            self.journal.write(job, what if own or halved_from else "reused", same.id)
            return Made(same, False, resolved.variables)
        mark = {"study": self.study.name, "job": job.key, "asked": job.asked, "content": content}
        run = create(self.study.workspace, resolved.spec, marked(mark, request.as_given()))
        if job.stage == TRAIN:
            give_data(self.study, run)
        self._by_content.setdefault(content, []).insert(0, run.id)
        self.journal.write(job, what, run.id)
        return Made(run, True, resolved.variables)

    def _same(self, content: str) -> RunFolder | None:
        """A run of the same content that has succeeded or goes on; else one that was lost and can be resumed."""
        folders = [RunFolder(self.study.workspace.runs / name) for name in self._by_content.get(content, [])]
        states = [(run, run.status().state) for run in folders if run.spec.is_file()]
        for wanted in (("succeeded",), REUSABLE, ("lost",)):
            for run, state in states:
                if state in wanted:
                    return run
        return None

    def resume(self, run: RunFolder) -> None:
        """Go on with a run that was lost, failed or cancelled."""
        if run.latest() is None:  # its study was killed between making the folder and starting it
            launch.start(self.study.workspace, run, resume_variables(self.study.workspace, run))
        else:
            launch.resume(self.study.workspace, run, resume_variables(self.study.workspace, run))


def with_half_batch(job: Job, spec: dict[str, Any]) -> dict[str, Any]:
    """The mapping of a job with half as much on a device at once, and the same number of examples per step.

    Args:
        job: whose run ran out of memory.
        spec: the run's resolved spec.

    Raises:
        RunError: there is nothing to halve.
    """
    if job.stage != TRAIN:
        return {**job.mapping, "batch_size": _half(spec.get("batch_size"))}
    engine = spec.get("engine", {})
    per_device = engine.get(PER_DEVICE) or 8  # transformers' own default
    per_step = per_device * (engine.get(ACCUMULATION) or 1)
    smaller = max((n for n in range(1, per_device // 2 + 1) if per_step % n == 0), default=0)
    if not smaller:
        raise RunError("out of memory with one example per device: there is nothing to halve")
    halved = {**job.mapping.get("engine", {}), PER_DEVICE: smaller, ACCUMULATION: per_step // smaller}
    return {**job.mapping, "engine": halved}


def _half(size: Any) -> int:
    if not isinstance(size, int) or size < 2:
        raise RunError("out of memory with one document at a time: there is nothing to halve")
    return size // 2


def is_of(run: RunFolder, model: str | None) -> bool:
    """Whether a run is there and, where `run:ID` is given, evaluates the model of that training."""
    if not run.spec.is_file():
        return False
    return model is None or f"run:{run.read_spec()['model'].get('run')}" == model
