"""Requirements files, locks and pyproject files, read into requirements with the line each stands on."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from tuneyard.core.errors import RequestError, unknown
from tuneyard.doctor.compatibility.declared import Declared, PythonFloor, Stack, declare, without_credentials
from tuneyard.doctor.compatibility.distributions import Distribution, read_wheel
from tuneyard.doctor.compatibility.expand import add_floor, required

_INDEX_OPTIONS = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host")
_OTHER_OPTIONS = ("--pre", "--prefer-binary", "--no-binary", "--only-binary", "--require-hashes", "--use-feature")


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        RequestError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise RequestError("is not UTF-8 text", where=str(path), way_out="save it as UTF-8") from error


def read_requirements(path: Path, stack: Stack, *, constraints: bool = False, seen: tuple[Path, ...] = ()) -> None:
    """Add what a requirements file (`-r` and `-c` in it included) asks for to a stack.

    Raises:
        RequestError: a line that is no requirement, with its number; a file that includes itself.
    """
    if path.resolve() in seen:
        raise RequestError("includes itself", where=str(path), way_out="take one of the -r lines out")
    for number, line in _logical_lines(read_text(path)):
        where = f"{path}:{number}"
        option, _, value = line.partition(" ") if line.startswith("-") else ("", "", line)
        option, _, joined = option.partition("=")
        value = (joined or value).strip()
        if option in ("-r", "--requirement", "-c", "--constraint"):
            inner = path.parent / value
            is_bound = constraints or option in ("-c", "--constraint")
            read_requirements(inner, stack, constraints=is_bound, seen=(*seen, path.resolve()))
        elif option in _INDEX_OPTIONS:
            stack.notes.append(f"{where}: {option} is not used; your own index settings are")
        elif option in _OTHER_OPTIONS:
            stack.notes.append(f"{where}: {option} is not used")
        elif option and option not in ("-e", "--editable"):
            raise RequestError(f"unknown option {option}", where=where, way_out="write one requirement on each line")
        else:
            add_requirement(value, where, path.parent, stack, optional=constraints)


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines without comments and `--hash` options, continued ones joined, each with the number it begins at."""
    found: list[tuple[int, str]] = []
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        start = start or number
        pending += re.sub(r"(^|\s)#.*$", "", line)
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        whole = re.sub(r"\s--hash[=\s]\S+", "", pending).strip()
        found += [(start, whole)] if whole else []
        pending, start = "", 0
    return found


def add_requirement(text: str, where: str, folder: Path, stack: Stack, *, optional: bool = False) -> None:
    """One requirement, which may be a folder, a wheel or an address."""
    local, bracket, extras = text.partition("[")
    path = folder / local.removeprefix("file://")
    if _looks_like_path(text) or (text.endswith(".whl") and "://" not in text):
        _add_path(path, f"{bracket}{extras}", where, stack)
        return
    if "://" in text and " @ " not in text and not re.match(r"[\w.-]+(\[[^]]*\])?\s*@", text):
        shown = without_credentials(text)
        stack.notes.append(f"{where}: {shown} is an address without a name: nobody can say what it asks for")
        stack.complete = False
        return
    declared = declare(text, where, optional=optional)
    url = declared.requirement.url
    if url and url.startswith("file://"):
        _add_path(Path(url.removeprefix("file://")), "", where, stack)
        return
    if url:
        stack.notes.append(f"{where}: {declared.name} comes from an address, so its version is not known here")
        stack.complete = False
    stack.roots.append(declared)


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "/", "~", "file://")) or (text.endswith("/") and "://" not in text)


def _add_path(path: Path, extras: str, where: str, stack: Stack) -> None:
    path = path.expanduser()
    if path.suffix == ".whl":
        _add_wheel(path, extras, where, stack)
    elif (path / "pyproject.toml").is_file():
        read_pyproject(path / "pyproject.toml", stack, extras=_extras(extras))
    elif path.exists():
        stack.notes.append(f"{where}: {path} has no pyproject.toml, so what it needs is known only when it is built")
        stack.complete = False
    else:
        raise RequestError(f"there is no {path}", where=where, way_out="correct the path")


def _add_wheel(path: Path, extras: str, where: str, stack: Stack) -> None:
    try:
        parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise RequestError(f"{path.name} is no wheel's name", where=where) from error
    add_local(read_wheel(path), _extras(extras), where, stack)


def add_local(found: Distribution, extras: list[str], where: str, stack: Stack) -> None:
    """A distribution that lies on this disk: its version counts as declared, what it needs as asked for."""
    stack.local.add(found.name)
    stack.versions[found.name] = found.version
    stack.distributions.append(found)
    stack.inner.append(declare(f"{found.name}=={found.version}", where))
    add_floor(stack, found)
    stack.roots += required(found, extras, stack.target)


def _extras(text: str) -> list[str]:
    return [part.strip() for part in text.strip("[]").split(",") if part.strip()]


def read_pyproject(path: Path, stack: Stack, *, extras: list[str] | None = None) -> None:
    """Add what a pyproject.toml asks for.

    Args:
        path: the file.
        stack: what it is added to.
        extras: names of optional dependencies that are wanted too.

    Raises:
        RequestError: not TOML, no [project] table, dependencies that only a build knows, an extra that is not there.
    """
    content = read_text(path)
    project = _project(content, path)
    lines = content.splitlines()
    name = canonicalize_name(project.get("name", path.parent.name))
    stack.local.add(name)
    if "requires-python" in project:
        stack.floors.append(python_floor(project["requires-python"], _place(path, lines, "requires-python")))
    optional = project.get("optional-dependencies", {})
    queue: list[str | None] = [None, *(extras or [])]
    for extra in queue:  # grows while it is walked: an extra may ask for another one of the same project
        if extra is not None and extra not in optional:
            raise unknown("extra", extra, optional, where=str(path))
        for text in _strings(optional[extra] if extra else project.get("dependencies", []), path):
            declared = declare(text, _place(path, lines, text), extra=extra)
            if declared.name == name:
                queue += [e for e in sorted(declared.requirement.extras) if e not in queue]
            else:
                _add_wanted(declared, text, path, stack)


def _add_wanted(declared: Declared, text: str, path: Path, stack: Stack) -> None:
    sibling = _sibling(path, declared.name)
    if sibling is not None:  # a part of the same repository: the index does not have it
        if declared.name not in stack.local:
            read_pyproject(sibling, stack)
        return
    add_requirement(text, declared.where, path.parent, stack)


def _sibling(path: Path, name: str) -> Path | None:
    """The pyproject.toml of that name in a folder beside this one."""
    found = _projects_below(path.parent.parent).get(name)
    return None if found == path else found


@cache
def _projects_below(folder: Path) -> dict[str, Path]:
    """The projects in the folders of a folder, by name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*/pyproject.toml")):
        try:
            name = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # somebody else's file, and not the one that was asked about
        found.setdefault(canonicalize_name(str(name)), path)
    return found


def _project(text: str, path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"is no valid TOML: {error}", where=str(path), way_out="mend the file") from error
    project = document.get("project")
    if not isinstance(project, dict):
        other = " (Poetry's own table is not read)" if "poetry" in document.get("tool", {}) else ""
        raise RequestError(f"has no [project] table{other}", where=str(path), way_out="name a requirements file")
    if "dependencies" in project.get("dynamic", []):
        raise RequestError(
            "its dependencies are dynamic: only a build knows them",
            where=str(path),
            way_out="name the requirements file they come from, or an environment in which it is installed",
        )
    return project


def _strings(value: Any, path: Path) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RequestError("dependencies must be a list of strings", where=str(path))
    return value


def _place(path: Path, lines: list[str], text: str) -> str:
    quoted = (f'"{text}"', f"'{text}'")
    number = next((n for n, line in enumerate(lines, 1) if any(q in line for q in quoted)), None)
    number = number or next((n for n, line in enumerate(lines, 1) if text in line), None)
    return f"{path}:{number}" if number else str(path)


def python_floor(text: str, where: str) -> PythonFloor:
    """`requires-python`, checked."""
    try:
        return PythonFloor(SpecifierSet(text), where)
    except InvalidSpecifier as error:
        raise RequestError(f"{text!r} is no range of Python versions", where=where) from error


def read_pylock(path: Path, stack: Stack) -> None:
    """Add the versions of a pylock.toml (or of uv.lock, which names them alike)."""
    text = read_text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"is no valid TOML: {error}", where=str(path), way_out="make the lock anew") from error
    entries = document.get("packages", document.get("package", []))
    lines = text.splitlines()
    for entry in entries:
        if "version" in entry and not {"editable", "virtual"} & set(entry.get("source", {})):
            where = _place(path, lines, f'name = "{entry["name"]}"')
            stack.roots.append(declare(f"{entry['name']}=={entry['version']}", where))
