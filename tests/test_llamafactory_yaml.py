"""What people already have, a LLaMA-Factory YAML, runs as it is; and what we leave runs without us."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Yard

from tuneyard.control.environments import environment_prefix
from tuneyard.control.workspace import find_workspace
from tuneyard.data.tiny import write_tiny

pytestmark = pytest.mark.slow

# The keys and values of the examples that LLaMA-Factory 0.9.3 publishes as llama3_lora_sft, llama3_lora_dpo and
# llama3_full_sft; only the model and the datasets are others.
SHARED: dict[str, Any] = {
    "model_name_or_path": "./model",
    "trust_remote_code": True,
    "do_train": True,
    "template": "llama3",
    "cutoff_len": 2048,
    "max_samples": 1000,
    "overwrite_cache": True,
    "preprocessing_num_workers": 16,
    "dataloader_num_workers": 4,
    "logging_steps": 10,
    "save_steps": 500,
    "plot_loss": True,
    "overwrite_output_dir": True,
    "save_only_model": False,
    "report_to": "none",
    "per_device_train_batch_size": 1,
    "num_train_epochs": 3.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "bf16": True,
    "ddp_timeout": 180000000,
    "resume_from_checkpoint": None,
}
LORA = {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "all", "gradient_accumulation_steps": 8}
PUBLISHED: dict[str, dict[str, Any]] = {
    "llama3_lora_sft": {
        **SHARED,
        **LORA,
        "stage": "sft",
        "dataset": "identity,alpaca_en_demo",
        "output_dir": "saves/llama3-8b/lora/sft",
        "learning_rate": 1.0e-4,
    },
    "llama3_lora_dpo": {
        **SHARED,
        **LORA,
        "stage": "dpo",
        "pref_beta": 0.1,
        "pref_loss": "sigmoid",
        "dataset": "dpo_en_demo",
        "output_dir": "saves/llama3-8b/lora/dpo",
        "learning_rate": 5.0e-6,
    },
    "llama3_full_sft": {
        **SHARED,
        "stage": "sft",
        "finetuning_type": "full",
        "deepspeed": "examples/deepspeed/ds_z3_config.json",
        "dataset": "identity,alpaca_en_demo",
        "gradient_accumulation_steps": 2,
        "output_dir": "saves/llama3-8b/full/sft",
        "learning_rate": 1.0e-5,
    },
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as a person's LLaMA-Factory checkout: model, data/dataset_info.json, a ZeRO-3 file."""
    folder = tmp_path_factory.mktemp("llamafactory")
    write_tiny(folder / "model")
    add_llama3_tokens(folder / "model")
    data = folder / "data"
    data.mkdir()
    answers = [{"instruction": f"What is {n}+1?", "input": "", "output": str(n + 1)} for n in range(24)]
    pairs = [
        {
            "conversations": [{"from": "human", "value": f"What is {n}+1?"}],
            "chosen": {"from": "gpt", "value": str(n + 1)},
            "rejected": {"from": "gpt", "value": str(n)},
        }
        for n in range(16)
    ]
    (data / "identity.json").write_text(json.dumps(answers[:8]))
    (data / "alpaca_en_demo.json").write_text(json.dumps(answers[8:]))
    (data / "dpo_en_demo.json").write_text(json.dumps(pairs))
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    information = {
        "identity": {"file_name": "identity.json"},
        "alpaca_en_demo": {"file_name": "alpaca_en_demo.json"},
        "dpo_en_demo": {
            "file_name": "dpo_en_demo.json",
            "ranking": True,
            "formatting": "sharegpt",
            "columns": columns,
        },
    }
    (data / "dataset_info.json").write_text(json.dumps(information))
    zero = folder / "examples" / "deepspeed" / "ds_z3_config.json"
    zero.parent.mkdir(parents=True)
    zero.write_text(json.dumps({"train_batch_size": "auto", "zero_optimization": {"stage": 3}}))
    return folder


def add_llama3_tokens(model: Path) -> None:
    """Give the tiny model's tokenizer the tokens of the llama3 template in place of bytes that no text has."""
    path = model / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    names = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"]
    unused = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    taken = {token["id"] for token in tokenizer["added_tokens"]}
    free = [(text, number) for text, number in unused if number not in taken][-len(names) :]
    for name, (text, number) in zip(names, free, strict=True):
        del tokenizer["model"]["vocab"][text]
        tokenizer["model"]["vocab"][name] = number
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        tokenizer["added_tokens"].append({"id": number, "content": name, **flags})
    tokenizer["added_tokens"].sort(key=lambda token: token["id"])
    path.write_text(json.dumps(tokenizer))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_example_runs_as_it_is(yard: Yard, checkout: Path, name: str) -> None:
    path = checkout / f"{name}.yaml"
    path.write_text(yaml.safe_dump(PUBLISHED[name]))
    run, result = yard.run(path)
    steps = [e for e in map(json.loads, run.attempt(1).events.read_text().splitlines()) if e["event"] == "progress"]
    assert steps[-1]["step"] == steps[-1]["total"] > 0
    assert (run.model if "full" in name else run.adapter).is_dir()
    assert not (checkout / "saves").exists()
    assert result["metrics"]["train_loss"]["value"] > 0


def test_what_a_run_leaves_is_trained_again_by_llamafactory_alone(yard: Yard, checkout: Path, tmp_path: Path) -> None:
    path = checkout / "again.yaml"
    short = {**PUBLISHED["llama3_lora_sft"], "bf16": False, "max_steps": 3, "logging_steps": 1}
    path.write_text(yaml.safe_dump({**short, "preprocessing_num_workers": 1, "dataloader_num_workers": 0}))
    run, result = yard.run(path)
    prefix = environment_prefix(find_workspace(ROOT), "train")
    stand_in = tmp_path / "stand-in"
    stand_in.mkdir()
    (stand_in / "sitecustomize.py").write_text("from tuneyard.train.stand_ins import stand_in\nstand_in()\n")
    done = subprocess.run(
        [prefix / "bin" / "llamafactory-cli", "train", run.artifacts / "llamafactory.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(stand_in), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    output = Path(yaml.safe_load((run.artifacts / "llamafactory.yaml").read_text())["output_dir"])
    again = json.loads(((tmp_path / output) / "train_results.json").read_text())
    assert again["train_loss"] == pytest.approx(result["metrics"]["train_loss"]["value"], abs=1e-6)
