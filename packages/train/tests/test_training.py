"""How a training behaves: seeds, early stop, callbacks of the user's, paths, bf16 on a CPU, divergence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import Runs, events, finish, train

from tuneyard.core.errors import RequestError, RunError

pytestmark = pytest.mark.slow

SFT = {"stage": "sft", "finetuning_type": "lora"}


def test_the_same_seed_gives_the_same_loss_and_another_seed_another(runs: Runs) -> None:
    losses = [train(runs.new(SFT, seed=seed)).metrics["train_loss"].value for seed in (7, 7, 8)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_training_stops_early_when_the_held_out_loss_no_longer_falls(runs: Runs) -> None:
    engine = {**SFT, "learning_rate": 0.0, "max_steps": 30, "eval_steps": 1, "early_stopping_steps": 2}
    run = runs.new(engine, held_out=True)
    train(run)
    assert events(run, "progress")[-1]["step"] == 3


CALLBACKS = """
from pathlib import Path
from transformers import TrainerCallback

class Steps(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        with open(Path(__file__).with_name("steps.txt"), "a") as file:
            file.write(f"{state.global_step} ")

def make():
    return Steps()

def wrong():
    return 17
"""


@pytest.mark.parametrize("name", ["Steps", "make"])
def test_a_callback_of_the_user_is_called(runs: Runs, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.py").write_text(CALLBACKS)
    train(runs.new(SFT, callbacks=[{"path": str(tmp_path / "mine.py"), "name": name}]))
    assert (tmp_path / "steps.txt").read_text() == "1 2 3 4 "


def test_a_function_that_returns_no_callback_is_refused(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CALLBACKS)
    with pytest.raises(RequestError, match="`wrong` gives a int"):
        train(runs.new(SFT, callbacks=[{"path": str(tmp_path / "mine.py"), "name": "wrong"}]))


def test_paths_with_quotes_newlines_brackets_and_letters_of_any_script_work(weird_runs: Runs) -> None:
    code, result = finish(weird_runs.new({**SFT, "logging_steps": 2}, held_out=True, merge=True))
    assert code == 0
    assert result["metrics"]["eval_loss"]["value"] > 0
    assert result["timing"].keys() >= {"import", "load", "train", "save", "plot"}


def test_bf16_is_trained_on_a_machine_without_a_gpu(runs: Runs) -> None:
    run = runs.new({**SFT, "bf16": True, "max_steps": 8})
    losses = [e["loss"] for e in [train(run), *events(run, "progress")][1:] if "loss" in e]
    assert losses[-1] < losses[0]
    assert "bf16" in events(run, "warning")[0]["message"]


def test_a_training_that_diverges_fails_and_says_so(runs: Runs) -> None:
    run = runs.new({"stage": "sft", "finetuning_type": "full", "learning_rate": 1e30, "max_grad_norm": 0.0})
    with pytest.raises(RunError, match="no longer finite"):
        train(run)
    assert "learning_rate" in events(run, "warning")[0]["message"]


def test_progress_tells_speed_and_time_to_go(runs: Runs) -> None:
    run = runs.new(SFT)
    train(run)
    last = events(run, "progress")[-1]
    assert last["total"] == 4
    assert last["tokens_per_second"] > 0
    assert last["eta"] == 0
    assert last["learning_rate"] >= 0


def test_importing_the_worker_loads_no_engine() -> None:
    """`arguments` and every mistake in a spec are told without it."""
    code = "import tuneyard.train.__main__, sys; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_step_is_told_once_whether_it_is_logged_or_took_long(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneyard.train.callback.QUIET_SECONDS", 0.0)
    run = runs.new({"finetuning_type": "lora", "logging_steps": 2})
    train(run)
    told = events(run, "progress")
    assert [event["step"] for event in told] == [0, 1, 2, 3, 4]
    assert ["loss" in event for event in told] == [False, True, True, False, True]  # the first is logged, too
