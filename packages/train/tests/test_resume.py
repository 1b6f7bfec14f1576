"""A run that was interrupted goes on from its last whole checkpoint and ends as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file
from training_runs import Runs, events, finish, start, train, wait_for

from tuneyard.core.run_folder import RunFolder
from tuneyard.train.resume import is_whole, last_checkpoint

pytestmark = pytest.mark.slow

TWELVE = {"max_steps": 12, "save_steps": 3, "logging_steps": 5, "lr_scheduler_type": "cosine"}


def go_on(run: RunFolder, step: int) -> None:
    """Make it look as if the first attempt had ended right after the checkpoint at `step`."""
    for checkpoint in run.raw.glob("1/checkpoint-*"):
        if int(checkpoint.name.split("-")[1]) > step:
            shutil.rmtree(checkpoint)
    run.new_attempt()


CASES = [
    ("sft", "alpaca", {"finetuning_type": "full"}),
    ("sft", "alpaca", {"finetuning_type": "lora", "lora_dropout": 0.1, "gradient_accumulation_steps": 2}),
    ("dpo", "pairs", {"finetuning_type": "lora"}),
    ("rm", "pairs", {"finetuning_type": "lora"}),
]


@pytest.mark.parametrize(("stage", "data", "engine"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_resumed_run_ends_with_the_loss_and_weights_of_one_that_was_not(
    runs: Runs, stage: str, data: str, engine: dict
) -> None:
    engine = {"stage": stage, **TWELVE, **engine}
    whole = runs.new(engine, data)
    expected = train(whole)
    run = runs.new(engine, data)
    train(run)
    go_on(run, 6)
    job = train(run)
    assert job.details["resumed_from"] == "artifacts/raw/1/checkpoint-6"
    assert next(e["step"] for e in events(run, "progress")) == 6
    for name in ("loss", "train_loss"):
        assert job.metrics[name].value == pytest.approx(expected.metrics[name].value, abs=1e-6)
    kind = "model/model" if engine["finetuning_type"] == "full" else "adapter/adapter_model"
    ours, theirs = (load_file(r.artifacts / f"{kind}.safetensors") for r in (run, whole))
    assert all((ours[name] - theirs[name]).abs().max() < 1e-6 for name in theirs)


def test_a_worker_killed_in_the_middle_is_resumed(runs: Runs) -> None:
    engine = {"stage": "sft", "finetuning_type": "full", **TWELVE, "max_steps": 200, "save_steps": 20}
    run = runs.new(engine)
    worker = start(run)
    wait_for(lambda: len(events(run, "checkpoint")) >= 2)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    first = run.latest()
    assert first is not None and not first.result.exists()
    run.new_attempt()
    code, result = finish(run)
    assert code == 0
    assert result["details"]["resumed_from"].startswith("artifacts/raw/1/checkpoint-")
    whole = runs.new(engine)
    expected = train(whole)
    assert result["metrics"]["loss"]["value"] == pytest.approx(expected.metrics["loss"].value, abs=1e-6)


KILLS = """
import os, signal
from transformers import TrainerCallback

class InTheFirstAttempt(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if os.environ["TUNEYARD_ATTEMPT"] == "1" and os.environ["RANK"] == "1" and state.global_step == 8:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("stage", "data"), [("sft", "alpaca"), ("rm", "pairs")])
def test_two_processes_of_which_one_was_killed_are_resumed(runs: Runs, tmp_path: Path, stage: str, data: str) -> None:
    engine = {"stage": stage, "finetuning_type": "lora", **TWELVE}
    whole = runs.new(engine, data, processes=2)
    _, expected = finish(whole)
    (tmp_path / "kills.py").write_text(KILLS)
    callback = {"path": str(tmp_path / "kills.py"), "name": "InTheFirstAttempt"}
    run = runs.new(engine, data, processes=2, callbacks=[callback])
    assert finish(run)[0] == 1
    run.new_attempt()
    code, result = finish(run)
    assert code == 0
    assert result["details"]["resumed_from"] == "artifacts/raw/1/checkpoint-6"
    for name in ("loss", "train_loss"):
        assert result["metrics"][name]["value"] == pytest.approx(expected["metrics"][name]["value"], abs=1e-6)
    ours, theirs = (load_file(r.adapter / "adapter_model.safetensors") for r in (run, whole))
    assert all((ours[name] - theirs[name]).abs().max() < 1e-6 for name in theirs)


def test_a_worker_asked_to_end_keeps_a_checkpoint_and_no_result(runs: Runs) -> None:
    engine = {"stage": "sft", "finetuning_type": "lora", "max_steps": 100_000, "save_steps": 100_000}
    run = runs.new(engine)
    worker = start(run)
    wait_for(lambda: len(events(run, "progress")) >= 5)
    worker.terminate()
    assert worker.wait(timeout=60) == 143
    attempt = run.latest()
    assert attempt is not None and not attempt.result.exists()
    checkpoint = last_checkpoint(run)
    assert checkpoint is not None
    assert events(run, "checkpoint")[-1]["path"] == checkpoint.relative_to(run.path).as_posix()


@pytest.mark.parametrize("epochs", [{}, {"max_steps": -1, "num_train_epochs": 1}], ids=["steps", "epochs"])
def test_a_run_that_was_only_not_tidied_up_is_finished(runs: Runs, epochs: dict) -> None:
    run = runs.new({"stage": "sft", "finetuning_type": "lora", **epochs})
    first = train(run)
    shutil.rmtree(run.adapter)
    run.new_attempt()
    job = train(run)
    assert job.metrics["loss"].value == first.metrics["loss"].value
    assert job.metrics["train_loss"].value == pytest.approx(first.metrics["train_loss"].value, abs=1e-6)
    assert (run.adapter / "adapter_model.safetensors").is_file()
    assert events(run, "progress") == []  # no step was made


def test_the_best_weights_count_where_they_were_asked_for(runs: Runs) -> None:
    engine = {"stage": "sft", "finetuning_type": "lora", "eval_steps": 1, "save_steps": 1}
    engine |= {"learning_rate": 1.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "max_steps": 2}
    run = runs.new({**engine, "load_best_model_at_end": True}, held_out=True)
    train(run)
    kept = load_file(run.adapter / "adapter_model.safetensors")
    run.new_attempt()
    train(run)
    again = load_file(run.adapter / "adapter_model.safetensors")
    last = load_file(run.raw / "1" / "checkpoint-2" / "adapter_model.safetensors")
    assert all((kept[name] == again[name]).all() for name in kept)
    assert any((kept[name] != last[name]).any() for name in kept)  # a rate this high makes it worse


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A run with checkpoints at steps 2 and 4."""
    made = Runs(tmp_path_factory.mktemp("checkpoints"), tiny)
    run = made.new({"stage": "sft", "finetuning_type": "full", "save_steps": 2})
    train(run)
    return run.path


@pytest.fixture
def checkpoints(written: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(written, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_the_highest_checkpoint_counts(checkpoints: RunFolder) -> None:
    found = last_checkpoint(checkpoints)
    assert found is not None and found.name == "checkpoint-4"


@pytest.mark.parametrize("file", ["trainer_state.json", "model.safetensors", "optimizer.pt"])
def test_a_checkpoint_that_was_being_written_is_passed_over(checkpoints: RunFolder, file: str) -> None:
    victim = checkpoints.raw / "1" / "checkpoint-4" / file
    victim.write_bytes(victim.read_bytes()[:-20])
    found = last_checkpoint(checkpoints)
    assert found is not None and found.name == "checkpoint-2"


def test_a_checkpoint_without_weights_is_passed_over(checkpoints: RunFolder) -> None:
    (checkpoints.raw / "1" / "checkpoint-4" / "model.safetensors").unlink()
    found = last_checkpoint(checkpoints)
    assert found is not None and found.name == "checkpoint-2"


def test_weights_in_several_files_count_only_together(checkpoints: RunFolder) -> None:
    folder = checkpoints.raw / "1" / "checkpoint-4"
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert not is_whole(folder, 4)
    shutil.copy(folder / shards["a"], folder / shards["b"])
    assert is_whole(folder, 4)


def test_a_run_without_checkpoints_starts_at_the_beginning(tmp_path: Path) -> None:
    assert last_checkpoint(RunFolder(tmp_path)) is None
