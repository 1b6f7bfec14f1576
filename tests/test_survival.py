"""Real training and evaluation, killed in every way: nothing of a run outlives it, and its device is free again."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tuneyard.control.leases import holder
from tuneyard.core.processes import processes_of
from tuneyard.core.run_folder import RunFolder

if TYPE_CHECKING:
    from conftest import Yard

pytestmark = pytest.mark.slow

TRAINING: dict[str, Any] = {
    "kind": "train",
    "name": "survivor",
    "model": "builtin:tiny",
    "dataset": {"source": "builtin:arithmetic", "digits": 2, "size": 400},
    "gpus": 0,
    "cancel_grace": 30,
    "engine": {
        "stage": "sft",
        "finetuning_type": "full",
        "learning_rate": 1e-3,
        "max_steps": 2000,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "save_steps": 5,
        "save_total_limit": 2,
        "cutoff_len": 128,
        "dataloader_num_workers": 2,
    },
}
"""Long enough that it never ends by itself; its data is loaded by two further processes."""


@pytest.fixture(autouse=True)
def own_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_LEASES", str(tmp_path / "leases"))


@pytest.fixture
def train(yard: Yard, tmp_path: Path) -> Callable[..., RunFolder]:
    """Start a training with changes, detached."""

    def start(**changes: Any) -> RunFolder:
        path = tmp_path / "survivor.yaml"
        path.write_text(yaml.safe_dump({**TRAINING, **changes}))
        return started(yard, path)

    return start


def started(yard: Yard, *words: str | Path) -> RunFolder:
    done = yard("run", *words, "--detach", "--json")
    assert done.code == 0, done.err
    return RunFolder(yard.runs / done.json["id"])


def until(condition: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)
    return value


def events(run: RunFolder, name: str) -> list[dict[str, Any]]:
    latest = run.latest()
    if latest is None or not latest.events.exists():
        return []
    whole = [line for line in latest.events.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [event for event in map(json.loads, whole) if event["event"] == name]


def learning(run: RunFolder) -> list[dict[str, Any]]:
    """Progress of a run that has begun to learn; fails when it ended before."""
    latest = run.latest()
    assert latest is None or latest.read_result() is None, latest.read_result()
    return events(run, "progress")


def kill_supervisor(run: RunFolder) -> None:
    latest = run.latest()
    record = latest.read_supervisor() if latest else None
    assert record
    os.kill(record["pid"], signal.SIGKILL)


def nothing_is_left(run: RunFolder) -> None:
    """No process carries the run's id or names its folder, and nobody holds its device."""
    until(lambda: not processes_of(run.id) and not _naming(run), 30)
    until(lambda: holder("cpu-0") is None, 10)


def _naming(run: RunFolder) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.fsencode(run.path) in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(entry.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_supervisor_killed_at_any_moment_leaves_nothing(train: Callable[..., RunFolder], seed: int) -> None:
    run = train()
    until(lambda: run.status().state in ("preparing", "waiting", "running"))
    if seed:
        until(lambda: run.status().state == "running")
        time.sleep(random.Random(seed).uniform(0, 12))
    kill_supervisor(run)
    nothing_is_left(run)
    until(lambda: run.status().state == "lost", 10)


def test_a_lost_training_goes_on_from_its_checkpoint(yard: Yard, train: Callable[..., RunFolder]) -> None:
    run = train()
    until(lambda: learning(run) and events(run, "checkpoint"))
    kill_supervisor(run)
    nothing_is_left(run)
    reached = events(run, "checkpoint")[-1]["step"]
    assert yard("resume", run.id, "--detach").code == 0
    first = until(lambda: learning(run))[0]
    assert first["step"] >= reached >= 5
    assert yard("cancel", run.id).code == 0
    until(lambda: run.status().state == "cancelled")
    nothing_is_left(run)


def test_a_cancelled_training_of_two_processes_leaves_nothing(yard: Yard, train: Callable[..., RunFolder]) -> None:
    run = train(processes=2)
    until(lambda: learning(run))
    assert len(processes_of(run.id)) >= 3, "the launcher and two ranks"
    assert yard("cancel", run.id).code == 0
    until(lambda: run.status().state == "cancelled", 60)
    nothing_is_left(run)


def test_two_processes_end_when_their_supervisor_is_killed(train: Callable[..., RunFolder]) -> None:
    run = train(processes=2)
    until(lambda: learning(run))
    kill_supervisor(run)
    nothing_is_left(run)
    until(lambda: run.status().state == "lost", 10)


def test_a_training_of_two_processes_fails_when_one_of_them_is_killed(train: Callable[..., RunFolder]) -> None:
    run = train(processes=2)
    until(lambda: learning(run))
    ranks = [pid for pid in processes_of(run.id) if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    assert ranks
    os.kill(min(ranks), signal.SIGKILL)
    until(lambda: run.status().state == "failed", 60)
    nothing_is_left(run)


def test_an_evaluation_ends_with_its_supervisor(yard: Yard) -> None:
    run = started(yard, "--task", "arithmetic", "model=builtin:tiny", "gpus=0")
    until(lambda: events(run, "started"))
    kill_supervisor(run)
    nothing_is_left(run)
    until(lambda: run.status().state == "lost", 10)
