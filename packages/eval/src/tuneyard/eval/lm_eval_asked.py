"""From the tasks of a spec to lm-eval's task objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import write_atomically
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import EvalSpec, TaskRef
from tuneyard.eval import arithmetic, gsm8k
from tuneyard.eval import lm_eval_arguments as arguments
from tuneyard.eval import lm_eval_tasks as library
from tuneyard.eval.model import Source

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager


@dataclass
class Asked:
    """What is asked: lm-eval's tasks with their manager."""

    source: Source | None
    manager: TaskManager
    tasks: list[Task | Group] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    """The tasks as lm-eval's command takes them: names and task files."""
    notes: list[str] = field(default_factory=list)

    def command_file(self, spec: EvalSpec, chat: bool, device: str) -> str:
        """The text of a file for `lm_eval run --config`."""
        assert self.source is not None
        _, _, for_manager = arguments.parts(spec.engine)
        model = arguments.of_model(spec, self.source, device)
        return arguments.command_file(model, arguments.of_evaluate(spec, chat), for_manager, self.named)


def tasks_of(spec: EvalSpec, source: Source | None, trained: RunFolder | None, folder: Path) -> Asked:
    """Load every task of a spec.

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
    asked = Asked(source, library.task_manager(told))
    include = for_manager.get("include_path")
    if include:
        library.register(asked.manager, Path(include))
    for task in spec.tasks:
        _add(asked, task, spec, trained, folder)
    _refuse_twice(asked)
    return asked


def _add(asked: Asked, task: TaskRef, spec: EvalSpec, trained: RunFolder | None, folder: Path) -> None:
    if task.path is None and task.task == "arithmetic":
        given, notes = arithmetic.arguments_of(task.arguments, trained)
        asked.notes += notes
        _load(asked, str(_written(folder / "arithmetic.yaml", arithmetic.task_file(given))), task.task)
    elif task.arguments:
        way_out = "lm-eval's tasks take none; settings of a task stand in its file"
        raise RequestError(f"the task {task.task!r} takes no arguments", where="tasks", way_out=way_out)
    elif task.path is not None:
        _add_path(asked, Path(task.path), task.task)
    else:
        _add_named(asked, task.task, spec.data, folder)


def _add_path(asked: Asked, path: Path, name: str) -> None:
    if path.is_dir():
        names = library.names_in(path)
        library.register(asked.manager, path)
        for each in names:
            _load(asked, each, f"{path}: {each}")
    elif path.is_file():
        config = library.read_config(path)
        if isinstance(config.get("task"), list) or "group" in config:
            library.register(asked.manager, path.parent)
        _load(asked, str(path), str(path))
    else:
        raise RequestError("no such task file or folder", where=str(path))


def _add_named(asked: Asked, name: str, data: str | None, folder: Path) -> None:
    if name in asked.manager.task_index:
        return _load(asked, name, name)
    for entry in library.find(name):
        config = library.read_config(entry.path) if entry.path else {}
        if entry.path is None or entry.kind == "GROUP":
            library.register(asked.manager)
            _load(asked, entry.name, entry.name)
        elif gsm8k.is_gsm8k(config):
            _add_gsm8k(asked, entry, data, folder)
        else:
            _load(asked, str(entry.path), entry.name)


def _add_gsm8k(asked: Asked, entry: library.Entry, data: str | None, folder: Path) -> None:
    assert entry.path is not None
    if data is not None:
        file = _written(folder / f"{entry.name}.yaml", gsm8k.task_file(entry.path, Path(data)))
        return _load(asked, str(file), entry.name)
    try:
        _load(asked, str(entry.path), entry.name)
    except SetupError as error:
        raise gsm8k.not_reachable(error) from error


def _written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text)
    return file


def _load(asked: Asked, named: str, where: str) -> None:
    asked.tasks += library.load(asked.manager, named, where)
    asked.named.append(named)


def _refuse_twice(asked: Asked) -> None:
    seen: set[str] = set()
    for name in (name for item in asked.tasks for name in _names(item)):
        if name in seen:
            raise RequestError(f"the task {name!r} is asked for twice", where="tasks")
        seen.add(name)


def _names(item: Any) -> list[str]:
    return [t.task_name for t in item.get_all_tasks()] if hasattr(item, "get_all_tasks") else [item.task_name]
