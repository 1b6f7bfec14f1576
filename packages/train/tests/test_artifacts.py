"""What a run leaves: weights that load, an adapter that merges, a YAML that runs without us, a picture, metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from training_runs import Runs, events, local, train

from tuneyard.core.run_folder import RunFolder
from tuneyard.train.leave import metrics
from tuneyard.train.plot import curve, plot_loss, smoothed

SFT = {"stage": "sft", "finetuning_type": "lora"}


def logits(folder: Path, adapter: Path | None = None) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.no_grad():
        return model(torch.tensor([[72, 101, 108, 108, 111]])).logits


@pytest.mark.slow
@pytest.mark.parametrize("engine", [{}, {"use_dora": True}, {"quantization_method": "bnb", "use_rslora": True}])
def test_a_merged_adapter_answers_as_base_and_adapter_do(runs: Runs, engine: dict) -> None:
    run = runs.new({**SFT, **engine, "learning_rate": 0.01}, merge=True)
    job = train(run)
    assert {"adapter", "model"} <= {a.name for a in job.artifacts()}
    merged, apart = logits(run.model), logits(runs.tiny, run.adapter)
    assert (merged - apart).abs().max() < 1e-4
    assert (merged - logits(runs.tiny)).abs().max() > 1e-2


@pytest.mark.slow
def test_added_tokens_are_in_the_merged_model(runs: Runs) -> None:
    from transformers import AutoConfig, AutoTokenizer

    run = runs.new({**SFT, "add_special_tokens": "<think>,</think>", "resize_vocab": True}, merge=True)
    train(run)
    tokenizer: Any = AutoTokenizer.from_pretrained(run.model)
    assert tokenizer.encode("<think>", add_special_tokens=False) == [264]
    assert AutoConfig.from_pretrained(run.model).vocab_size == 320  # padded to a multiple of 64
    assert logits(run.model).shape[-1] == 320


@pytest.mark.slow
def test_an_adapter_is_trained_further(runs: Runs) -> None:
    first = runs.new(SFT)
    train(first)
    second = runs.new({**SFT, "stage": "dpo"}, "pairs", adapter=local(first.adapter), merge=True)
    train(second)
    merged, apart = logits(second.model), logits(runs.tiny, second.adapter)
    assert (merged - apart).abs().max() < 1e-4


@pytest.mark.slow
def test_a_new_adapter_on_top_of_one_is_merged_with_it(runs: Runs) -> None:
    first = runs.new({**SFT, "learning_rate": 0.01}, merge=True)
    train(first)
    engine = {**SFT, "create_new_adapter": True, "learning_rate": 0.01}
    second = runs.new(engine, adapter=local(first.adapter), merge=True)
    train(second)
    assert (logits(second.model) - logits(first.model, second.adapter)).abs().max() < 1e-4


@pytest.mark.slow
def test_weights_take_no_second_copy_on_the_disk(runs: Runs) -> None:
    run = runs.new({"stage": "sft", "finetuning_type": "full"})
    train(run)
    assert os.path.samefile(run.model / "model.safetensors", run.raw / "1" / "model.safetensors")
    assert not (run.raw / "cache").exists()


@pytest.mark.slow
def test_the_yaml_that_is_left_trains_the_same_without_us(runs: Runs, tmp_path: Path) -> None:
    run = runs.new(SFT)
    job = train(run)
    stand_in = tmp_path / "stand-in"
    stand_in.mkdir()
    (stand_in / "sitecustomize.py").write_text("from tuneyard.train.stand_ins import stand_in\nstand_in()\n")
    command = [Path(sys.executable).with_name("llamafactory-cli"), "train", run.artifacts / "llamafactory.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(stand_in), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    output = tmp_path / yaml.safe_load((run.artifacts / "llamafactory.yaml").read_text())["output_dir"]
    again = json.loads((output / "train_results.json").read_text())
    assert again["train_loss"] == pytest.approx(job.metrics["train_loss"].value, abs=1e-6)


@pytest.mark.slow
def test_held_out_data_is_measured_and_told(runs: Runs) -> None:
    run = runs.new({**SFT, "max_steps": 8, "eval_steps": 4}, held_out=True)
    job = train(run)
    told = [(e["step"], e["value"]) for e in events(run, "metric") if e["name"] == "eval_loss"]
    assert [step for step, _ in told] == [4, 8, 8]  # the last one is LLaMA-Factory's own, after training
    assert job.metrics["eval_loss"].value == pytest.approx(told[-1][1])
    assert told[-1][1] < told[0][1]


def history(count: int = 30) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [{"step": n, "loss": 3 / n, "learning_rate": 1e-4} for n in range(1, count + 1)]
    return [*made, {"step": count, "eval_loss": 0.5}, {"step": count, "train_loss": 1.0, "epoch": 1.0}]


def test_the_losses_are_drawn(tmp_path: Path) -> None:
    file = tmp_path / "loss.png"
    assert plot_loss(history(), file, "train-x")
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == 960


def test_without_a_loss_nothing_is_drawn(tmp_path: Path) -> None:
    assert not plot_loss([{"step": 1, "eval_loss": 1.0}], tmp_path / "loss.png", "train-x")
    assert list(tmp_path.iterdir()) == []


def test_a_curve_has_one_point_for_each_step() -> None:
    assert curve([{"step": 2, "loss": 5.0}, {"step": 1, "loss": 7.0}, {"step": 2, "loss": 4.0}], "loss") == [
        (1, 7.0),
        (2, 4.0),
    ]


@given(st.lists(st.floats(0, 100), min_size=1))
def test_smoothing_starts_at_the_first_value_and_stays_between_the_extremes(values: list[float]) -> None:
    line = [value for _, value in smoothed(list(enumerate(values)))]
    assert line[0] == pytest.approx(values[0])
    assert all(min(values) - 1e-9 <= value <= max(values) + 1e-9 for value in line)


def test_the_mean_loss_of_a_resumed_run_counts_every_step_once() -> None:
    log = [{"step": 1, "loss": 8.0}, {"step": 5, "loss": 4.0}, {"step": 10, "loss": 2.0}]
    found = metrics({"train_loss": 0.4, "train_runtime": 9.0}, log, resumed=True)
    assert found == {"train_loss": (8 + 4 * 4 + 5 * 2) / 10, "train_runtime": 9.0, "loss": 2.0}
    assert metrics({"train_loss": 3.4}, log, resumed=False)["train_loss"] == 3.4


def test_metrics_are_numbers_that_json_can_say() -> None:
    assert metrics({"eval_loss": float("nan"), "epoch": 1, "note": "x"}, [], resumed=False) == {"epoch": 1.0}


def test_a_run_that_left_no_weights_in_one_piece_says_how_to_get_them(tmp_path: Path) -> None:
    from tuneyard.core.errors import RunError
    from tuneyard.train.export import collect

    run = RunFolder(tmp_path)
    (run.raw / "1").mkdir(parents=True)
    (run.raw / "1" / "training_args.bin").write_bytes(b"")
    with pytest.raises(RunError, match="no weights") as caught:
        collect(run.raw / "1", run.model)
    assert "stage3_gather_16bit_weights_on_model_save" in str(caught.value.way_out)
