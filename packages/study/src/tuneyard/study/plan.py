"""What a study would do: how many runs, on what, for how long, on how much disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from tuneyard.core.files import size_of
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.execute import slots
from tuneyard.study.jobs import TRAIN, baselines, evaluation_specs
from tuneyard.study.journal import Journal
from tuneyard.study.study import Point, Study
from tuneyard.study.warnings import warnings_of

MEASURED_RUNS = 20
"""How many finished runs a rate is taken from."""


@dataclass(frozen=True)
class Rate:
    """What a run of one stage costs."""

    seconds: float
    given: bool
    """Whether the experiment says so; else the mean of runs that have finished."""
    runs: int = 0
    """How many were measured."""


@dataclass(frozen=True)
class Plan:
    """What a study would do."""

    name: str
    combinations: int
    seeds: int
    trainings: int
    evaluations: int
    gpus: int
    """Per training; 0 for a CPU slot."""
    slots: int
    """How many work at once on this machine."""
    train: Rate | None
    evaluate: Rate | None
    device_hours: float | None
    """Hours of GPUs (of CPU slots, where gpus is 0) for all that is to be run; None where no rate is known."""
    wall_hours: float | None
    """The same divided by the slots of this machine."""
    gigabytes: float | None
    """Disk of all runs."""
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_of(study: Study) -> Plan:
    """The plan of a study; what has been run already gives the rates where the experiment does not."""
    trainings = len(study)
    stages = len(evaluation_specs(study))
    evaluations = trainings * stages + len(list(baselines(study)))
    train, evaluate, bytes_ = _rates(study)
    gpus = _gpus(study)
    seconds = _total(((trainings, train), (evaluations, evaluate)))
    hours = None if seconds is None else seconds * max(1, gpus) / 3600
    at_once = slots(study)
    given = study.experiment.cost.run_gigabytes
    gigabytes = given if given is not None else (bytes_ / 1e9 if bytes_ else None)
    return Plan(
        name=study.name,
        combinations=len(study.design),
        seeds=max(1, len(study.experiment.seeds)),
        trainings=trainings,
        evaluations=evaluations,
        gpus=gpus,
        slots=at_once,
        train=train,
        evaluate=evaluate,
        device_hours=hours,
        wall_hours=None if seconds is None else seconds / at_once / 3600,
        gigabytes=None if gigabytes is None else gigabytes * trainings,
        warnings=warnings_of(study),
    )


def _gpus(study: Study) -> int:
    from tuneyard.control.devices import gpus

    wanted = study.base.get("gpus")
    if wanted == "all":
        return len(gpus())
    return wanted if isinstance(wanted, int) else min(1, len(gpus()))


def _total(parts: tuple[tuple[int, Rate | None], ...]) -> float | None:
    if any(count and rate is None for count, rate in parts):
        return None
    return sum(count * rate.seconds for count, rate in parts if rate is not None)


def _rates(study: Study) -> tuple[Rate | None, Rate | None, float | None]:
    """Rate of a training, of an evaluation, and bytes of a training, given or measured."""
    cost = study.experiment.cost
    seconds: dict[str, list[float]] = {"train": [], "eval": []}
    sizes: list[int] = []
    for run in islice(_finished(study), 2 * MEASURED_RUNS):
        result = _result(run)
        if result is None or len(seconds[run.kind]) >= MEASURED_RUNS:
            continue
        seconds[run.kind].append(result["seconds"])
        if run.kind == TRAIN:
            sizes.append(size_of(run.path))
    train = Rate(cost.train_time, True) if cost.train_time else _mean(seconds["train"])
    evaluate = Rate(cost.eval_time, True) if cost.eval_time else _mean(seconds["eval"])
    return train, evaluate, sum(sizes) / len(sizes) if sizes else None


def _finished(study: Study):
    for entry in Journal(study.folder.journal).entries().values():
        run = RunFolder(study.workspace.runs / str(entry.run))
        if entry.run and run.kind in ("train", "eval"):
            yield run


def _result(run: RunFolder) -> dict[str, Any] | None:
    latest = run.latest()
    result = latest.read_result() if latest else None
    return result if result and result["status"] == "succeeded" else None


def _mean(values: list[float]) -> Rate | None:
    return Rate(sum(values) / len(values), False, len(values)) if values else None


def matrix(study: Study, most: int) -> list[Point]:
    """The first runs of the study."""
    return list(islice(study.points(), most))
