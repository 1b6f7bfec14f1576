"""A LLaMA-Factory YAML is taken as it is; what it means in another way here is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneyard.control.resolving.llamafactory_yaml import NOTE
from tuneyard.control.resolving.overrides import parse_words
from tuneyard.control.resolving.request import read_request
from tuneyard.control.resolving.resolve import Resolved
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.specs import TrainSpec
from tuneyard.data.tiny import write_tiny

SFT: dict[str, Any] = {
    "model_name_or_path": "./model",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 8,
    "lora_target": "all",
    "dataset": "identity,alpaca_en_demo",
    "template": "llama3",
    "output_dir": "saves/llama3-8b/lora/sft",
    "overwrite_output_dir": True,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "learning_rate": 1e-4,
    "bf16": True,
    "resume_from_checkpoint": None,
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder laid out as LLaMA-Factory's own: examples/, data/dataset_info.json, and a model."""
    root = tmp_path / "LLaMA Factory"
    for folder in ("examples/deepspeed", "data"):
        (root / folder).mkdir(parents=True)
    write_tiny(root / "model")
    information = {
        "identity": {"file_name": "identity.json"},
        "alpaca_en_demo": {"file_name": "alpaca.json"},
        "pictures": {"file_name": "pictures.json", "columns": {"messages": "messages", "images": "images"}},
    }
    (root / "data" / "dataset_info.json").write_text(json.dumps(information))
    for name in ("identity", "alpaca", "pictures"):
        (root / "data" / f"{name}.json").write_text("[{}]")
    (root / "examples" / "deepspeed" / "z3.json").write_text("{}")
    return root


def resolved(desk: Workspace, path: Path, content: dict[str, Any], *words: str) -> Resolved:
    path.write_text(yaml.safe_dump(content))
    overrides = parse_words(words, desk.path)[1]
    return read_request(path, overrides).resolve(desk, "train")


def lifted(desk: Workspace, path: Path, content: dict[str, Any], *words: str) -> TrainSpec:
    spec = resolved(desk, path, content, *words).spec
    assert isinstance(spec, TrainSpec)
    return spec


def refusal(desk: Workspace, path: Path, content: dict[str, Any]) -> str:
    with pytest.raises(RequestError) as refused:
        resolved(desk, path, content)
    return str(refused.value)


def test_model_and_datasets_are_lifted_out_and_the_rest_stays(desk: Workspace, checkout: Path) -> None:
    found = resolved(desk, checkout / "sft.yaml", {**SFT, "seed": 7})
    spec = found.spec
    assert isinstance(spec, TrainSpec)
    assert NOTE in found.notes
    assert spec.model.path == str(checkout / "model")
    assert [(d.path, d.name) for d in spec.dataset] == [
        (str(checkout / "data"), "identity"),
        (str(checkout / "data"), "alpaca_en_demo"),
    ]
    assert (spec.seed, spec.name, spec.effective_batch_size) == (7, "identity", None)
    lifted_keys = {"model_name_or_path", "do_train", "dataset", "output_dir", "overwrite_output_dir"}
    lifted_keys.add("resume_from_checkpoint")
    assert spec.engine == {key: value for key, value in SFT.items() if key not in lifted_keys}


def test_paths_are_meant_from_the_file_first_and_then_from_where_one_stands(
    desk: Workspace, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {**SFT, "deepspeed": "examples/deepspeed/z3.json"}
    monkeypatch.chdir(checkout)  # as one stands to call LLaMA-Factory's own command
    spec = lifted(desk, checkout / "examples" / "sft.yaml", content)
    assert spec.model.path == str(checkout / "model")
    assert spec.engine["deepspeed"] == str(checkout / "examples" / "deepspeed" / "z3.json")
    write_tiny(checkout / "examples" / "model")
    spec = lifted(desk, checkout / "examples" / "sft.yaml", content)
    assert spec.model.path == str(checkout / "examples" / "model")


def test_other_keys_that_are_lifted(desk: Workspace, checkout: Path) -> None:
    content = {**SFT, "dataset": "identity", "dataset_dir": "./data", "eval_dataset": "alpaca_en_demo"}
    spec = lifted(desk, checkout / "sft.yaml", content)
    assert [d.name for d in spec.eval_dataset] == ["alpaca_en_demo"]


def test_pictures_stay_where_they_are(desk: Workspace, checkout: Path) -> None:
    spec = lifted(desk, checkout / "sft.yaml", {**SFT, "dataset": "pictures"})
    assert spec.engine["media_dir"] == str(checkout / "data")
    assert "media_dir" not in lifted(desk, checkout / "sft.yaml", SFT).engine


def test_overrides_may_use_either_names(desk: Workspace, checkout: Path) -> None:
    path = checkout / "sft.yaml"
    spec = lifted(desk, path, SFT, "learning_rate=1e-5", "engine.lora_rank=16", "seed=3", "model=builtin:tiny")
    assert (spec.engine["learning_rate"], spec.engine["lora_rank"], spec.seed) == (1e-5, 16, 3)
    assert spec.model.reference == "builtin:tiny"
    assert lifted(desk, path, SFT, "dataset=builtin:arithmetic").dataset[0].source == "builtin:arithmetic"
    assert lifted(desk, path, SFT, "dataset=identity").dataset[0].name == "identity"
    rows = desk.path / "rows.jsonl"
    rows.write_text("{}\n")
    assert lifted(desk, path, SFT, "dataset=rows.jsonl").dataset[0].path == str(rows)
    without_model = {key: value for key, value in SFT.items() if key != "model_name_or_path"}
    assert lifted(desk, path, without_model, "model=builtin:tiny").model.reference == "builtin:tiny"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "identify"}, "did you mean 'identity'?"),
        ({"dataset_dir": "nowhere"}, "no such folder"),
        ({"dataset_dir": "REMOTE:llamafactory/demo_data"}, "not on this machine"),
        ({"model_name_or_path": None}, "'model_name_or_path' is missing"),
        ({"dataset": None}, "'dataset' is missing"),
        ({"do_train": False}, "does not train"),
        ({"resume_from_checkpoint": "saves/checkpoint-500"}, "yard resume RUN"),
        ({"adapter_name_or_path": "a,b"}, "names 2 adapters"),
        ({"hf_hub_token": "secret123"}, "HF_TOKEN"),
        ({"lora_rnak": 8}, "did you mean 'lora_rank'?"),
        ({"stage": "ppo"}, "trl"),
    ],
)
def test_what_cannot_be_run_is_refused(desk: Workspace, checkout: Path, changes: dict[str, Any], said: str) -> None:
    assert said in refusal(desk, checkout / "sft.yaml", {**SFT, **changes})


def test_a_spec_of_ours_without_its_kind_is_not_taken_for_one(desk: Workspace, checkout: Path) -> None:
    path = checkout / "spec.yaml"
    path.write_text(yaml.safe_dump({"model": "builtin:tiny", "dataset": "builtin:arithmetic"}))
    with pytest.raises(RequestError, match="'kind' is missing"):
        read_request(path).resolve(desk)
