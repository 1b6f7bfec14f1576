"""The jobs of a study: trainings and evaluations, as specs of runs, with a hash of all that decides a result.

A job's key is `003/train`, `003/lm-eval`, `003/inspect`, `baseline/inspect` or, where the base model is varied,
`baseline-1/inspect`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.control.environments import engine_schema
from tuneyard.control.resolving.anchors import existing
from tuneyard.control.resolving.hub import hub_of
from tuneyard.control.resolving.models import resolve_model, stage_of
from tuneyard.control.resolving.request import Request
from tuneyard.control.resolving.resolve import Resolved
from tuneyard.control.resolving.tasks import is_inspect
from tuneyard.core.kinds import environment_of
from tuneyard.core.references import ModelRef, kind_of
from tuneyard.core.specs import TaskRef
from tuneyard.study.experiment import EvaluationPlan, Task
from tuneyard.study.study import Point, Study, digest

TRAIN = "train"
_WITHOUT_EFFECT = ("name", "cancel_grace", "time_limit")
"""Fields of a spec that no result depends on."""

_FIELDS = (
    *("limit", "num_fewshot", "apply_chat_template", "batch_size", "data", "dtype", "time_limit", "engine"),
    "allow_token_mismatch",
)
"""Fields of an evaluation plan that are fields of an evaluation's spec too."""


@dataclass(frozen=True)
class Job:
    """One thing to do."""

    owner: str
    """Number of the run, `003`, or `baseline`."""
    stage: str
    """`train`, `lm-eval` or `inspect`."""
    asked: str
    """Hash of what is asked for, before it is resolved: a changed experiment makes another job of it."""
    mapping: dict[str, Any]
    """The spec, not resolved. Of an evaluation of a trained model: without the model."""
    point: Point | None = None
    """The run it belongs to; None for a baseline."""

    @property
    def key(self) -> str:
        return f"{self.owner}/{self.stage}"

    @property
    def kind(self) -> str:
        return TRAIN if self.stage == TRAIN else "eval"


def training(study: Study, point: Point) -> Job:
    """The training of a run."""
    mapping = study.mapping(point)
    return Job(point.id, TRAIN, digest(mapping), mapping, point)


def evaluations(study: Study, point: Point, train: Job) -> list[Job]:
    """The evaluations of a run, one for each library; empty where nothing is evaluated."""
    specs = evaluation_specs(study)
    return [Job(point.id, stage, digest([train.asked, spec]), spec, point) for stage, spec in specs.items()]


def baselines(study: Study) -> Iterator[Job]:
    """The evaluations of the models that trainings start from, each model once."""
    plan = study.experiment.evaluation
    if plan is None or not plan.enabled or not plan.baseline:
        return
    for number, start in enumerate(starting_models(study)):
        for stage, spec in evaluation_specs(study).items():
            chat = _chat_of_baseline(study, spec, start)
            mapping = {**spec, **chat, **start, "name": f"{study.slug[:15].rstrip('-')}-baseline"}
            yield Job(baseline_name(number), stage, digest(mapping), mapping)


def _chat_of_baseline(study: Study, spec: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    """The chat template for a model that was not trained here, where nobody said.

    Its trained descendants are asked through the template that they were trained with, so it must be too, where it has
    one; else another prompt is measured, and not the training.
    """
    if "apply_chat_template" in spec or stage_of(study.base) == "pt":
        return {}
    reference = ModelRef.model_validate(start["model"])
    if kind_of(reference.reference) == "hub":
        return {}
    model = resolve_model(reference, study.workspace.runs, hub_of(study.workspace))
    return {"apply_chat_template": True} if model.path and _has_chat_template(Path(model.path)) else {}


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return b'"chat_template"' in (folder / "tokenizer_config.json").read_bytes()
    except OSError:
        return False


def baseline_name(number: int) -> str:
    """Owner of the evaluations of the n-th starting model."""
    return "baseline" if number == 0 else f"baseline-{number}"


def starting_models(study: Study) -> list[dict[str, Any]]:
    """The different models (with adapters) that trainings of the study start from, in order."""
    varied = [key for key in study.design.keys if study.fields[key].partition(".")[0] in ("model", "adapter")]
    if not varied:
        return [starting_model(study.base)]
    found: dict[str, dict[str, Any]] = {}
    for point in study.points():
        start = starting_model(study.mapping(point))
        found.setdefault(digest(start), start)
    return list(found.values())


def starting_model(mapping: dict[str, Any]) -> dict[str, Any]:
    """Model and adapter of a training, as an evaluation takes them."""
    return {key: mapping[key] for key in ("model", "adapter") if mapping.get(key) is not None}


def evaluation_specs(study: Study) -> dict[str, dict[str, Any]]:
    """Stage -> the spec of an evaluation without its model; empty where nothing is evaluated."""
    plan = study.experiment.evaluation
    if plan is None or not plan.enabled:
        return {}
    tasks: dict[str, list[dict[str, Any]]] = {}
    for task in plan.tasks:
        reference = task_reference(study, task)
        stage = "inspect" if is_inspect(TaskRef(task=reference["task"])) else "lm-eval"
        tasks.setdefault(stage, []).append(reference)
    return {stage: _spec(study, plan, found, stage) for stage, found in tasks.items()}


def _spec(study: Study, plan: EvaluationPlan, tasks: list[dict[str, Any]], stage: str) -> dict[str, Any]:
    given = {name: getattr(plan, name) for name in _FIELDS}
    if stage == "inspect":
        given |= {"num_fewshot": None, "data": None}  # for lm-eval alone
    spec = {name: value for name, value in given.items() if value not in (None, {}, False)}
    return {"kind": "eval", "name": study.slug, **spec, "tasks": tasks}


def task_reference(study: Study, task: Task) -> dict[str, Any]:
    """A task with the paths of its file and of its data absolute."""
    file, at, name = task.task.partition("@")
    if not file.endswith((".py", ".yaml", ".yml")):
        found = existing(file, _task_folders(study)) if "/" in file else None
        return {"task": str(found) if found else task.task, "arguments": task.arguments}
    path = existing(file, _task_folders(study)) or _task_folders(study)[0] / file
    arguments = {key: _data_path(value, [path.parent, study.file.parent]) for key, value in task.arguments.items()}
    return {"task": f"{path}{at}{name}", "arguments": arguments}


def _task_folders(study: Study) -> list[Path]:
    plan = study.experiment.evaluation
    folders = [study.file.parent / plan.tasks_dir] if plan and plan.tasks_dir else []
    return [*folders, study.file.parent]


def _data_path(value: Any, folders: list[Path]) -> Any:
    """A text that names a file in one of the folders, as an absolute path; anything else as it is."""
    if not isinstance(value, str) or not value:
        return value
    found = existing(value, folders)
    return str(found) if found is not None and found.is_file() else value


def request_of(study: Study, job: Job, model: str | None = None) -> Request:
    """The request of a job.

    Args:
        study: whose job.
        job: to be run.
        model: what is evaluated, `run:ID`; None for a training or a baseline.
    """
    mapping = {**job.mapping, "model": model} if model else job.mapping
    return Request(mapping, study.file.parent, f"{study.file}: {job.key}")


def content_of(study: Study, resolved: Resolved) -> str:
    """A hash of all that decides what a run gives: the resolved spec, the files it names, the libraries' versions.

    Files are told apart by size and time of change: a copy counts as another file, and is then run once more.
    """
    spec = {k: v for k, v in resolved.spec.model_dump(mode="json").items() if k not in _WITHOUT_EFFECT}
    versions = engine_schema(study.workspace, environment_of(spec))["versions"]
    return digest([spec, versions, sorted(file_signatures(spec))])


def file_signatures(value: Any) -> set[str]:
    """Size and time of change of every file that a value names by its absolute path, somewhere in it."""
    if isinstance(value, dict):
        return {found for entry in value.values() for found in file_signatures(entry)}
    if isinstance(value, list):
        return {found for entry in value for found in file_signatures(entry)}
    if isinstance(value, str) and value.startswith("/"):
        return set(_files(value))
    return set()


def _files(text: str) -> Iterator[str]:
    path = Path(text.partition("@")[0])
    if path.suffix == ".py" and path.is_file():  # what it imports or reads lies beside it, as a rule
        yield from (_signature(beside) for beside in path.parent.iterdir() if beside.is_file())
    elif path.is_file():
        yield _signature(path)
    elif path.is_dir():
        for folder, _, names in os.walk(path):
            yield from (_signature(Path(folder) / name) for name in names)


def _signature(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:  # gone, or a link to nowhere
        return str(path)
    return f"{path} {facts.st_size} {facts.st_mtime_ns}"
