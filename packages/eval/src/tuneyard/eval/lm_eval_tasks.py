"""lm-eval's own tasks by name, without loading the fourteen thousand that it brings.

A task whose file can be told from its name (`gsm8k/gsm8k.yaml`) is read alone. For any other name the index of all of
them is made once per version of lm-eval (about ten seconds) and kept in the user's cache.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.cache import cache_folder
from tuneyard.core.errors import SetupError, unknown
from tuneyard.core.files import write_atomically
from tuneyard.eval.task_errors import explained

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager


@dataclass(frozen=True)
class Entry:
    """What is known of a name before anything is loaded."""

    name: str
    kind: str
    """TASK, PY_TASK, GROUP or TAG, as lm-eval calls them."""
    path: Path | None
    """The YAML file; None for a tag."""
    tags: tuple[str, ...]
    """Of a tag: the names of its tasks."""


def task_manager(metadata: dict[str, Any] | None = None) -> TaskManager:
    """lm-eval's task manager, knowing no task yet."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=False, metadata=metadata)


@cache
def tasks_folder() -> Path:
    """The folder of lm-eval's own tasks."""
    from importlib.util import find_spec

    package = find_spec("lm_eval")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "tasks"


def find(name: str) -> list[Entry]:
    """The tasks, groups and tags of lm-eval with this name; several for a pattern such as `mmlu_*`.

    Raises:
        RequestError: lm-eval has no such task; with the nearest that it has.
    """
    alone = tasks_folder() / name / f"{name}.yaml"
    if name.isidentifier() and alone.is_file() and _names_itself(alone, name):
        return [Entry(name, "TASK", alone, ())]
    known = index()
    if name in known:
        return [known[name]]
    matches = [entry for other, entry in known.items() if fnmatchcase(other, name)] if set(name) & set("*?[") else []
    if not matches:
        raise unknown("task of lm-eval", name, known, where="tasks")
    return matches


def _names_itself(file: Path, name: str) -> bool:
    return f"\ntask: {name}\n" in "\n" + file.read_text(encoding="utf-8")


@cache
def index() -> dict[str, Entry]:
    """Every task, group and tag that lm-eval brings, from the user's cache or, the first time, from its files."""
    from importlib.metadata import version

    folder = cache_folder()
    file = folder / f"lm-eval-{version('lm_eval')}-tasks.json"
    root = tasks_folder()
    stamp = [str(root), root.stat().st_mtime_ns]
    try:
        saved = json.loads(file.read_bytes())
    except (OSError, ValueError):
        saved = {}
    if not isinstance(saved, dict) or saved.get("stamp") != stamp:
        saved = {"stamp": stamp, "entries": _read_all(root)}
        with suppress(OSError, SetupError):  # a cache that cannot be written only costs time
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(saved))
    return {name: _entry(name, *row) for name, row in saved["entries"].items()}


def _read_all(root: Path) -> dict[str, list[Any]]:
    from lm_eval.tasks._index import TaskIndex

    return {
        name: [entry.kind.name, str(entry.yaml_path) if entry.yaml_path else None, sorted(entry.tags)]
        for name, entry in TaskIndex.build([root]).items()
    }


def _entry(name: str, kind: str, path: str | None, tags: list[str]) -> Entry:
    return Entry(name, kind, Path(path) if path else None, tuple(tags))


def register_all(manager: TaskManager) -> None:
    """Tell the manager of every task that lm-eval brings, as a group or tag of them needs; what it knows stays."""
    from lm_eval.tasks._index import Entry as LibraryEntry
    from lm_eval.tasks._index import Kind

    for entry in index().values():
        known = LibraryEntry(entry.name, Kind[entry.kind], entry.path, tags=set(entry.tags))
        manager.task_index.setdefault(entry.name, known)


def load(manager: TaskManager, asked: str | dict[str, Any], where: str) -> list[Task | Group]:
    """The tasks, or the group, that a name, file or configuration stands for, datasets and all.

    Raises:
        RequestError: the task cannot be built.
        SetupError: its dataset is on the hub and the hub cannot be reached, or a package is missing.
    """
    with explained(where):
        loaded = manager.load([asked])
    for task in loaded["tasks"].values():
        _refuse_unknown_metric(task, where)
    groups, map_ = loaded.get("groups", {}), loaded.get("group_map", {})
    members = set(chain.from_iterable(map_.values()))
    return [item for item in chain(groups.values(), loaded["tasks"].values()) if _name(item) not in members]


def _refuse_unknown_metric(task: Any, where: str) -> None:
    """lm-eval only logs an unknown metric, and fails when the first response is scored."""
    functions = getattr(task, "_metric_fn_list", {})
    if getattr(task.config, "process_results", None) is not None:
        return
    for name, function in functions.items():
        if function is None:
            from lm_eval.api.registry import METRIC_REGISTRY

            raise unknown("metric", name, METRIC_REGISTRY, where=where)


def _name(item: Any) -> str:
    return item.task_name if hasattr(item, "task_name") else item.name
