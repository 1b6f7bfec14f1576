"""The keys of LLaMA-Factory as it is installed, in words that control can check settings against."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tuneyard.train.schema import SPLIT_AT_COMMAS, argument_classes, schema


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    return schema()


def test_every_key_has_type_choices_default_and_help_as_json(answer: dict[str, Any]) -> None:
    assert json.loads(json.dumps(answer)) == answer
    assert len(answer["keys"]) > 300
    for key, entry in answer["keys"].items():
        assert set(entry) == {"type", "choices", "default", "help"}, key
        assert entry["help"], key


@pytest.mark.parametrize(
    ("key", "type", "default"),
    [
        ("learning_rate", "float", 5e-5),
        ("lora_rank", "int", 8),
        ("bf16", "bool", False),
        ("lora_target", "str | list[str]", "all"),
        ("max_samples", "int | None", None),
        ("deepspeed", "dict | str | None", None),
        ("use_dora", "bool", False),
    ],
)
def test_types_and_defaults_are_those_of_the_library(answer: dict[str, Any], key: str, type: str, default: Any) -> None:
    assert answer["keys"][key]["type"] == type
    assert answer["keys"][key]["default"] == default


@pytest.mark.parametrize(
    ("key", "choice"),
    [
        ("stage", "dpo"),
        ("finetuning_type", "freeze"),
        ("pref_loss", "simpo"),
        ("optim", "adamw_torch"),
        ("lr_scheduler_type", "cosine"),
        ("save_strategy", "no"),
        ("quantization_method", "bnb"),
    ],
)
def test_choices_are_listed(answer: dict[str, Any], key: str, choice: str) -> None:
    assert choice in answer["keys"][key]["choices"]


def test_the_version_that_the_keys_belong_to_comes_first(answer: dict[str, Any]) -> None:
    assert next(iter(answer["versions"].items())) == ("llamafactory", "0.9.5")


def test_keys_that_are_split_at_commas_are_taken_as_lists_by_the_library(answer: dict[str, Any]) -> None:
    finetuning: Any = argument_classes()[3]
    for key in SPLIT_AT_COMMAS:
        assert getattr(finetuning(**{key: ["a", "b"]}), key) == ["a", "b"]
        assert getattr(finetuning(**{key: "a,b"}), key) == ["a", "b"]
