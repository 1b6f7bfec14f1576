"""`builtin:tiny`: a random Llama-type language model of under a million parameters, written without torch.

The folder holds everything a library expects of a published model: weights, configuration, a byte-level tokenizer and
a chat template. Numbers come from Python's own generator by exact arithmetic alone, so that the same seed gives the
same bytes in every environment and on every platform.
"""

import json
import math
import random
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

from tuneyard.core.files import explain_os_error, write_atomically, write_json

HIDDEN = 128
LAYERS = 2
HEADS = 4
INTERMEDIATE = 256
CONTEXT = 4096
DEVIATION = 0.06
"""Standard deviation of the weights: at the usual 0.02 so small a model learns half as fast."""

PAD = "<|pad|>"
SYSTEM = "<|system|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END = "<|end|>"
SPECIAL_TOKENS = (PAD, SYSTEM, USER, ASSISTANT, END, "<|reserved_0|>", "<|reserved_1|>", "<|reserved_2|>")
VOCABULARY = 256 + len(SPECIAL_TOKENS)

# A role is one token, so that a turn costs three tokens besides its text. An empty system message is left out, as
# trainers that take the template apart do.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] not in ['system', 'user', 'assistant'] -%}
{{- raise_exception('unknown role: ' + message['role']) -}}
{%- endif -%}
{%- if message['role'] != 'system' or message['content'] -%}
{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- endif -%}
"""


def write_tiny(folder: Path | str, seed: int = 0) -> Path:
    """Write the model into `folder`, made if missing, and return it; files of the same names are replaced.

    Raises:
        SetupError: the disk is full, or the folder is not one that may be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    documents = {
        "config.json": _config(),
        "generation_config.json": _generation_config(),
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": _tokenizer_config(),
        "special_tokens_map.json": {"eos_token": END, "pad_token": PAD},
    }
    for name, document in documents.items():
        write_json(folder / name, document)
    write_atomically(folder / "chat_template.jinja", CHAT_TEMPLATE)
    write_atomically(folder / "model.safetensors", _safetensors(seed))
    return folder


def shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight."""
    weights: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        weights |= {f"{prefix}self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        weights |= {f"{prefix}mlp.{name}_proj.weight": (INTERMEDIATE, HIDDEN) for name in ("gate", "up")}
        weights[f"{prefix}mlp.down_proj.weight"] = (HIDDEN, INTERMEDIATE)
        weights |= {f"{prefix}{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    return weights | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def parameters() -> int:
    """How many parameters the model has."""
    return sum(math.prod(shape) for shape in shapes().values())


def _safetensors(seed: int) -> bytes:
    """The format is the header's length as 8 little-endian bytes, the header as JSON, then the weights."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes().items():
        end = start + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format asks for weights aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + b"".join(_weights(seed))


def _weights(seed: int) -> Iterator[bytes]:
    for name, shape in shapes().items():
        numbers = array("f", [1.0]) * HIDDEN if len(shape) == 1 else _uniform(f"{seed}:{name}", shape)
        if sys.byteorder == "big":
            numbers.byteswap()
        yield numbers.tobytes()


def _uniform(seed: str, shape: tuple[int, ...]) -> "array[float]":
    """Uniform, not Gaussian: a logarithm or cosine may differ in its last bit from one C library to the next."""
    integers = array("I", random.Random(seed).randbytes(4 * math.prod(shape)))
    if sys.byteorder == "big":
        integers.byteswap()
    scale = DEVIATION * math.sqrt(3) / 2**31
    return array("f", [(integer - 2**31) * scale for integer in integers])


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": DEVIATION,
        "tie_word_embeddings": False,
        "use_cache": True,
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": 256 + SPECIAL_TOKENS.index(END),
        "pad_token_id": 256 + SPECIAL_TOKENS.index(PAD),
    }


def _generation_config() -> dict[str, object]:
    return {
        "do_sample": False,
        "eos_token_id": 256 + SPECIAL_TOKENS.index(END),
        "pad_token_id": 256 + SPECIAL_TOKENS.index(PAD),
    }


def _tokenizer() -> dict[str, object]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": 256 + i, "content": token, **flags} for i, token in enumerate(SPECIAL_TOKENS)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {character: byte for byte, character in enumerate(_byte_characters())}
            | {token: 256 + i for i, token in enumerate(SPECIAL_TOKENS)},
            "merges": [],
        },
    }


def _byte_characters() -> Iterator[str]:
    """The printable character that byte-level tokenizers write for each byte: itself, or the next free one from 256."""
    free = 256
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            yield chr(byte)
        else:
            yield chr(free)
            free += 1


def _tokenizer_config() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [token for token in SPECIAL_TOKENS if token not in (PAD, END)],
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "padding_side": "right",
    }
