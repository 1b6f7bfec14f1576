"""Task files of lm-eval that a person wrote: one, or a folder of them."""

from __future__ import annotations

import glob
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.errors import RequestError
from tuneyard.eval.task_errors import explained

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


@dataclass(frozen=True)
class Folder:
    """What the YAML files of a folder define."""

    names: dict[str, Path | None]
    """Groups, and the tasks that are in none of them -> the file of a task; None for a group."""
    needs_all: bool
    """Whether a group has members that are not in the folder."""


def read_folder(folder: Path) -> Folder:
    """The tasks that the YAML files of a folder define; a group stands for its members.

    Raises:
        RequestError: no YAML file, one that cannot be read, or none that defines a task.
    """
    from lm_eval.tasks._index import Kind, TaskIndex

    files = sorted(folder.glob("**/*.yaml"))
    if not files:
        raise RequestError("holds no task file (*.yaml)", where=str(folder))
    for file in files:
        read_config(file)
    found = TaskIndex.build([folder])
    groups = [name for name, entry in found.items() if entry.kind is Kind.GROUP]
    tasks = [name for name, entry in found.items() if entry.kind in (Kind.TASK, Kind.PY_TASK)]
    if not tasks and not groups:
        raise RequestError("no file in it names a task (`task: NAME`)", where=str(folder))
    members = {member for group in groups for member in _members(found[group].cfg or {})}
    files_of = {**dict.fromkeys(groups), **{task: found[task].yaml_path for task in tasks}}
    names = {name: file for name, file in files_of.items() if name not in members}
    return Folder(names, needs_all=not members <= set(found))


def _members(config: dict[str, Any]) -> set[str]:
    """The tasks and groups that a group names, those of groups written out inside it too."""
    found: set[str] = set()
    listed = config.get("task")
    for member in listed if isinstance(listed, list) else []:
        if isinstance(member, str):
            found.add(member)
        elif "group" in member:
            found |= _members(member) or {member["group"]}
        else:
            found.add(str(member.get("task")))
    return found


def read_config(file: Path) -> dict[str, Any]:
    """The configuration in a task file, with what it includes; its functions are named, not imported.

    Raises:
        RequestError: not YAML (with the line), not a mapping, or it includes what is not there.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    with explained(str(file)):
        return load_yaml(file, resolve_func=False)


def with_found_data(file: Path, config: dict[str, Any]) -> str | None:
    """The text of a task file that includes `file` and names its data absolutely; None where that changes nothing.

    lm-eval reads a relative name from wherever it is started. One that is not there, but beside the task file, is
    meant to be read from beside the task file.
    """
    settings = config.get("dataset_kwargs") or {}
    found = {key: _beside(settings[key], file.parent) for key in ("data_files", "data_dir") if key in settings}
    if all(settings[key] == value for key, value in found.items()):
        return None
    overrides = {"include": str(file), "dataset_kwargs": {**settings, **found}}
    return json.dumps(overrides, indent=2, ensure_ascii=False) + "\n"  # JSON is YAML, and quotes every path rightly


def _beside(named: Any, folder: Path) -> Any:
    if isinstance(named, dict):
        return {key: _beside(value, folder) for key, value in named.items()}
    if isinstance(named, list):
        return [_beside(value, folder) for value in named]
    there = isinstance(named, str) and not Path(named).exists() and (folder / named).exists()
    return glob.escape(str(folder / named)) if there else named


def register_folder(manager: TaskManager, folder: Path) -> None:
    """Tell the manager of the tasks in a folder; they win over those of the same name that it knows."""
    from lm_eval.tasks._index import TaskIndex

    manager.task_index.update(TaskIndex.build([folder]))
