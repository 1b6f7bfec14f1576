"""Two training processes on a CPU: one result, one line of events, a failure told by the process that failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_runs import Runs, events, finish, start, wait_for

from tuneyard.train.resume import last_checkpoint

pytestmark = pytest.mark.slow

CALLBACK = """
import os, signal
from transformers import TrainerCallback

class AtStepTwo(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if os.environ["RANK"] == "1" and state.global_step == 2:
            {what}
"""


def callback(folder: Path, what: str) -> dict:
    file = folder / "my callback.py"
    file.write_text(CALLBACK.format(what=what))
    return {"path": str(file), "name": "AtStepTwo"}


def test_two_processes_share_the_data_and_tell_one_story(runs: Runs) -> None:
    engine = {"stage": "sft", "finetuning_type": "lora", "max_steps": -1, "num_train_epochs": 1}
    run = runs.new(engine, processes=2)
    code, result = finish(run)
    assert code == 0
    assert result["status"] == "succeeded"
    assert result["metrics"]["epoch"]["value"] == 1
    assert [e["step"] for e in events(run, "progress")] == list(range(9))  # 64 rows, 4 at a time in each of two
    assert {a["name"] for a in result["artifacts"]} >= {"adapter", "loss_plot", "fingerprint"}


def test_a_failure_is_told_by_the_process_that_failed(runs: Runs, tmp_path: Path) -> None:
    ref = callback(tmp_path, "raise ValueError('row 17 is odd')")
    run = runs.new({"stage": "sft", "finetuning_type": "lora"}, processes=2, callbacks=[ref])
    code, result = finish(run)
    assert code == 1
    assert result["failure"]["message"] == "training process 1: ValueError: row 17 is odd"
    assert "row 17 is odd" in "\n".join(result["failure"]["log_tail"])


def test_a_killed_process_is_named_as_the_cause(runs: Runs, tmp_path: Path) -> None:
    ref = callback(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    run = runs.new({"stage": "sft", "finetuning_type": "lora"}, processes=2, callbacks=[ref])
    code, result = finish(run)
    assert code == 1
    assert "ended by SIGKILL" in result["failure"]["message"]
    assert "memory" in result["failure"]["way_out"]


def test_all_processes_stop_at_the_same_step_with_a_checkpoint(runs: Runs) -> None:
    run = runs.new({"stage": "sft", "finetuning_type": "lora", "max_steps": 100_000, "save_steps": 90_000}, processes=2)
    worker = start(run)
    wait_for(lambda: len(events(run, "progress")) >= 5)
    worker.terminate()
    assert worker.wait(timeout=90) == 143
    attempt = run.latest()
    assert attempt is not None and not attempt.result.exists()
    checkpoint = last_checkpoint(run)
    assert checkpoint is not None
    assert json.loads((checkpoint / "trainer_state.json").read_text())["global_step"] > 0
    assert {p.name for p in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}


def test_a_wrong_request_keeps_its_exit_code(runs: Runs) -> None:
    run = runs.new({"stage": "sft", "finetuning_type": "lora", "lora_rnk": 8}, processes=2)
    code, result = finish(run)
    assert code == 2
    assert result["failure"]["kind"] == "request"
    assert "lora_rank" in result["failure"]["way_out"]
