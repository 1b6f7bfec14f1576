"""The workspace: the folder with pixi.toml, its settings, and where its runs are."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tuneyard.core.errors import SetupError

if TYPE_CHECKING:  # pydantic costs more than the whole of a light command
    from tuneyard.control.settings import Settings

WORKSPACE_VARIABLE = "TUNEYARD_WORKSPACE"
"""Names the workspace, wherever one stands."""

_RUNS_KEY = re.compile(rb"\bruns[\"']?\s*:")

MANIFEST = "pixi.toml"
SETTINGS = "tuneyard.yaml"


@dataclass(frozen=True)
class Workspace:
    """One workspace. Its settings are read when they are first asked for."""

    path: Path
    """Absolute folder of pixi.toml."""

    @property
    def settings_file(self) -> Path:
        return self.path / SETTINGS

    @cached_property
    def has_settings(self) -> bool:
        """Whether there is a tuneyard.yaml; without one nobody has to import what reads it."""
        return self.settings_file.exists()

    @cached_property
    def settings(self) -> Settings:
        """The settings; all defaults where there is no tuneyard.yaml.

        Raises:
            RequestError: the file is not valid YAML, or a key in it is unknown or wrong.
        """
        from tuneyard.control.settings import Settings
        from tuneyard.core.documents import read_yaml, validate

        if not self.has_settings:
            return Settings()
        return validate(Settings, read_yaml(self.settings_file) or {}, str(self.settings_file))

    @cached_property
    def runs(self) -> Path:
        """Absolute folder of the runs; it may not exist yet."""
        return self.resolve(self.settings.runs) if self._mentions_runs() else self.path / "runs"

    def _mentions_runs(self) -> bool:
        """Whether the settings may name another folder; where no such key stands, nobody has to import YAML."""
        return self.has_settings and _RUNS_KEY.search(self.settings_file.read_bytes()) is not None

    def resolve(self, path: str) -> Path:
        """A path of the settings as an absolute one: relative to the workspace, `~` expanded."""
        return Path(os.path.abspath(self.path / Path(path).expanduser()))


def find_workspace(start: Path | None = None) -> Workspace:
    """The workspace that a command works in.

    TUNEYARD_WORKSPACE names it; else it is the nearest folder with a pixi.toml from where the user stands upwards.

    Args:
        start: where to look from. Default: INIT_CWD (the folder in which a task was typed), else the current one.

    Raises:
        SetupError: there is none.
    """
    named = os.environ.get(WORKSPACE_VARIABLE)
    if named:
        return _named(Path(named))
    origin = Path(os.path.abspath(start or os.environ.get("INIT_CWD") or os.getcwd()))
    for folder in (origin, *origin.parents):
        if (folder / MANIFEST).is_file():
            return Workspace(folder)
    raise SetupError(
        f"no {MANIFEST} here or in any folder above",
        where=str(origin),
        way_out=f"change into the workspace, or set {WORKSPACE_VARIABLE} to it",
    )


def _named(path: Path) -> Workspace:
    if not path.is_dir():
        raise SetupError(
            f"{WORKSPACE_VARIABLE} names no folder",
            where=str(path),
            way_out=f"unset it, or name the folder of {MANIFEST}",
        )
    return Workspace(Path(os.path.abspath(path)))
