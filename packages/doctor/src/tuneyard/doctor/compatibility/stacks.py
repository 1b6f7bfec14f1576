"""From what a person names to a stack: a requirement, a file, a pasted command, an environment."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError, unknown
from tuneyard.doctor.compatibility.declared import PythonFloor, Stack, declare
from tuneyard.doctor.compatibility.install_command import read_install_command
from tuneyard.doctor.compatibility.installed import no_environment, prefix_of, read_environment
from tuneyard.doctor.compatibility.requirement_files import (
    add_requirement,
    python_floor,
    read_pylock,
    read_pyproject,
    read_requirements,
)
from tuneyard.doctor.compatibility.uv import load_launcher

ON_THE_COMMAND_LINE = "the request"
"""Where a requirement stands that was typed."""


def read_stack(text: str, workspace: Workspace | None, folder: Path, target: str) -> Stack:
    """The stack that an argument names.

    Args:
        text: `llamafactory==0.9.3`, several requirements with spaces between, a file, an environment, its interpreter,
            a pasted `pip install …`, or the name of an environment of the workspace.
        workspace: whose environments count as names.
        folder: relative paths are relative to it.
        target: the Python for which markers are decided.

    Raises:
        RequestError: it is none of these, or what it names is broken.
    """
    command = read_install_command(text)
    if command:
        return _pasted(text, folder, target)
    path, extras = _path_and_extras(text, folder)
    if workspace and text in environment_names(workspace):
        return environment_stack(workspace, text, target)
    if path.exists():
        return _from_path(path, extras, text, target)
    if "/" in text.partition("@")[0] or re.search(r"\.(txt|in|toml|whl|lock)$", text):
        raise RequestError("there is no such file", where=str(path), way_out="correct the path")
    return _from_requirements(text, target)


def _pasted(text: str, folder: Path, target: str) -> Stack:
    command = read_install_command(text)
    assert command is not None
    stack = Stack(text, target)
    if not command.meant and not command.files:
        raise RequestError("names nothing to install", where=text)
    for requirement in command.meant:
        add_requirement(requirement, "the command", folder, stack)
    for file in command.files:
        read_requirements(folder / file, stack)
    if command.misread:
        stack.notes.append(f"{text}: {command.explain()}; write {command.quoted()}")
    return stack


def _path_and_extras(text: str, folder: Path) -> tuple[Path, list[str]]:
    found = re.fullmatch(r"(.*)\[([\w,. -]*)\]", text)
    if found and (folder / Path(found[1]).expanduser()).exists():
        return folder / Path(found[1]).expanduser(), [extra.strip() for extra in found[2].split(",")]
    return folder / Path(text).expanduser(), []


def _from_path(path: Path, extras: list[str], text: str, target: str) -> Stack:
    stack = Stack(text, target)
    prefix = prefix_of(path)
    if prefix:
        read_environment(prefix, stack)
    elif path.is_dir() and (path / "pyproject.toml").is_file():
        read_pyproject(path / "pyproject.toml", stack, extras=extras)
    elif path.name == "pyproject.toml":
        read_pyproject(path, stack, extras=extras)
    elif path.suffix in (".toml", ".lock"):
        read_pylock(path, stack)
    elif path.suffix == ".whl":
        add_requirement(str(path), text, path.parent, stack)
    elif path.suffix in (".txt", ".in"):
        read_requirements(path, stack)
    else:
        raise no_environment(path)
    if not stack.declared:
        stack.notes.append(f"{text} asks for nothing")
    return stack


def _from_requirements(text: str, target: str) -> Stack:
    stack = Stack(text, target)
    try:
        Requirement(text)
        parts = [text]
    except InvalidRequirement:
        parts = text.split()
    for part in parts:
        add_requirement(part, ON_THE_COMMAND_LINE, Path(), stack)
    return stack


def environment_names(workspace: Workspace) -> list[str]:
    """The environments of a workspace's manifest; empty where there is none that its launcher reads."""
    launcher = load_launcher(workspace.path)
    return list(_manifest(launcher, workspace)["environments"]) if launcher else []


def environment_stack(workspace: Workspace, name: str, target: str) -> Stack:
    """What the manifest and the packages of one environment of the workspace ask for.

    An interpreter that tuneyard.yaml names for it is read instead: then that is what runs.

    Raises:
        RequestError: there is no such environment.
        SetupError: the manifest, or a pyproject in it, is broken.
    """
    launcher = load_launcher(workspace.path)
    if launcher is None:
        raise SetupError("there is no ./pixiw beside pixi.toml", where=str(workspace.path))
    manifest = _manifest(launcher, workspace)
    if name not in manifest["environments"]:
        raise unknown("environment", name, manifest["environments"])
    interpreter = launcher.named_interpreter(str(workspace.path), name)
    if interpreter:
        stack = Stack(name, target)
        read_environment(Path(interpreter).parent.parent, stack)
        return stack
    stack = _declared_by_manifest(launcher, workspace, manifest, name)
    if not _is_built(workspace, name):
        stack.notes.append(
            f"{name} is not built (./pixiw install -e {name}); what it declares is compared all the same"
        )
    return stack


def _declared_by_manifest(launcher: ModuleType, workspace: Workspace, manifest: dict[str, Any], name: str) -> Stack:
    try:
        platform = launcher.platform(manifest)
    except launcher.SetupError:
        platform = ""  # none of the manifest's platforms: what counts everywhere is compared
    env = launcher.Environment(name, str(workspace.path), manifest, platform)
    stack = Stack(name, launcher.python_version(env))
    path = workspace.path / "pixi.toml"
    text = path.read_text(encoding="utf-8").splitlines()
    stack.floors.append(python_floor(f"=={stack.target}.*", _line_of(text, "python =")))
    left_out = launcher.LEFT_OUT.get(platform, ())
    for wanted, spec in sorted(launcher.dependencies(env).items()):
        if "path" in spec:
            _add_package(workspace, spec["path"], stack)
        elif wanted in left_out:
            stack.notes.append(f"{wanted} is left out on {platform}")
        else:
            extras = f"[{','.join(spec['extras'])}]" if spec.get("extras") else ""
            version = spec["version"].removeprefix("*")
            stack.roots.append(declare(f"{wanted}{extras}{version}", _line_of(text, f"{wanted} =")))
    _shorten(stack, workspace.path)
    return stack


def _add_package(workspace: Workspace, folder: str, stack: Stack) -> None:
    path = workspace.path / folder / "pyproject.toml"
    name = f"tuneyard-{Path(folder).name}"
    if name not in stack.local:
        stack.local.add(name)
        try:
            read_pyproject(path, stack)
        except RequestError as error:
            raise SetupError(error.message, where=error.where, way_out=error.way_out) from error


def _shorten(stack: Stack, root: Path) -> None:
    """Places inside the workspace as people write them."""
    base = f"{root}/"
    unique = {(d.text, d.where): d for d in stack.roots if d.name not in stack.local}
    stack.roots = [declare(d.text, d.where.removeprefix(base), extra=d.extra) for d in unique.values()]
    stack.floors = [PythonFloor(f.versions, f.where.removeprefix(base)) for f in dict.fromkeys(stack.floors)]


def _line_of(lines: list[str], text: str) -> str:
    number = next((n for n, line in enumerate(lines, 1) if line.startswith(text)), None)
    return f"pixi.toml:{number}" if number else "pixi.toml"


def _manifest(launcher: ModuleType, workspace: Workspace) -> dict[str, Any]:
    try:
        return launcher.load_manifest(str(workspace.path))
    except launcher.SetupError as error:
        raise SetupError(str(error)) from error


def _is_built(workspace: Workspace, name: str) -> bool:
    places = (workspace.path / ".pixi" / kind / name / "bin" / "python" for kind in ("envs", "uv"))
    return any(place.exists() for place in places)
