"""A workspace whose workers are real ones, but small: they do what the Python source in a run's spec says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_workers import kill_runs, make_worker

from tuneyard.control import launch
from tuneyard.control.index import run_ids
from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder, RunStatus, create_run

WORKER = """
import os, signal, subprocess, sys, time
from pathlib import Path
from tuneyard.core import events
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.worker import Stopped, Worker, main

def run(job):
    exec(job.spec.engine["do"], {**globals(), "job": job, "note": lambda name, text="": note(job, name, text)})

def note(job, name, text):
    "Leave a file for the test, in one step."
    place = job.folder.path / name
    place.with_suffix(".part").write_text(str(text))
    place.with_suffix(".part").rename(place)

def arguments(spec):
    return {"arguments": spec.engine, "seen": dict(os.environ)}

def schema():
    with open(os.environ["SCHEMA_CALLS"], "a") as calls:
        calls.write("asked\\n")
    print("noise of a library")
    return {"keys": {"do": {"type": "str"}}, "versions": {"library": "1"}}

def check(path, name):
    what = path.name
    if what == "request": raise RequestError("no such column", where="rows.jsonl", way_out="name one")
    if what == "setup": raise SetupError("no space left", where="/", way_out="free some")
    if what == "crash": os.kill(os.getpid(), signal.SIGSEGV)
    if what == "broken": sys.exit("ModuleNotFoundError: No module named 'torch'")
    if what == "slow":
        subprocess.Popen(["sleep", "600"])
        time.sleep(600)
    return {"path": str(path), "name": name}

main(Worker("NAME", run=run, arguments=arguments, schema=schema, fingerprint=lambda model: None, check=check))
"""

PREPARE = """
import json, os, subprocess, sys, time
from pathlib import Path
run = Path(sys.argv[2])
exec(json.loads((run / "spec.json").read_text())["engine"].get("prepare", ""))
(run / "data").mkdir(exist_ok=True)
(run / "data" / "manifest.json").write_text("{}")
"""


def wait_until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `true` returns as soon as that is true; fails when it never is."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)
    return value


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@dataclass
class Place:
    """The workspace and its runs."""

    workspace: Workspace
    made: list[RunFolder]
    until = staticmethod(wait_until)
    alive = staticmethod(alive)
    until_let_go = "while not (job.folder.path / 'go').exists(): time.sleep(0.02)"

    def make(self, do: str = "", kind: str = "eval", prepare: str = "", **fields: Any) -> RunFolder:
        """A run, not started, whose worker does `do` and whose data preparation does `prepare`."""
        run = create_run(self.workspace.runs, kind, "x")
        given = {"tasks": [{"task": "t"}]} if kind == "eval" else {"model": "builtin:tiny", "dataset": ["d.jsonl"]}
        engine = {"do": do, "prepare": prepare}
        spec = {"kind": kind, "gpus": 0, "cancel_grace": 20, **given, "engine": engine, **fields}
        run.spec.write_text(json.dumps(spec))
        self.made.append(run)
        return run

    def start(self, do: str = "", **options: Any) -> RunFolder:
        run = self.make(do, **options)
        launch.start(self.workspace, run)
        return run

    def let_go(self, *runs: RunFolder) -> None:
        """Let runs go on that do `until_let_go`."""
        for run in runs:
            (run.path / "go").touch()

    def finish(self, run: RunFolder, seconds: float = 60.0) -> dict[str, Any]:
        """The result of the latest attempt, when its supervisor is gone too."""
        status = launch.wait(run, seconds)
        assert status.ended, status
        self.gone(run)
        latest = run.latest()
        assert latest is not None
        return latest.read_result() or {"status": status.state, "reason": status.reason}

    def gone(self, run: RunFolder) -> None:
        """Wait until nobody supervises the run any more."""
        latest = run.latest()
        assert latest is not None
        wait_until(lambda: not latest.supervisor_lives())

    def noted(self, run: RunFolder, name: str, seconds: float = 30.0) -> str:
        """The text that the worker left under a name, as soon as it is there."""
        wait_until(lambda: (run.path / name).exists() or run.status().ended, seconds)
        return (run.path / name).read_text()

    def supervisor(self, run: RunFolder) -> int:
        latest = run.latest()
        assert latest is not None
        return wait_until(latest.read_supervisor)["pid"]

    def guard(self, run: RunFolder) -> int:
        """The process that watches over the supervisor: its parent."""
        return int(Path(f"/proc/{self.supervisor(run)}/stat").read_text().rpartition(")")[2].split()[1])

    def status(self, run: RunFolder, state: str) -> RunStatus:
        """Wait until a run is in a state."""
        wait_until(lambda: run.status().state == state)
        return run.status()

    def clean_up(self) -> None:
        kill_runs(self.made)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder = tmp_path / 'a "quoted" folder, it\'s\nüber zwei Zeilen'
    folder.mkdir()
    (folder / "pixi.toml").touch()
    interpreters = {
        name: {"interpreter": str(make_worker(folder, name, WORKER.replace("NAME", name)))}
        for name in ("train", "eval")
    }
    (folder / "tuneyard.yaml").write_text(json.dumps({"environments": interpreters}))
    prepare = folder / "sources" / "tuneyard" / "data"
    prepare.mkdir()
    (prepare / "__init__.py").touch()  # as the real package has one, which would be taken before a folder without
    (prepare / "__main__.py").write_text(PREPARE)
    monkeypatch.setenv("PYTHONPATH", str(folder / "sources"))
    monkeypatch.setenv("TUNEYARD_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("TUNEYARD_CPU_SLOTS", "1")  # so that a second run has to wait, whatever the machine has
    made = Place(Workspace(folder), [])
    yield made
    made.clean_up()


@pytest.fixture(scope="session")
def small_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with interpreters for the workers of small_library.py, and what they and the built-in model cost to make
    in a cache beside them."""
    folder = tmp_path_factory.mktemp("small") / 'a library, it\'s "ünï"'
    folder.mkdir()
    for name in ("train", "eval"):
        make_worker(folder, name)
    for name in ("schemas", "models"):
        (folder / "cache" / name).mkdir(parents=True)
    return folder


@pytest.fixture
def desk(tmp_path: Path, small_library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace for requests: its workers are those of small_library.py, its hub answers nobody, its index is new."""
    folder = tmp_path / 'work space, it\'s "ünï"'
    folder.mkdir()
    (folder / "pixi.toml").touch()
    interpreter = str(small_library / "prefix" / "bin" / "python")
    environments = {name: {"interpreter": interpreter} for name in ("train", "eval")}
    (folder / "tuneyard.yaml").write_text(json.dumps({"environments": environments}))
    cache = tmp_path / "cache" / "tuneyard"
    cache.mkdir(parents=True)
    for name in ("schemas", "models"):
        (cache / name).symlink_to(small_library / "cache" / name)
    for name in [n for n in os.environ if n.startswith(("HF_", "PIXI_"))] + ["INIT_CWD", "TUNEYARD_GSM8K"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEYARD_WORKSPACE", str(folder))
    monkeypatch.setenv("TUNEYARD_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the port of `discard`, on which nobody listens
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(folder)
    workspace = Workspace(folder)
    yield workspace
    for name in run_ids(workspace.runs):
        Place(workspace, [RunFolder(workspace.runs / name)]).clean_up()
