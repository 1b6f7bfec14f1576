"""What tests that cross packages share: a workspace of their own, and the command `yard` run in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneyard.control.environments import environment_prefix
from tuneyard.control.workspace import find_workspace
from tuneyard.core.run_folder import RunFolder, find_run

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


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
class Yard:
    """The command `yard`, run as a person would, in a workspace that uses this checkout's environments."""

    workspace: Path

    def __call__(self, *words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> Done:
        done = subprocess.run(
            [self.executable, *map(str, words)],
            cwd=cwd or self.workspace,
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @property
    def executable(self) -> str:
        return str(Path(sys.executable).with_name("yard"))

    def environment(self, more: dict[str, str] | None = None) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("INIT_CWD", "PIXI_PROJECT_ROOT")}
        return {**kept, "TUNEYARD_WORKSPACE": str(self.workspace), "HF_HUB_OFFLINE": "1", **(more or {})}

    @property
    def runs(self) -> Path:
        return self.workspace / "runs"

    def run(self, *words: str | Path, **options: Any) -> tuple[RunFolder, dict[str, Any]]:
        """Run a spec in the foreground; it must succeed. The run folder and its result."""
        done = self("run", *words, "--json", **options)
        assert done.code == 0, done.out[-3000:] + done.err[-3000:]
        run = find_run(self.runs, json.loads(done.out.strip().splitlines()[-1])["id"])
        attempt = run.latest()
        assert attempt is not None
        result = attempt.read_result()
        assert result is not None
        return run, result


def make_workspace(folder: Path) -> Yard:
    """A workspace in `folder` whose workers run in the environments that this checkout has built."""
    here = find_workspace(ROOT)
    interpreters = {n: {"interpreter": str(environment_prefix(here, n) / "bin" / "python")} for n in ("train", "eval")}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pixi.toml").write_bytes((ROOT / "pixi.toml").read_bytes())
    (folder / "tuneyard.yaml").write_text(yaml.safe_dump({"environments": interpreters}))
    os.symlink(ROOT / "examples", folder / "examples")
    return Yard(folder)


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """One workspace for all tests: what one trained, another evaluates."""
    yield make_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def lonely_yard(tmp_path: Path) -> Yard:
    """A workspace that nobody else uses, under a path of the kind that breaks scripts."""
    return make_workspace(tmp_path / "a b'c\"d\nünï")


@pytest.fixture
def gsm8k_folder() -> Path:
    """GSM8K's own files."""
    folder = SHARED / "gsm8k"
    if not folder.is_dir():
        pytest.skip("needs GSM8K's JSONL files in ../shared/data/gsm8k")
    return folder


@pytest.fixture
def write_yaml(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write a document and return its path."""

    def write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write
