"""A random model that sees images: Idefics3 in its smallest form, one of those that vLLM loads without torchvision."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tuneyard.data.tiny import SPECIAL_TOKENS, write_tiny

BEGIN = SPECIAL_TOKENS[-1]
MARKS = ("<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>")
IMAGE_TOKENS = 4
"""An image of 32 x 32 pixels is 16 patches, of which the connector puts four into a token."""

# Written like those of published models of this kind: it begins with the BOS token that the tokenizer would add too,
# reads parts alone, and loses text that does not come in one.
CHAT_TEMPLATE = (
    BEGIN
    + """\
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>' -}}
{%- for part in message['content'] -%}
{{- '<image>' if part['type'] == 'image' else part['text'] -}}
{%- endfor -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- endif -%}
"""
)


def write_vision(folder: Path) -> Path:
    """Write the model into a folder as transformers saves one, its chat template where the processor alone reads it."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = _tokenizer(folder.with_name("text"))
    torch.manual_seed(0)
    common = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2}
    text = {
        **common,
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "max_position_embeddings": 1024,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = Idefics3Config(
        text_config=text,
        vision_config={**common, "hidden_size": 32, "image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    edge = {"longest_edge": 32}
    images = Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    Idefics3Processor(image_processor=images, tokenizer=tokenizer, image_seq_len=IMAGE_TOKENS).save_pretrained(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    return folder


RANK, ALPHA = 8, 16


ADAPTED = re.compile(r"(q_proj|modality_projection\.proj)\.weight$")


def write_adapter(folder: Path, model: Path) -> Path:
    """Write a random LoRA adapter of all queries, and of what connects image and text, as PEFT saves one."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(1)
    parts = {}
    for name, weight in load_file(model / "model.safetensors").items():
        if ADAPTED.search(name):
            module = f"base_model.model.{name.removesuffix('.weight')}"
            parts[f"{module}.lora_A.weight"] = 0.3 * torch.randn(RANK, weight.shape[1])
            parts[f"{module}.lora_B.weight"] = 0.3 * torch.randn(weight.shape[0], RANK)
    folder.mkdir()
    save_file(parts, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merged_answer(model: Path, adapter: Path, prompt: str, images: list[Path], tokens: int) -> str:
    """What transformers answers, greedily, with the adapter's products added to the weights."""
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    from transformers import AutoProcessor, Idefics3ForConditionalGeneration

    processor = AutoProcessor.from_pretrained(model)
    merged: Any = Idefics3ForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    parts = load_file(adapter / "adapter_model.safetensors")
    for name in [name for name in parts if "lora_A" in name]:
        weight = merged.get_parameter(name.removeprefix("base_model.model.").replace(".lora_A", ""))
        weight.data += ALPHA / RANK * parts[name.replace("lora_A", "lora_B")] @ parts[name]
    text = f"{BEGIN}<|user|>{prompt}<|end|><|assistant|>"
    seen = [[Image.open(image).convert("RGB") for image in images]] if images else None
    given = processor(text=text, images=seen, add_special_tokens=False, return_tensors="pt")
    answer = merged.generate(**given, max_new_tokens=tokens, do_sample=False)[0, given["input_ids"].shape[1] :]
    return processor.tokenizer.decode(answer, skip_special_tokens=True)


def _tokenizer(folder: Path) -> Any:
    """That of builtin:tiny with the marks of images, and with a BOS token that it puts before what it encodes."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(write_tiny(folder), bos_token=BEGIN)
    tokenizer.chat_template = None
    tokenizer.add_special_tokens({"additional_special_tokens": [*MARKS]}, replace_extra_special_tokens=False)
    first = (BEGIN, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[first])
    return tokenizer
