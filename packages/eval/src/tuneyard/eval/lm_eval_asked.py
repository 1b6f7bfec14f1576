"""From the tasks of a spec to lm-eval's: first the name or file of each, then its objects with their datasets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import write_atomically
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import EvalSpec, TaskRef
from tuneyard.eval import arithmetic, gsm8k, task_files
from tuneyard.eval import lm_eval_arguments as arguments
from tuneyard.eval import lm_eval_tasks as library
from tuneyard.eval.model import Source

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager


@dataclass(frozen=True)
class Named:
    """One task as lm-eval takes it."""

    name: str
    """Its name, for messages."""
    file: Path | None = None
    """Its task file; None for a name that the manager must know."""
    text: str | None = None
    """Text of a task file that is made for this run; None for lm-eval's own or the user's."""
    folder: Path | None = None
    """Folder whose task files the manager must know, besides lm-eval's own."""
    needs_all: bool = False
    """Whether it is a group or tag, whose members may lie anywhere."""


@dataclass
class Asked:
    """What is asked: lm-eval's tasks with their manager."""

    manager: TaskManager
    tasks: list[Task | Group] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    """The tasks as lm-eval's command takes them: names and task files."""
    notes: list[str] = field(default_factory=list)


def named(spec: EvalSpec, trained: RunFolder | None, notes: list[str]) -> list[Named]:
    """Every task of a spec, found but not loaded.

    Args:
        spec: resolved.
        trained: the run that trained the model.
        notes: what a reader of the score must know is appended.

    Raises:
        RequestError: an unknown task, a file that cannot be read, or broken data.
    """
    _, _, for_manager = arguments.parts(spec.engine)
    include = Path(for_manager["include_path"]) if for_manager.get("include_path") else None
    return [found for task in spec.tasks for found in _named(task, spec, trained, include, notes)]


def _named(
    task: TaskRef, spec: EvalSpec, trained: RunFolder | None, include: Path | None, notes: list[str]
) -> list[Named]:
    if task.path is None and task.task == "arithmetic":
        given, said = arithmetic.arguments_of(task.arguments, trained)
        notes += said
        return [Named("arithmetic", text=arithmetic.task_file(given))]
    if task.arguments:
        way_out = "lm-eval's tasks take none; the settings of a task stand in its file"
        raise RequestError(f"the task {task.task!r} takes no arguments", where="tasks", way_out=way_out)
    if task.path is not None:
        return _of_path(Path(task.path))
    if include is not None and task.task in (within := task_files.read_folder(include)).names:
        file = within.names[task.task]
        return [_of_file(file) if file else Named(task.task, folder=include, needs_all=within.needs_all)]
    return [_of_entry(entry, spec.data) for entry in library.find(task.task)]


def _of_path(path: Path) -> list[Named]:
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise RequestError("no such task file or folder", where=str(path))
    config = task_files.read_config(path)
    if "group" in config:  # lm-eval loads a group by its name alone
        return [Named(config["group"], folder=path.parent, needs_all=task_files.read_folder(path.parent).needs_all)]
    if not isinstance(config.get("task"), str):
        raise RequestError("names no task (`task: NAME`)", where=str(path))
    return [_of_file(path)]


def _of_folder(path: Path) -> list[Named]:
    within = task_files.read_folder(path)
    return [
        _of_file(file) if file else Named(name, folder=path, needs_all=within.needs_all)
        for name, file in within.names.items()
    ]


def _of_file(path: Path) -> Named:
    config = task_files.read_config(path)
    text = task_files.with_found_data(path, config)
    return Named(config["task"], text=text) if text else Named(str(path), file=path)


def _of_entry(entry: library.Entry, data: str | None) -> Named:
    if entry.path is None or entry.kind == "GROUP":
        return Named(entry.name, needs_all=True)
    if data is not None and gsm8k.is_gsm8k(task_files.read_config(entry.path)):
        return Named(entry.name, text=gsm8k.task_file(entry.path, Path(data)))
    return Named(entry.name, file=entry.path)


def command_name(task: Named, folder: Path) -> str:
    """The task as lm-eval's command takes it; a file that is made for this run lies in `folder`."""
    if task.text is not None:
        return str(folder / f"{task.name}.yaml")
    return str(task.file) if task.file and not task.file.is_relative_to(library.tasks_folder()) else task.name


def load(spec: EvalSpec, source: Source | None, trained: RunFolder | None, folder: Path) -> Asked:
    """Every task of a spec, its dataset loaded.

    Args:
        spec: resolved.
        source: the model, whose arguments some tasks want to know; None for the user's own LM.
        trained: the run that trained the model.
        folder: where task files that are made for this run are written.

    Raises:
        RequestError: an unknown or broken task, or broken data.
        SetupError: a dataset is on the hub, and the hub cannot be reached.
    """
    _, _, for_manager = arguments.parts(spec.engine)
    told = {**(arguments.of_model(spec, source, None) if source else {}), **(for_manager.get("metadata") or {})}
    asked = Asked(library.task_manager(told))
    for task in named(spec, trained, asked.notes):
        if task.folder is not None:
            task_files.register_folder(asked.manager, task.folder)
        if task.needs_all:
            library.register_all(asked.manager)
        asked.tasks += _loaded(asked.manager, task, folder)
        asked.named.append(command_name(task, folder))
    _refuse_twice(asked)
    return asked


def _loaded(manager: TaskManager, task: Named, folder: Path) -> list[Task | Group]:
    file = task.file
    if task.text is not None:
        file = folder / f"{task.name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, task.text)
    try:
        return library.load(manager, str(file or task.name), task.name)
    except SetupError as error:
        raise gsm8k.not_reachable(error) if task.name == "gsm8k" else error from error


def _refuse_twice(asked: Asked) -> None:
    seen: set[str] = set()
    for name in (name for item in asked.tasks for name in _names(item)):
        if name in seen:
            raise RequestError(f"the task {name!r} is asked for twice", where="tasks")
        seen.add(name)


def _names(item: Any) -> list[str]:
    return [t.task_name for t in item.get_all_tasks()] if hasattr(item, "get_all_tasks") else [item.task_name]
