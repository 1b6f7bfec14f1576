"""Which library scores a task, from its spelling alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tuneyard.core.errors import RequestError
from tuneyard.core.specs import EvalSpec, TaskRef

Framework = Literal["lm-eval", "inspect"]


def framework(task: TaskRef) -> Framework:
    """`inspect` for `file.py`, `file.py@task` and `inspect_evals/name`; `lm-eval` for everything else."""
    file = task.task.partition("@")[0]
    return "inspect" if file.endswith(".py") or file.startswith("inspect_evals/") else "lm-eval"


def framework_of(spec: EvalSpec) -> Framework:
    """The library of all tasks of a spec.

    Raises:
        RequestError: tasks of both libraries.
    """
    found: dict[Framework, str] = {framework(task): task.task for task in spec.tasks}
    if len(found) > 1:
        raise RequestError(
            f"{found['lm-eval']!r} is a task of lm-eval and {found['inspect']!r} one of Inspect",
            where="tasks",
            way_out="evaluate them in two runs; `yard compare` puts runs side by side",
        )
    return next(iter(found))


def file_of(task: TaskRef) -> tuple[Path | None, str | None]:
    """Path of a task's file or folder, and the name behind `@`; None for what is not there."""
    text, _, name = task.task.partition("@")
    return Path(task.path) if task.path else (Path(text) if text.endswith(".py") else None), name or None
