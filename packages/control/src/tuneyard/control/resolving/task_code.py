"""The user's files that the tasks of an evaluation are made of, with their hashes: found without being run.

Of Inspect the file itself; of lm-eval the YAML files, what they include, and the Python files of their functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tuneyard.core.files import sha256_of_file
from tuneyard.core.references import CodeFile
from tuneyard.core.specs import TaskRef


def code_of_tasks(tasks: Iterable[TaskRef]) -> list[CodeFile]:
    """Every file once. What is wrong in one, or names nothing that is there, is for the worker to say."""
    found: dict[Path, None] = {}
    for task in tasks:
        if task.path is not None:
            path = Path(task.path)
            for file in _task_files(path) if path.is_dir() else [path]:
                _collect(file, found)
    return [CodeFile(path=str(path), sha256=sha256_of_file(path)) for path in found]


def _task_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.yaml"))


def _collect(file: Path, found: dict[Path, None]) -> None:
    """Add a file and all that it leads to, by their real paths, as lm-eval looks for what lies beside it."""
    path = file.resolve()
    if path in found or not path.is_file():
        return
    found[path] = None
    if path.suffix != ".py":
        for named in _named_in(path):
            _collect(named, found)


def _named_in(file: Path) -> Iterator[Path]:
    """What a task file of lm-eval includes, the files of its functions, and those beside a group: its members."""
    functions: list[str] = []

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Notes the functions, and imports none."""

    Loader.add_constructor("!function", lambda _, node: functions.append(str(node.value)))
    try:
        config: Any = yaml.load(file.read_bytes(), Loader)
    except (yaml.YAMLError, ValueError):
        return
    for function in functions:  # `utils.process`
        yield file.parent / f"{function.rpartition('.')[0].replace('.', '/')}.py"
    if not isinstance(config, dict):
        return
    includes = config.get("include") or []
    yield from (file.parent / str(name) for name in (includes if isinstance(includes, list) else [includes]))
    if "group" in config:
        yield from _task_files(file.parent)
