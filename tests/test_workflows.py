"""What people do with runs, start to end: two that want one device, one that dies and is resumed, two compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Yard

from tuneyard.core.processes import processes_of
from tuneyard.core.run_folder import RunFolder

pytestmark = pytest.mark.slow

SHORT: dict[str, Any] = {
    "kind": "train",
    "model": "builtin:tiny",
    "dataset": {"source": "builtin:arithmetic", "digits": 2, "size": 400},
    "engine": {
        "stage": "sft",
        "finetuning_type": "full",
        "learning_rate": 1e-3,
        "max_steps": 60,
        "per_device_train_batch_size": 4,
        "logging_steps": 5,
        "save_steps": 10,
        "cutoff_len": 128,
    },
}


@pytest.fixture
def short(tmp_path: Path) -> Callable[..., Path]:
    """A training spec that takes seconds."""

    def write(**engine: Any) -> Path:
        path = tmp_path / "short.yaml"
        path.write_text(yaml.safe_dump({**SHORT, "engine": {**SHORT["engine"], **engine}}))
        return path

    return write


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def start(yard: Yard, *words: str | Path) -> RunFolder:
    done = yard("run", *words, "--detach", "--json")
    assert done.code == 0, done.err
    return RunFolder(yard.runs / done.json["id"])


def state(run: RunFolder) -> str:
    return run.status().state


def checkpoints(run: RunFolder) -> list[str]:
    latest = run.latest()
    if latest is None or not latest.events.exists():
        return []
    return [line for line in latest.events.read_text().splitlines() if '"checkpoint"' in line]


def final_loss(run: RunFolder) -> float:
    latest = run.latest()
    assert latest is not None
    lines = [json.loads(line) for line in latest.events.read_text().splitlines()]
    return [e["loss"] for e in lines if e["event"] == "progress" and "loss" in e][-1]


def test_a_killed_supervisor_loses_the_run_and_resume_ends_where_an_uninterrupted_run_does(
    yard: Yard, short: Callable[..., Path]
) -> None:
    whole, _ = yard.run(short())
    run = start(yard, short())
    wait_for(lambda: len(checkpoints(run)) >= 2)
    first = run.attempt(1)
    supervisor = first.read_supervisor()
    assert supervisor is not None
    os.kill(supervisor["pid"], signal.SIGKILL)
    wait_for(lambda: not processes_of(run.id), 20)
    assert state(run) == "lost"
    shown = yard("show", run.id)
    assert "lost" in shown.out and f"yard resume {run.id}" in shown.out
    assert yard("resume", run.id, "--json").code == 0
    wait_for(lambda: state(run) == "succeeded")
    assert final_loss(run) == pytest.approx(final_loss(whole), abs=1e-6)
    assert (run.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()


def test_a_killed_worker_is_told_with_its_signal_and_can_be_resumed(yard: Yard, short: Callable[..., Path]) -> None:
    run = start(yard, short())
    wait_for(lambda: checkpoints(run))
    [line] = [x for x in run.attempt(1).events.read_text().splitlines() if '"started"' in x]
    os.kill(json.loads(line)["pid"], signal.SIGKILL)
    wait_for(lambda: state(run) == "failed", 20)
    shown = yard("show", run.id, "--json").json
    assert shown["result"]["failure"]["signal"] == "SIGKILL"
    assert yard("resume", run.id, "--json").code == 0
    wait_for(lambda: state(run) == "succeeded")
    refused = yard("resume", run.id)
    assert refused.code == 2 and "succeeded" in refused.err


def test_two_runs_that_want_one_device_take_turns(yard: Yard, short: Callable[..., Path], tmp_path: Path) -> None:
    one_slot = {"TUNEYARD_LEASES": str(tmp_path / "leases"), "TUNEYARD_CPU_SLOTS": "1"}
    path = short(max_steps=5)
    runs = []
    for _ in range(2):
        done = yard("run", path, "--detach", "--json", env=one_slot)
        assert done.code == 0, done.err
        runs.append(RunFolder(yard.runs / done.json["id"]))
    wait_for(lambda: "waiting" in map(state, runs), 30)
    assert sum(s == "running" for s in map(state, runs)) <= 1
    wait_for(lambda: all(state(r) == "succeeded" for r in runs), 240)


def test_a_cancelled_run_keeps_its_checkpoint_and_leaves_no_process(yard: Yard, short: Callable[..., Path]) -> None:
    run = start(yard, short(max_steps=100_000))
    wait_for(lambda: checkpoints(run))
    assert yard("cancel", run.id[:-1]).code == 2
    assert yard("cancel", run.id).code == 0
    wait_for(lambda: state(run) == "cancelled", 60)
    assert processes_of(run.id) == []
    assert list(run.raw.glob("1/checkpoint-*"))


def test_ctrl_c_asks_for_the_end_and_says_how_to_go_on(yard: Yard, short: Callable[..., Path]) -> None:
    before = set(os.listdir(yard.runs)) if yard.runs.exists() else set()
    process = subprocess.Popen(
        [yard.executable, "run", short(max_steps=100_000)],
        cwd=yard.workspace,
        env=yard.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    [name] = wait_for(lambda: set(os.listdir(yard.runs)) - before)
    run = RunFolder(yard.runs / name)
    wait_for(lambda: checkpoints(run))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 130
    assert f"yard resume {run.id}" in out
    assert state(run) == "cancelled"


def test_a_closed_terminal_changes_nothing(yard: Yard, short: Callable[..., Path]) -> None:
    before = set(os.listdir(yard.runs)) if yard.runs.exists() else set()
    process = subprocess.Popen(
        [yard.executable, "run", short(max_steps=5)],
        cwd=yard.workspace,
        env=yard.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    [name] = wait_for(lambda: set(os.listdir(yard.runs)) - before)
    os.killpg(process.pid, signal.SIGHUP)
    process.wait(timeout=20)
    wait_for(lambda: state(RunFolder(yard.runs / name)) == "succeeded")


def test_two_evaluations_are_compared_document_by_document(yard: Yard, short: Callable[..., Path]) -> None:
    trained, _ = yard.run(short())
    shape = ["tasks.0.arguments.digits=2", "limit=50"]
    before, _ = yard.run("--kind", "eval", "--task", "arithmetic", "model=builtin:tiny", *shape)
    after, _ = yard.run("--kind", "eval", "--task", "arithmetic", f"model=run:{trained.id}", *shape)
    done = yard("compare", before.id, after.id, "--json")
    assert done.code == 0, done.err
    text = json.dumps(done.json)
    assert "arithmetic" in text and "exact_match" in text
    shown = yard("compare", before.id, after.id)
    assert "50" in shown.out


PYTHON = """
from tuneyard.control import evaluate, train

run = train({spec!r}, **{{"engine.max_steps": 5}})
assert run.wait() == "succeeded", run.result
assert run.artifacts["model"].is_dir()
score = evaluate(tasks="arithmetic", model="run:" + run.id, limit=8)
assert score.wait() == "succeeded", score.result
print(sorted(score.metrics))
"""


def test_the_same_from_python(yard: Yard, short: Callable[..., Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PYTHON.format(spec=str(short()))],
        cwd=yard.workspace,
        env=yard.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "arithmetic/exact_match" in done.stdout
