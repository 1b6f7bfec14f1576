"""A study as it is worked with: the experiment, the base that every run starts from, and the runs, one at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tuneyard.control.environments import engine_schema
from tuneyard.control.resolving.anchors import existing, standing_folder
from tuneyard.control.resolving.overrides import Override, apply, from_fields
from tuneyard.control.resolving.request import Request, read_request
from tuneyard.control.resolving.resolve import Resolved, to_mapping
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError, unknown
from tuneyard.core.specs import TrainSpec
from tuneyard.study.experiment import Experiment, read_experiment
from tuneyard.study.folder import StudyFolder
from tuneyard.study.variables import Design, Values, design_of

SEED = "seed"
_KEPT = frozenset({"kind", "schema_version", "name", "code"})
"""Fields of a training spec that no study varies."""


@dataclass(frozen=True)
class Point:
    """One run of a study: a combination with a seed."""

    number: int
    params: Values
    """Variable -> value as they were written, the seed last where there are seeds."""

    @property
    def id(self) -> str:
        """`003`."""
        return f"{self.number:03d}"

    @property
    def combination(self) -> Values:
        """The values without the seed."""
        return {key: value for key, value in self.params.items() if key != SEED}


@dataclass(frozen=True)
class Study:
    """An experiment that has been read."""

    experiment: Experiment
    file: Path
    """Absolute path of experiment.yaml."""
    workspace: Workspace
    design: Design
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.experiment.experiment.name

    @cached_property
    def folder(self) -> StudyFolder:
        return StudyFolder(self.file.parent, self.experiment.output)

    def __len__(self) -> int:
        return len(self.design) * max(1, len(self.experiment.seeds))

    def points(self) -> Iterator[Point]:
        """Every run in order, the seed varying fastest. Nothing is kept."""
        number = 0
        for values in self.design.combinations():
            for seed in self.experiment.seeds or (None,):
                yield Point(number, values if seed is None else {**values, SEED: seed})
                number += 1

    def point(self, number: int) -> Point:
        """One run by its number.

        Raises:
            RequestError: there are not so many.
        """
        if not 0 <= number < len(self):
            raise RequestError(f"there is no run {number}", where=str(self.file), way_out=f"0 to {len(self) - 1}")
        return next(point for point in self.points() if point.number == number)

    @cached_property
    def library_keys(self) -> dict[str, Any] | None:
        """The keys that LLaMA-Factory knows; None where its environment has not been built."""
        try:
            return engine_schema(self.workspace, "train")["keys"]
        except SetupError:
            return None

    @cached_property
    def fields(self) -> dict[str, str]:
        """Variable or control as it was written -> the field of the spec: `lora_rank` -> `engine.lora_rank`.

        Raises:
            RequestError: a name that is neither a field of a training spec nor a key of LLaMA-Factory.
        """
        names = (*self.design.keys, *self.experiment.controls)
        return {name: self._field(name) for name in names}

    def _field(self, name: str) -> str:
        first, dot, rest = name.partition(".")
        known = self.library_keys
        if first == "engine" and dot:
            if known is not None and rest not in known:
                raise unknown("key of LLaMA-Factory", rest, known, where=f"{self.file}: {name}")
            return name
        if first in TrainSpec.model_fields and first not in _KEPT:
            return name
        if known is None or name in known:
            return f"engine.{name}"
        fields = [f for f in TrainSpec.model_fields if f not in _KEPT]
        raise unknown("variable", name, [*fields, *known], where=str(self.file))

    @cached_property
    def base(self) -> dict[str, Any]:
        """The mapping of a training spec that every run starts from, controls applied, paths absolute.

        Raises:
            RequestError: the base is not there or no training.
        """
        request = self._base_request()
        mapping, notes = to_mapping(request.given, request.base, [], "train", request.where)
        self.notes.extend(notes)
        return apply(mapping, self._overrides(self.experiment.controls))

    def _base_request(self) -> Request:
        base = self.experiment.base
        if isinstance(base, dict):
            return Request(base, self.file.parent, f"{self.file}: base")
        return read_request(self.file.parent / base)

    def _overrides(self, values: Values) -> list[Override]:
        return from_fields({self.fields.get(name, name): value for name, value in values.items()}, self.file.parent)

    def mapping(self, point: Point) -> dict[str, Any]:
        """The spec of a run, as a person could have written it."""
        return {**apply(self.base, self._overrides(point.params)), "name": self.slug}

    @cached_property
    def slug(self) -> str:
        from tuneyard.core.run_folder import slug

        return slug(self.name)

    def resolve(self, point: Point) -> Resolved:
        """The training of a run with nothing left to decide; raises as `control.resolve` does."""
        return Request(self.mapping(point), self.file.parent, f"{self.file}: run {point.id}").resolve(
            self.workspace, "train"
        )

    def group_key(self, point: Point) -> str:
        """What the runs of one combination share, whatever their seed."""
        return json.dumps(point.combination, sort_keys=True, default=str)


def digest(value: Any) -> str:
    """A short hash of a value that JSON holds."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def open_study(path: str | Path, workspace: Workspace) -> Study:
    """The study in a file, read and checked for what can be said without the libraries.

    Args:
        path: experiment.yaml; a relative one is meant from the folder the user stands in.
        workspace: where its runs are made.

    Raises:
        RequestError: anything in it is wrong, or a key stands in both variables and controls.
    """
    file = existing(str(path), [standing_folder()]) or standing_folder() / path
    if file.is_dir():
        file = file / "experiment.yaml"
    experiment = read_experiment(file)
    study = Study(experiment, file, workspace, design_of(experiment.variables, str(file)), [*experiment.notes])
    _refuse_both(study)
    if SEED in study.design.keys and experiment.seeds:
        raise RequestError("seed is varied, and `seeds` is given too", where=str(file), way_out="leave one of them out")
    return study


def _refuse_both(study: Study) -> None:
    varied = {study.fields[key]: key for key in study.design.keys}
    for control in study.experiment.controls:
        if study.fields[control] in varied:
            raise RequestError(
                f"{control} stands in both variables and controls",
                where=str(study.file),
                way_out="a key is either varied or held fixed: remove it from one of them",
            )
