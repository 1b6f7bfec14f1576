"""What the verb `check` answers: whether a file can be evaluated with, before a run is made and a GPU taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError
from tuneyard.core.references import CodeRef, load_code
from tuneyard.core.specs import TaskRef


def check(path: Path, name: str | None) -> dict[str, Any]:
    """Look at a task file of lm-eval (YAML), a folder of them, a task file of Inspect, or a function that makes an LM.

    Args:
        path: the file or folder.
        name: of a Python file: a task in it, or a function. None: every task.

    Raises:
        RequestError: it cannot be used, and why.
        SetupError: a task's dataset or a package that it imports cannot be had.
    """
    if not path.exists():
        raise RequestError("no such file or folder", where=str(path))
    if path.suffix == ".py":
        return _python(path, name)
    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        return _lm_eval(path)
    raise RequestError(
        "is no task: lm-eval's are .yaml files or folders of them, Inspect's are .py files", where=str(path)
    )


def _python(path: Path, name: str | None) -> dict[str, Any]:
    from tuneyard.eval import inspect_tasks

    if name is not None and not _defines_task(path, name):
        return _function(path, name)
    found = inspect_tasks.find(TaskRef(task=f"{path}@{name}" if name else str(path), path=str(path)))
    for task in found:  # imported as Inspect would, so that a missing package is told now
        load_code(CodeRef(path=str(path), name=_function_name(path, task.name)))
    return {"kind": "inspect", "tasks": [task.name for task in found], "parameters": inspect_tasks.tasks_in(path)}


def _defines_task(path: Path, name: str) -> bool:
    """Whether a name is one of the file's tasks; an unknown name in a file with tasks is meant as one."""
    from tuneyard.eval import inspect_tasks

    functions = inspect_tasks.functions_in(path)
    try:
        tasks = inspect_tasks.tasks_in(path)
    except RequestError:
        return False
    return name in tasks or name not in functions


def _function_name(path: Path, task: str) -> str:
    from tuneyard.eval import inspect_tasks

    return inspect_tasks.function_of(path, task)


def _function(path: Path, name: str) -> dict[str, Any]:
    import inspect

    function = load_code(CodeRef(path=str(path), name=name))
    if not callable(function):
        raise RequestError(f"{name!r} is not a function", where=str(path))
    return {"kind": "function", "name": name, "parameters": list(inspect.signature(function).parameters)}


def _lm_eval(path: Path) -> dict[str, Any]:
    from tuneyard.core.specs import EvalSpec
    from tuneyard.eval import lm_eval_asked

    spec = EvalSpec.model_validate({"tasks": [{"task": str(path), "path": str(path)}]})
    asked = lm_eval_asked.load(spec, None, None, path.parent)
    tasks = [task for item in asked.tasks for task in _leaves(item)]
    return {"kind": "lm-eval", "tasks": [_described(task) for task in tasks]}


def _leaves(item: Any) -> list[Any]:
    return item.get_all_tasks() if hasattr(item, "get_all_tasks") else [item]


def _described(task: Any) -> dict[str, Any]:
    document = task.eval_docs[0]
    return {
        "task": task.task_name,
        "documents": len(task.eval_docs),
        "output_type": task.OUTPUT_TYPE,
        "prompt": str(task.doc_to_text(document)),
        "target": str(task.doc_to_target(document)),
    }
