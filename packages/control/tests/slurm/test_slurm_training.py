"""Real training by LLaMA-Factory on SLURM: preempted and resumed, and on two nodes that meet."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.control import launch
from tuneyard.control.environments import environment_prefix
from tuneyard.control.workspace import Workspace, find_workspace
from tuneyard.core.errors import SetupError

if TYPE_CHECKING:
    from conftest import Yard

pytest_plugins = ["slurm_cluster"]
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]

TRAINING: dict[str, Any] = {
    "kind": "train",
    "dataset": {"source": "builtin:arithmetic", "digits": 1, "size": 64},
    "cancel_grace": 30,
    "engine": {
        "stage": "sft",
        "finetuning_type": "full",
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "save_strategy": "steps",
        "cutoff_len": 64,
    },
}


@pytest.fixture
def trainer(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """The same workspace with this checkout's training environment."""
    monkeypatch.delenv("TUNEYARD_WORKSPACE")
    try:
        python = environment_prefix(find_workspace(ROOT), "train") / "bin" / "python"
    except SetupError:
        pytest.skip("the environment train is not built")
    settings = {"environments": {"train": {"interpreter": str(python)}}}
    (yard.workspace.path / "tuneyard.yaml").write_text(json.dumps(settings))
    monkeypatch.setenv("TUNEYARD_WORKSPACE", str(yard.workspace.path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yard.workspace = Workspace(yard.workspace.path)
    return yard


def training(**engine: Any) -> dict[str, Any]:
    return {**TRAINING, "engine": {**TRAINING["engine"], **engine}}


def test_a_training_that_is_preempted_goes_on_from_the_checkpoint_that_it_left(trainer: Yard) -> None:
    run = trainer.start(**training(max_steps=400, save_steps=1000))
    trainer.step(run, seconds=150, count=3)
    number = trainer.job(run)
    trainer.cluster.ask("scontrol", "requeue", number)
    assert trainer.failure(run)["kind"] == "preempted"
    trainer.step(run, attempt=2, seconds=150)
    events = run.attempt(2).events.read_text()
    assert json.loads(next(line for line in events.splitlines() if '"progress"' in line))["step"] > 2
    launch.cancel(trainer.workspace, run, "somebody")
    assert trainer.status(run, "cancelled").attempt == 2


def test_two_nodes_train_together(trainer: Yard) -> None:
    run = trainer.start(**training(max_steps=4), nodes=2, processes=1)
    status = trainer.status(run, "succeeded", "failed", "lost", seconds=200)
    assert status.state == "succeeded", run.attempt(1).stderr.read_text()[-3000:]
    assert "NumNodes=2" in trainer.cluster.ask("scontrol", "show", "job", "--oneliner", trainer.job(run))
    assert {"rank: 0, world size: 2", "rank: 1, world size: 2"} <= set(ranks(run.attempt(1).stdout))


def test_two_nodes_that_are_cancelled_leave_a_checkpoint(trainer: Yard) -> None:
    run = trainer.start(**training(max_steps=4000, save_steps=100_000), nodes=2, processes=1)
    trainer.step(run, seconds=150)
    launch.cancel(trainer.workspace, run, "somebody")
    trainer.status(run, "cancelled")
    assert list((run.raw / "1").glob("checkpoint-*"))


def ranks(log: Path) -> list[str]:
    return re.findall(r"rank: \d+, world size: \d+", log.read_text())
