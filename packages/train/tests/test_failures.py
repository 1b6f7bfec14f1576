"""Every mistake is told as what it is, with the way out: a wrong request, a missing package, broken weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from training_runs import Runs, events, finish, local, train, write_data

from tuneyard.core.errors import RequestError, SetupError, TuneyardError
from tuneyard.core.run_folder import RunFolder

pytestmark = pytest.mark.slow

SFT = {"stage": "sft", "finetuning_type": "lora"}


def error_of(run: RunFolder) -> TuneyardError:
    """What training the run raises; it must be before the first step."""
    with pytest.raises(TuneyardError) as caught:
        train(run)
    assert events(run, "progress") == []
    return caught.value


def test_an_unknown_key_is_told_with_the_nearest(runs: Runs) -> None:
    error = error_of(runs.new({**SFT, "lora_rnk": 8}))
    assert (type(error), error.message) == (RequestError, "unknown key 'lora_rnk'")
    assert "lora_rank" in str(error.way_out)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"finetuning_type": "full", "quantization_bit": 4, "quantization_method": "hqq"}, "LoRA or OFT"),
        ({"val_size": 0.1, "streaming": True}, "integer val size"),
        ({"pure_bf16": True}, "pure_bf16"),
        ({"neat_packing": True, "stage": "pt"}, "neat_packing"),
        ({"optim": "sdg"}, "sdg"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_that_llamafactory_refuses_are_a_wrong_request(runs: Runs, engine: dict, words: str) -> None:
    error = error_of(runs.new({**SFT, **engine}))
    assert isinstance(error, RequestError)
    assert words in error.message


@pytest.mark.parametrize(
    ("engine", "package"),
    [
        ({"quantization_bit": 4}, "bitsandbytes"),
        ({"enable_liger_kernel": True}, "liger-kernel"),
        ({"use_adam_mini": True}, "adam-mini"),
        ({"report_to": "wandb"}, "wandb"),
        ({"use_swanlab": True}, "swanlab"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_missing_package_is_a_wrong_setup_and_named(runs: Runs, engine: dict, package: str) -> None:
    error = error_of(runs.new({**SFT, **engine}))
    assert isinstance(error, SetupError)
    assert package in f"{error.message} {error.way_out}"
    assert "pixiw install -e train" in str(error.way_out)


def test_pairs_are_wanted_where_there_are_single_answers(runs: Runs) -> None:
    error = error_of(runs.new({"stage": "dpo", "finetuning_type": "lora"}, "alpaca"))
    assert isinstance(error, RequestError)
    assert "pairs of a chosen and a rejected answer" in error.message


def test_single_answers_are_wanted_where_there_are_pairs(runs: Runs) -> None:
    error = error_of(runs.new(SFT, "pairs"))
    assert "single answers, not pairs" in error.message


def test_no_example_that_can_be_used_is_told(runs: Runs) -> None:
    run = runs.new(SFT)
    rows = [{"instruction": "Why?", "input": "", "output": None}] * 3
    (run.data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    error = error_of(run)
    assert isinstance(error, RequestError)
    assert "no example of the dataset can be used" in error.message


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "copy")


def test_weights_that_are_cut_off_are_told(runs: Runs, copy: Path) -> None:
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[: len(data) // 2])
    error = error_of(runs.new(SFT, model=local(copy)))
    assert isinstance(error, RequestError)
    assert "weights cannot be read" in error.message
    assert error.where == str(copy)


def test_a_broken_tokenizer_is_told(runs: Runs, copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")
    error = error_of(runs.new(SFT, model=local(copy)))
    assert isinstance(error, RequestError)
    assert "tokenizer" in error.message


def test_an_adapter_for_another_base_is_told(runs: Runs, copy: Path) -> None:
    first = runs.new(SFT)
    train(first)
    config: dict[str, Any] = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "intermediate_size": 128}))
    engine = {**SFT, "train_from_scratch": True}
    error = error_of(runs.new(engine, model=local(copy), adapter=local(first.adapter)))
    assert isinstance(error, RequestError)
    assert "adapter does not fit" in error.message


def test_a_module_that_the_model_lacks_is_told(runs: Runs) -> None:
    error = error_of(runs.new({**SFT, "lora_target": "query_proj"}))
    assert isinstance(error, RequestError)
    assert (error.where, error.way_out) == ("engine.lora_target", "engine.lora_target=all")


def test_a_full_disk_is_a_wrong_setup(runs: Runs) -> None:
    run = runs.new({**SFT, "save_strategy": "no"})
    (run.raw / "1").mkdir(parents=True)
    (run.raw / "1" / "trainer_state.json").symlink_to("/dev/full")
    with pytest.raises(SetupError, match="No space left on device") as caught:
        train(run)
    assert "df -h" in str(caught.value.way_out)


def test_an_error_that_nobody_foresaw_stays_as_it_is(runs: Runs) -> None:
    run = runs.new(SFT)
    shutil.rmtree(run.data)
    write_data(run.data, {"train": "alpaca"})
    (run.data / "train.jsonl").unlink()
    with pytest.raises(ValueError, match=r"train\.jsonl not found"):
        train(run)


@pytest.mark.parametrize(
    ("engine", "code", "kind"), [({"lora_rnk": 8}, 2, "request"), ({"quantization_bit": 4}, 3, "setup")]
)
def test_the_exit_code_says_whose_mistake_it_was(runs: Runs, engine: dict, code: int, kind: str) -> None:
    ended, result = finish(runs.new({**SFT, **engine}))
    assert ended == code
    assert (result["status"], result["failure"]["kind"]) == ("failed", kind)
    assert result["failure"]["way_out"]
