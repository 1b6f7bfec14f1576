"""Tasks of an evaluation: files found, GSM8K's data, and what needs the hub."""

from __future__ import annotations

from pathlib import Path

from tuneyard.control.resolving.datasets import GSM8K, GSM8K_VARIABLE, gsm8k_folder
from tuneyard.control.resolving.hub import Hub
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.specs import EvalSpec, TaskRef


def resolve_tasks(spec: EvalSpec, hub: Hub) -> EvalSpec:
    """An evaluation with the paths of its tasks and of GSM8K's data filled in; relative ones are absolute already.

    Raises:
        RequestError: a task file is not there, tasks of two libraries, or a folder that is not GSM8K.
        SetupError: GSM8K is neither in a folder nor in the cache, and the hub cannot be reached.
    """
    tasks = [_with_path(task) for task in spec.tasks]
    _refuse_two_libraries(tasks)
    return spec.model_copy(update={"tasks": tasks, "data": _data(spec, hub)})


def _with_path(task: TaskRef) -> TaskRef:
    file = task.task.partition("@")[0] if ".py@" in task.task else task.task
    if not Path(file).is_absolute():
        return task.model_copy(update={"path": None})
    if not Path(file).exists():
        raise RequestError(f"no such task file or folder: {file}", where="tasks")
    if Path(file).is_dir() and not any(Path(file).rglob("*.yaml")):
        raise RequestError(f"the task folder has no task (*.yaml): {file}", where="tasks")
    return task.model_copy(update={"path": file})


def is_inspect(task: TaskRef) -> bool:
    """Whether a task is Inspect's: `file.py`, `file.py@task` or `inspect_evals/name`."""
    return task.task.partition("@")[0].endswith(".py") or task.task.startswith("inspect_evals/")


def _refuse_two_libraries(tasks: list[TaskRef]) -> None:
    kinds = {is_inspect(task): task.task for task in tasks}
    if len(kinds) == 2:
        raise RequestError(
            f"{kinds[False]!r} is a task of lm-eval and {kinds[True]!r} one of Inspect",
            where="tasks",
            way_out="evaluate them in two runs",
        )


def _is_gsm8k(task: TaskRef) -> bool:
    """Whether a task of lm-eval asks GSM8K's problems, under one of lm-eval's names for it."""
    return task.path is None and (task.task == "gsm8k" or task.task.startswith("gsm8k_"))


def _data(spec: EvalSpec, hub: Hub) -> str | None:
    if not any(_is_gsm8k(task) for task in spec.tasks):
        if spec.data is not None and not Path(spec.data).is_dir():
            raise RequestError(f"no such folder: {spec.data}", where="data")
        return spec.data
    folder = gsm8k_folder(spec.data, "data")
    if folder is None and not hub.reachable and hub.cached("datasets", GSM8K) is None:
        raise _no_gsm8k(hub)
    return str(folder) if folder else None


def _no_gsm8k(hub: Hub) -> SetupError:
    error = hub.unreachable(f"{GSM8K} is not in its cache ({hub.cache})", "tasks: gsm8k")
    files = f"data=DIR or {GSM8K_VARIABLE}=DIR with train.jsonl and test.jsonl"
    return SetupError(
        error.message,
        where=error.where,
        way_out=f"(1) name a folder: {files}; (2) fill the cache on a machine with network (`hf download --repo-type "
        f"dataset {GSM8K}`) and point HF_HOME to it; (3) set HF_ENDPOINT to a mirror that can be reached",
    )


def needs_hub(spec: EvalSpec) -> bool:
    """Whether a resolved evaluation's tasks may have to load something from the hub."""
    return any(task.task != "arithmetic" and not (_is_gsm8k(task) and spec.data is not None) for task in spec.tasks)
