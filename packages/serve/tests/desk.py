"""A workspace with two adapters that `train` made, and servers started in it as a person starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tuneyard.control.environments import environment_prefix
from tuneyard.control.leases import LEASES_VARIABLE
from tuneyard.control.servers import Served
from tuneyard.control.workspace import find_workspace
from tuneyard.core.files import read_json_lines
from tuneyard.core.processes import processes_of
from tuneyard.core.run_folder import RunFolder, find_run

ROOT = Path(__file__).parents[3]
READY_SECONDS = 480.0

LORA = {
    "kind": "train",
    "model": "builtin:tiny",
    "dataset": {"source": "builtin:arithmetic", "size": 200, "digits": 1},
    "engine": {
        "stage": "sft",
        "finetuning_type": "lora",
        "lora_target": "all",
        "max_steps": 20,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
        "cutoff_len": 64,
    },
}


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Desk:
    """A workspace whose workers run in the environments that this checkout has built."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> Desk:
        here = find_workspace(ROOT)
        names = ("train", "eval", "serve")
        interpreters = {n: {"interpreter": str(environment_prefix(here, n) / "bin" / "python")} for n in names}
        (path / "pixi.toml").write_text("")
        (path / "tuneyard.yaml").write_text(yaml.safe_dump({"environments": interpreters}))
        return cls(path)

    def yard(self, *words: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """The command, run in the workspace; TUNEYARD_API_KEY is this process's own unless `env` says otherwise."""
        # leases of its own: a server holds its CPU slot as long as it runs, and two of them run here at times
        own = {"TUNEYARD_WORKSPACE": str(self.path), LEASES_VARIABLE: tempfile.mkdtemp(dir=self.path)}
        variables = {**os.environ, **own, "HF_HUB_OFFLINE": "1", **(env or {})}
        program = [sys.executable, "-m", "tuneyard.control.cli", *map(str, words)]
        done = subprocess.run(program, cwd=self.path, env=variables, capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def train(self, name: str, **changes: Any) -> str:
        """Id of a training that succeeded."""
        engine = {**LORA["engine"], **changes}
        spec = self.path / f"{name}.yaml"
        spec.write_text(yaml.safe_dump({**LORA, "name": name, "engine": engine}))
        done = self.yard("run", spec, "--json")
        assert done.code == 0, done.out[-3000:] + done.err[-3000:]
        return json.loads(done.out)["id"]

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> RunFolder:
        """A server that was started and may not be ready yet."""
        done = self.yard("run", "--kind", "serve", "--detach", "--json", *words, env=env)
        assert done.code == 0, done.out + done.err
        return find_run(self.path / "runs", done.json["id"])

    def serve(self, *words: str, env: Mapping[str, str] | None = None) -> Served:
        """A server that has answered its first request."""
        run = self.start(*words, env=env)
        assert until(lambda: told(run, "ready") or run.status().ended, READY_SECONDS), "neither ready nor ended"
        assert told(run, "ready"), failure_of(run)
        return Served(run, key=(env or {}).get("TUNEYARD_API_KEY"))


def until(condition: Any, seconds: float) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def told(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    return [event for event, _ in read_json_lines(run.attempt(1).events) if event["event"] == kind]


def failure_of(run: RunFolder) -> dict[str, Any]:
    result = run.attempt(1).read_result()
    assert result is not None
    return result["failure"]


def left_of(run: RunFolder) -> list[int]:
    """Processes of a run that are still there, once its supervisor has gone."""
    until(lambda: not run.attempt(1).supervisor_lives(), 30)
    return processes_of(run.id)
