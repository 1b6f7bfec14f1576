"""Server, supervisor and worker are killed at any moment: no run is stuck or gone, no file torn, nothing left."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from raw_client import NEW, TRAIN, Client

from tuneyard.control.leases import holder
from tuneyard.control.workspace import Workspace
from tuneyard.core.processes import processes_of
from tuneyard.core.run_folder import ENDED, START_PATIENCE, RunFolder, find_run

pytestmark = pytest.mark.slow

SHORT = {**TRAIN, "engine": {"pause": 0.05, "max_steps": 20}}


def until(true: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def started(client: Client, **more: object) -> str:
    return client.call("train", fields={**SHORT, **more}, again=True)["runs"][0]["id"]


def check_the_end(run: RunFolder, client: Client) -> str:
    """The run has ended, its files are whole, its processes gone, its device free, and a new server says the same."""
    until(lambda: run.status().state in ENDED, START_PATIENCE + 60)
    until(lambda: not processes_of(run.id) and not any(a.supervisor_lives() for a in run.attempts()), 30)
    until(lambda: holder("cpu-0") is None, 10)
    for file in [run.spec, *run.attempts_folder.glob("*/*.json")]:
        json.loads(file.read_bytes())
    seen = client.call("run_status", run_id=run.id)
    assert seen["state"] == run.status().state
    assert run.id in [row["id"] for row in client.call("list_runs", states=[seen["state"]])["runs"]]
    assert client.call("list_runs", states=["preparing", "waiting", "running"])["total"] == 0
    return seen["state"]


def resume(run: RunFolder, client: Client) -> None:
    """It can go on, and then succeeds."""
    client.call("run_resume", run_id=run.id)
    seen = client.wait(run.id, 120)
    assert seen["state"] == "succeeded", seen


def worker_of(run: RunFolder) -> int | None:
    """The process that has told of its start."""
    latest = run.latest()
    if latest is None or not latest.events.exists():
        return None
    first = latest.events.read_text().partition("\n")[0]
    return json.loads(first)["pid"] if first else None


def supervisor_of(run: RunFolder) -> int | None:
    latest = run.latest()
    record = latest.read_supervisor() if latest else None
    return record["pid"] if record else None


def kill(pid: int | None) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):  # it was quicker
            os.kill(pid, signal.SIGKILL)


def test_thirty_kills_at_random_moments(desk: Workspace, connect: Callable[..., Client]) -> None:
    generator = random.Random(0)
    ends: list[tuple[str, str]] = []
    client = connect(NEW)
    for number in range(30):
        victim = ("server", "supervisor", "worker")[number % 3]
        run = find_run(desk.runs, started(client, seed=number))
        time.sleep(generator.uniform(0, 3))
        kill({"server": client.process.pid, "supervisor": supervisor_of(run), "worker": worker_of(run)}[victim])
        if victim == "server":
            client.process.wait()
            client = connect(NEW)
        state = check_the_end(run, client)
        ends.append((victim, state))
        if state != "succeeded" and number % 5 == 0:
            resume(run, client)
    assert {state for victim, state in ends if victim == "server"} == {"succeeded"}
    assert {state for victim, state in ends if victim == "supervisor"} <= {"succeeded", "lost"}
    assert {state for victim, state in ends if victim == "worker"} <= {"succeeded", "failed"}
    assert {"lost", "failed"} <= {state for _, state in ends}, ends  # or nothing was tested


@pytest.mark.parametrize(
    ("moment", "state"),
    [
        ("tuneyard.mcp:after mkdir", "lost"),
        ("tuneyard.control.supervisor:before the lease", "lost"),
        ("tuneyard.control.supervisor:after the lease", "lost"),
        ("tuneyard.train:mid-event", "failed"),
        ("tuneyard.train:before the result", "failed"),
        ("tuneyard.train:after the result", "succeeded"),
        ("tuneyard.control.supervisor:before the result", "lost"),
        ("tuneyard.control.supervisor:after the result", "failed"),
    ],
)
def test_a_kill_at_each_barrier(desk: Workspace, connect: Callable[..., Client], moment: str, state: str) -> None:
    sources = desk.path / "sources"
    (sources / "sitecustomize.py").write_bytes((Path(__file__).parent / "barrier.py").read_bytes())
    client = connect(NEW, env={"KILL_AT": moment, "PYTHONPATH": str(sources)})
    # a supervisor writes the result only where the worker could not
    limit = {"time_limit": 0.2} if "supervisor" in moment and "result" in moment else {}
    number = client.begin("tools/call", name="train", arguments={"fields": {**SHORT, **limit}})
    if moment.startswith("tuneyard.mcp"):
        client.process.wait(60)
    else:
        client.answer(number)
    client.kill()
    [folder] = desk.runs.glob("train-*")
    run, other = RunFolder(folder), connect(NEW)
    assert check_the_end(run, other) == state
    (sources / "sitecustomize.py").unlink()
    if state != "succeeded" and not limit:
        resume(run, other)
