"""LLaMA-Factory's arguments from a spec: what is filled in, what is refused, and a file that its command can read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tuneyard.core.documents import parse_yaml
from tuneyard.core.errors import RequestError
from tuneyard.core.specs import TrainSpec, parse_spec
from tuneyard.train.arguments import DEFAULTS, FIELDS, Data, arguments, as_yaml, library_arguments, processes


def spec(engine: dict[str, Any] | None = None, **fields: Any) -> TrainSpec:
    document = {"kind": "train", "model": "builtin:tiny", "dataset": "rows.jsonl", "gpus": 1, "engine": engine or {}}
    made = parse_spec({**document, **fields}, "spec")
    assert isinstance(made, TrainSpec)
    return made


def values(engine: dict[str, Any] | None = None, data: Data | None = None, **fields: Any) -> dict[str, Any]:
    return library_arguments(spec(engine, **fields), data or Data("/data", ["train"]), "/out", [])


def test_typed_fields_become_llamafactorys_keys() -> None:
    made = values(
        {"lora_rank": 4},
        Data("/d", ["a", "b"], ["c"]),
        model={"reference": "owner/name", "revision": "abc"},
        adapter={"reference": "run:x", "path": "/adapter"},
        seed=7,
    )
    assert made["model_name_or_path"] == "owner/name"
    assert made["model_revision"] == "abc"
    assert made["adapter_name_or_path"] == "/adapter"
    assert (made["dataset_dir"], made["dataset"], made["eval_dataset"]) == ("/d", "a,b", "c")
    assert (made["output_dir"], made["do_train"], made["seed"], made["lora_rank"]) == ("/out", True, 7, 4)


def test_a_run_that_made_an_adapter_is_trained_on_as_base_and_adapter() -> None:
    made = values(model={"reference": "run:x", "path": "/base", "adapter": "/adapter"})
    assert (made["model_name_or_path"], made["adapter_name_or_path"]) == ("/base", "/adapter")


def test_nothing_is_reported_anywhere_unless_asked() -> None:
    assert values()["report_to"] == DEFAULTS["report_to"] == "none"
    assert values({"report_to": "tensorboard"})["report_to"] == "tensorboard"


@pytest.mark.parametrize("key", sorted(FIELDS))
def test_a_key_that_the_spec_has_a_field_for_is_refused_by_name(key: str) -> None:
    with pytest.raises(RequestError) as caught:
        values({key: "x"})
    assert caught.value.where == f"engine.{key}"
    assert FIELDS[key] in str(caught.value.way_out)


def test_ppo_is_refused_with_the_reason_and_the_way_out() -> None:
    with pytest.raises(RequestError) as caught:
        arguments(spec({"stage": "ppo"}))
    assert "trl" in caught.value.message
    assert "dpo" in str(caught.value.way_out)


def test_an_unknown_stage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="grpo") as caught:
        values({"stage": "grpo"})
    assert "dpo, kto, pt, rm, sft" in str(caught.value.way_out)


def test_held_out_data_is_measured_every_epoch_unless_said_otherwise() -> None:
    held_out = Data("/d", ["a"], ["b"])
    assert values(data=held_out)["eval_strategy"] == "epoch"
    assert values({"eval_steps": 5}, held_out)["eval_strategy"] == "steps"
    assert values({"eval_strategy": "no"}, held_out)["eval_strategy"] == "no"
    assert values({"val_size": 0.1})["eval_strategy"] == "epoch"
    assert "eval_strategy" not in values()


def test_early_stopping_without_anything_to_watch_is_refused() -> None:
    with pytest.raises(RequestError, match="nothing measures"):
        values({"early_stopping_steps": 2})
    made = values({"early_stopping_steps": 2, "val_size": 0.1})
    assert (made["metric_for_best_model"], made["greater_is_better"]) == ("eval_loss", False)


def test_without_a_gpu_bf16_is_trained_on_the_cpu_and_said() -> None:
    notes: list[str] = []
    made = library_arguments(spec({"bf16": True}, gpus=0), Data("/d", ["a"]), "/out", notes)
    assert made["bf16"] is True
    assert made["use_cpu"] is True
    assert "bf16" in notes[0]
    assert "use_cpu" not in values({"bf16": True})


def test_without_a_gpu_fp16_is_refused() -> None:
    with pytest.raises(RequestError, match="fp16 needs a GPU"):
        values({"fp16": True}, gpus=0)


def test_one_process_per_gpu_unless_said_otherwise() -> None:
    assert processes(spec(gpus=4)) == 4
    assert processes(spec(gpus=0)) == 1
    assert processes(spec(gpus=0, processes=2)) == 2


def test_the_file_says_the_same_as_the_arguments() -> None:
    answer = arguments(spec({"learning_rate": 1e-5, "lora_target": ["q_proj"], "run_name": "Größe: 'x'\nno"}))
    assert answer["command"] == ["llamafactory-cli", "train", answer["file_name"]]
    assert yaml.safe_load(answer["file"]) == parse_yaml(answer["file"], "file") == answer["arguments"]


def test_datasets_that_are_not_prepared_have_the_names_that_they_will_have() -> None:
    asked = spec({}, dataset=["a.jsonl", "b.jsonl"], eval_dataset=["c.jsonl"])
    answer = arguments(asked)["arguments"]
    assert (answer["dataset"], answer["eval_dataset"]) == ("train,train-2", "eval")


@pytest.mark.parametrize("number", [1e-5, 3e-4, 1e22, 0.1, 5e-324])
def test_numbers_stay_numbers_for_every_reader(number: float) -> None:
    text = as_yaml({"learning_rate": number})
    assert yaml.safe_load(text) == {"learning_rate": number}
