"""Models, adapters and tokenizers that tests make for themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM


def write_adapter(base: Path, folder: Path) -> Path:
    """An adapter that changes what the model says; its numbers are random, not trained."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(r=8, lora_alpha=64, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(str(folder))
    return folder


def merged(base: Path, adapter: Path, folder: Path) -> Path:
    """The adapter merged into its base, with the base's tokenizer."""
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
    model.merge_and_unload().save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(base).save_pretrained(str(folder))
    return folder


def write_other_model(tokenizer_of: Path, folder: Path) -> Path:
    """A model of another width with the same tokenizer."""
    config = LlamaConfig(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(str(folder))
    return folder


def copy_model(model: Path, folder: Path, **config: Any) -> Path:
    """A copy with other entries in config.json."""
    shutil.copytree(model, folder)
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**document, **config}))
    return folder


def copy_with_tokenizer(model: Path, folder: Path, **settings: Any) -> Path:
    """A copy with other entries in tokenizer_config.json; None takes one out."""
    shutil.copytree(model, folder)
    file = folder / "tokenizer_config.json"
    document = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    return folder
