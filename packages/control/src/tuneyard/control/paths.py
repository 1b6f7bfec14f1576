"""Which paths an agent may name: in the workspace and its runs, what tuneyard.yaml allows, built-in models."""

from __future__ import annotations

import os
from pathlib import Path

from tuneyard.control.workspace import Workspace
from tuneyard.core.cache import cache_folder
from tuneyard.core.errors import RequestError


def inside(workspace: Workspace, text: str) -> Path:
    """The path that `text` names, relative to the workspace, links followed as the system would follow them.

    Args:
        workspace: whose folder, runs and `allowed_paths` are open.
        text: absolute, or relative to the workspace; `~` is the home folder. It need not exist.

    Raises:
        RequestError: it lies, or a link leads, elsewhere; or it is no path at all.
    """
    if not text or "\0" in text:
        raise RequestError(f"{text!r} is not a path")
    path = workspace.path / os.path.expanduser(text)
    # `..` behind a link is taken as the system takes it: from where the link leads
    try:
        real = Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise RequestError(f"is not a path: {error}", where=_short(text)) from error
    if any(real.is_relative_to(folder) for folder in _open_folders(workspace)) or _is_builtin(real):
        return real
    raise RequestError(
        "lies outside the workspace" if str(real) == str(path) else f"leads outside the workspace, to {real}",
        where=_short(text),
        way_out=f"use a path inside {workspace.path}, or add its folder to allowed_paths in tuneyard.yaml",
    )


def _open_folders(workspace: Workspace) -> list[Path]:
    allowed = [workspace.resolve(p) for p in workspace.settings.allowed_paths] if workspace.has_settings else []
    return [Path(os.path.realpath(folder)) for folder in (workspace.path, workspace.runs, *allowed)]


def _is_builtin(path: Path) -> bool:
    return path.is_relative_to(os.path.realpath(cache_folder() / "models"))


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."
