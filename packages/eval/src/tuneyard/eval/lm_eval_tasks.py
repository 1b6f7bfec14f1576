"""lm-eval's tasks by name, file or folder, without loading the fourteen thousand that it brings.

A task whose file can be told from its name (`gsm8k/gsm8k.yaml`) is read alone. For any other name the index of all of
them is made once per version of lm-eval (about ten seconds) and kept in the user's cache.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tuneyard.core.cache import cache_folder
from tuneyard.core.errors import RequestError, SetupError, TuneyardError, unknown
from tuneyard.core.files import write_atomically

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

OFFLINE = ("Couldn't reach", "OfflineModeIsEnabled", "Cannot reach", "outgoing traffic has been disabled")
"""What the messages of a dataset that is on the hub say when the hub is not to be had."""


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
    except (FileNotFoundError, ValueError):
        saved = {}
    if saved.get("stamp") != stamp:
        saved = {"stamp": stamp, "entries": _read_all(root)}
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


def register_folder(manager: TaskManager, folder: Path) -> None:
    """Tell the manager of the tasks in a folder; they win over those of the same name that it knows."""
    from lm_eval.tasks._index import TaskIndex

    manager.task_index.update(TaskIndex.build([folder]))


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


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Say of whatever lm-eval or datasets raise while a task is loaded what it means for the one who asked."""
    try:
        yield
    except TuneyardError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RequestError(f"not valid YAML: {error.problem}", where=where + line) from error
    except ImportError as error:
        way_out = f"./pixiw install -e eval, then `uv pip install {error.name}` there" if error.name else None
        raise SetupError(f"the task needs what is not installed: {error}", where=where, way_out=way_out) from error
    except Exception as error:  # a task is anybody's YAML, Jinja and Python: whatever it raises is told, with its type
        raise _explain(error, where) from error


def _explain(error: Exception, where: str) -> TuneyardError:
    text = str(error).strip() or repr(error)
    if any(sign in text for sign in OFFLINE):
        return SetupError(
            f"the dataset is on the hub, which cannot be reached, and not in its cache: {text.splitlines()[0]}",
            where=where,
            way_out="connect to the hub and run again; or `hf download --repo-type dataset` it where the hub can be "
            "reached and copy the cache (HF_HOME); or write a task file that includes this one and names local files "
            "(`dataset_path: json`, `dataset_kwargs: {data_files: {test: FILE}}`)",
        )
    if "Dataset scripts are no longer supported" in text:
        return RequestError(
            f"its dataset needs a loading script, which the installed `datasets` refuses: {text.splitlines()[0]}",
            where=where,
            way_out="write a task file that includes this one and names the data's files (`dataset_path: json`)",
        )
    return RequestError(f"the task cannot be loaded: {type(error).__name__}: {text}", where=where)
