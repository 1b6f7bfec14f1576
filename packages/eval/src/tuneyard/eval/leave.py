"""What every evaluation leaves, whichever library scored: evaluation.json, and the names of its files in the result."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tuneyard.core.evaluation import EvaluatedTask, Evaluation
from tuneyard.core.files import write_json
from tuneyard.core.specs import EvalSpec
from tuneyard.core.worker import Job


def raw_folder(job: Job) -> Path:
    """artifacts/raw/N: what the library writes in this attempt."""
    folder = job.folder.raw / str(job.attempt.number)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def leave(job: Job, framework: Literal["lm-eval", "inspect"], tasks: list[EvaluatedTask], notes: list[str]) -> None:
    """Write evaluation.json and name what was left in the result."""
    version = job.versions.get("lm-eval" if framework == "lm-eval" else "inspect-ai", "?")
    evaluation = Evaluation(
        framework=framework, framework_version=version, model=_name(job.spec), tasks=tasks, notes=notes
    )
    write_json(job.folder.evaluation, evaluation.model_dump())
    job.artifact("samples", job.folder.samples)
    job.artifact("evaluation", job.folder.evaluation)
    job.artifact("raw", raw_folder(job))
    job.details["notes"] = notes


def _name(spec: EvalSpec) -> str:
    if spec.lm is not None:
        return f"{spec.lm.path}:{spec.lm.name}"
    if spec.model is None:
        return f"{spec.endpoint_model or 'the model'} at {spec.endpoint}"
    on_top = f" with adapter {spec.adapter.reference}" if spec.adapter else ""
    return spec.model.reference + on_top
