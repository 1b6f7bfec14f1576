"""A workspace of a benchmark's own, the command `yard` in it, and the environments of this checkout."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from measure import YARD

from tuneyard.control.endpoints import wait_until_ready
from tuneyard.control.environments import environment_prefix
from tuneyard.control.leases import LEASES_VARIABLE
from tuneyard.control.workspace import find_workspace
from tuneyard.core.run_folder import RunFolder

ROOT = Path(__file__).parents[1]


class Yard:
    """A workspace with its own leases: it waits for no run of somebody else's."""

    def __init__(self, folder: Path, environments: Sequence[str], **variables: str) -> None:
        """
        Args:
            folder: empty.
            environments: names of those that its runs work in.
            variables: of every command.
        """
        self.folder = folder
        here = find_workspace(ROOT)
        self.pythons = {name: str(environment_prefix(here, name) / "bin" / "python") for name in environments}
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "INIT_CWD")}
        own = {"TUNEYARD_WORKSPACE": str(folder), LEASES_VARIABLE: str(folder / "leases"), "HF_HUB_OFFLINE": "1"}
        self.variables = {**kept, **own, **variables}
        (folder / "pixi.toml").write_text("")
        settings = {"environments": {name: {"interpreter": python} for name, python in self.pythons.items()}}
        (folder / "tuneyard.yaml").write_text(yaml.safe_dump(settings))

    def __call__(self, *words: str, **variables: str) -> str:
        """What a command prints.

        Raises:
            RuntimeError: it failed.
        """
        command = [*YARD, *words]
        env = {**self.variables, **variables}
        done = subprocess.run(command, env=env, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"yard {' '.join(words)} exited with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
            )
        return done.stdout

    def run(self, kind: str, *settings: str) -> RunFolder:
        """A run of a kind that has succeeded."""
        told = json.loads(self("run", "--kind", kind, *settings, "--json").strip().splitlines()[-1])
        return RunFolder(Path(told["path"]))

    @contextmanager
    def server(self, *settings: str) -> Iterator[RunFolder]:
        """A run of kind serve that has answered its first request; it ends with the block."""
        started: dict[str, Any] = json.loads(self("run", "--kind", "serve", *settings, "--detach", "--json"))
        run = RunFolder(Path(started["path"]))
        try:
            wait_until_ready(run)
            yield run
        finally:
            self("serve", "stop", run.id)
