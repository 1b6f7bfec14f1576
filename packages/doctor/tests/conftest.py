"""Environments to be diagnosed: real ones, small, with stand-in distributions that are broken on purpose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROJECT = '[project]\nname = "tuneyard-{name}"\ndependencies = {pins}\n'

DOCTOR = (sys.executable, "-m", "tuneyard.control.cli", "doctor")

TORCH = """
    class version: cuda = None
    __version__ = "2.13.0+cpu"
"""
"""The part of torch that tells what it was built for."""


@dataclass
class Prefix:
    """A virtual environment, into which distributions are written as an installer would."""

    path: Path

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def packages(self) -> Path:
        return next(self.path.glob("lib/python3*/site-packages"))

    def install(self, name: str, version: str = "1.0", requires: tuple[str, ...] = (), **modules: str) -> Prefix:
        """A distribution: its metadata, and modules by name (`a__b` is a/b.py) with their source."""
        record = self.packages / f"{name.replace('-', '_')}-{version}.dist-info"
        record.mkdir()
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            f"Version: {version}",
            *(f"Requires-Dist: {r}" for r in requires),
        ]
        (record / "METADATA").write_text("\n".join(lines) + "\n")
        (record / "RECORD").write_text("")
        for module, source in modules.items():
            parts = module.split("__")
            path = self.packages.joinpath(*parts[:-1], f"{parts[-1]}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
        return self


@dataclass
class Diagnosis:
    """What `yard doctor --json` said."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> dict[str, Any]:
        return json.loads(self.out)

    def findings(self, environment: str | None = "train") -> dict[str, dict[str, Any]]:
        """Findings of an environment (None: the machine) by id."""
        return {f["id"]: f for f in self.told["findings"] if f["environment"] == environment}

    def status(self, environment: str = "train") -> str:
        return next(e["status"] for e in self.told["environments"] if e["name"] == environment)


@dataclass
class Clinic:
    """A workspace whose environments are made and broken by a test."""

    path: Path
    variables: dict[str, str]
    interpreters: dict[str, str] = field(default_factory=dict)

    def environment(self, name: str = "train", at: Path | None = None) -> Prefix:
        """A new environment, at the place where pixiw builds it, or elsewhere."""
        prefix = at or self.path / ".pixi" / "uv" / name
        venv.create(prefix, symlinks=True)
        return Prefix(prefix)

    def healthy(self, name: str = "train", **options: Any) -> Prefix:
        """An environment in which nothing is wrong: an engine that imports torch."""
        prefix = self.environment(name, **options).install("torch", "2.13.0+cpu", torch=TORCH)
        engine = {"train": "llamafactory", "eval": "lm-eval"}[name]
        module = {"train": "llamafactory__train__tuner", "eval": "lm_eval__models__huggingface"}[name]
        sources: dict[str, Any] = {module: "import torch\n", f"tuneyard__{name}__worker": ""}
        return prefix.install(engine, "1.0", ("torch>=2",), **sources)

    def pin(self, name: str, *pins: str) -> None:
        folder = self.path / "packages" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").write_text(PROJECT.format(name=name, pins=json.dumps(list(pins))))

    def name_interpreter(self, name: str, python: Path | str) -> None:
        """Name a Python for an environment in tuneyard.yaml."""
        self.interpreters[name] = str(python)
        settings = {"environments": {n: {"interpreter": p} for n, p in self.interpreters.items()}}
        (self.path / "tuneyard.yaml").write_text(json.dumps(settings))

    def run(self, *words: str, before: tuple[str, ...] = (), **variables: str) -> Diagnosis:
        """`yard doctor`, as it is typed; `before` stands in front of the command."""
        command = [*before, *DOCTOR, *words]
        env = {**self.variables, **variables}
        done = subprocess.run(command, cwd=self.path, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return Diagnosis(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[Any]:
        """The same, not waited for."""
        silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        restored = "import signal, runpy; signal.signal(2, signal.default_int_handler); "
        code = restored + "runpy.run_module('tuneyard.control.cli', run_name='__main__', alter_sys=True)"
        command = [sys.executable, "-c", code, "doctor", *words]
        return subprocess.Popen(command, cwd=self.path, env=self.variables, **silent)

    def diagnose(self, *words: str, **options: Any) -> Diagnosis:
        return self.run("--json", *words, **options)


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    folder = tmp_path / 'work space, it\'s "ünï"'
    folder.mkdir()
    (folder / "pixi.toml").write_text("[environments]\ndefault = []\ntrain = []\neval = []\n")
    foreign = ("HF_", "TRANSFORMERS_", "PIXI_", "TUNEYARD_", "INIT_CWD")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    home = tmp_path / "home"
    home.mkdir()
    own = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TUNEYARD_WORKSPACE": str(folder),
        "TUNEYARD_LEASES": str(tmp_path / "leases"),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # the port of `discard`, on which nobody listens
        "CUDA_VISIBLE_DEVICES": "",
    }
    return Clinic(folder, {**kept, **own})


@pytest.fixture
def mounted(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """Words that run a command where a file system of its own is mounted on a folder; the machine never sees it."""
    mine = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    try:
        tried = (
            subprocess.run([*mine, f"mount -t tmpfs none {tmp_path}"], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        tried = False
    if not tried:
        pytest.skip("this user may not mount file systems")

    def words(place: Path | str, options: str) -> tuple[str, ...]:
        return (*mine, 'mount -t tmpfs -o "$1" none "$0" && shift && exec "$@"', str(place), options)

    return words
