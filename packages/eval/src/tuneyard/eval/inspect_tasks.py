"""Inspect's tasks: those of a Python file, and those of inspect_evals, looked at before a model is loaded."""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError, SetupError, unknown
from tuneyard.core.specs import TaskRef
from tuneyard.eval.tasks import file_of

PACKAGE = "inspect_evals"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class InspectTask:
    """A task as `inspect_ai.eval` takes it."""

    spec: str
    """`/path/file.py@task` or `inspect_evals/name`."""
    name: str
    arguments: dict[str, Any]


def find(task: TaskRef) -> list[InspectTask]:
    """The tasks that a reference names: one, or all of a file.

    Raises:
        RequestError: no such file, task or argument; with those that there are.
        SetupError: inspect_evals is not installed.
    """
    if task.task.startswith(f"{PACKAGE}/"):
        return [_of_package(task.task, task.arguments)]
    path, name = file_of(task)
    assert path is not None
    there = tasks_in(path)
    chosen = [name] if name else list(there)
    if name and name not in there:
        raise _not_found(name, path, list(there))
    for each in chosen:
        _check_arguments(each, there[each], task.arguments, str(path))
    return [InspectTask(f"{path}@{each}", each, task.arguments) for each in chosen]


def tasks_in(path: Path) -> dict[str, list[str] | None]:
    """Name -> parameters of every `@task` function of a file; None for one that takes any. Nothing is imported.

    Raises:
        RequestError: no such file, not Python, or without a task.
    """
    found = {_task_name(f): _parameters(f) for f in functions_in(path).values() if _task_decorator(f) is not None}
    if not found:
        raise RequestError("defines no task (a function under `@task`)", where=str(path))
    return found


def functions_in(path: Path) -> dict[str, Function]:
    """The functions at the top of a Python file, parsed and not imported.

    Raises:
        RequestError: no such file, or not Python.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        raise RequestError("no such file", where=str(path)) from error
    except (SyntaxError, UnicodeDecodeError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise RequestError(f"is not Python: {error}", where=f"{path}{line}") from error
    return {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


def function_of(path: Path, task: str) -> str:
    """The function that defines a task of a file."""
    functions = functions_in(path)
    return next(name for name, f in functions.items() if _task_decorator(f) is not None and _task_name(f) == task)


def _task_decorator(function: Function) -> ast.expr | None:
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
        if name == "task":
            return decorator
    return None


def _task_name(function: Function) -> str:
    """The name in `@task(name="…")`, else the function's."""
    decorator = _task_decorator(function)
    for keyword in decorator.keywords if isinstance(decorator, ast.Call) else []:
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    return function.name


def _parameters(function: Function) -> list[str] | None:
    arguments = function.args
    if arguments.kwarg is not None:
        return None
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def _not_found(name: str, path: Path, there: list[str]) -> RequestError:
    return RequestError(
        f"Function {name!r} not found in {path}", where="tasks", way_out=f"the tasks there: {', '.join(sorted(there))}"
    )


def _check_arguments(name: str, known: list[str] | None, given: dict[str, Any], where: str) -> None:
    """Inspect itself only warns of an argument that a task does not have."""
    for argument in given:
        if known is not None and argument not in known:
            raise unknown(f"argument of the task {name!r}", argument, known, where=where)


@cache
def names_in_package() -> list[str]:
    """The tasks that inspect_evals registers, read from its registry without importing it.

    Raises:
        SetupError: inspect_evals is not installed.
    """
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise SetupError("inspect_evals is not installed", way_out="./pixiw install -e eval")
    tree = ast.parse((Path(package.origin).parent / "_registry.py").read_text(encoding="utf-8"))
    imports = [statement for statement in tree.body if isinstance(statement, ast.ImportFrom)]
    return sorted(alias.asname or alias.name for statement in imports for alias in statement.names)


def _of_package(spec: str, arguments: dict[str, Any]) -> InspectTask:
    name = spec.removeprefix(f"{PACKAGE}/")
    if name not in names_in_package():
        raise unknown("task of inspect_evals", name, names_in_package(), where="tasks")
    function = getattr(importlib.import_module(f"{PACKAGE}._registry"), name)
    parameters = inspect.signature(function).parameters
    any_ = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    _check_arguments(name, None if any_ else list(parameters), arguments, spec)
    return InspectTask(spec, name, arguments)
