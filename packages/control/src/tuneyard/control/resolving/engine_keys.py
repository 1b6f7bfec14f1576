"""The keys under `engine`: tuneyard's own refused, secrets refused, the rest checked against the installed library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneyard.control.resolving.anchors import ENGINE_FILES
from tuneyard.core.errors import RequestError, nearest, unknown
from tuneyard.core.masking import mask_secrets

_FOLDER = "nothing: outputs go to the run folder (`yard show RUN` names them)"

OWNED: dict[str, dict[str, str]] = {
    "train": {
        "model_name_or_path": "model",
        "model_revision": "model: {reference: owner/name, revision: …}",
        "adapter_name_or_path": "adapter",
        "dataset": "dataset",
        "dataset_dir": "dataset (its source may be a folder with dataset_info.json)",
        "eval_dataset": "eval_dataset",
        "output_dir": _FOLDER,
        "overwrite_output_dir": _FOLDER,
        "seed": "seed",
        "do_train": "nothing: a run of kind train trains",
        "resume_from_checkpoint": "`yard resume RUN`",
        "export_dir": "merge: true",
        "local_rank": "processes",
    },
    "eval": {
        "model": "model",
        "model_args": "model, adapter, dtype, quantization_bit; other arguments of the model are keys of engine",
        "pretrained": "model",
        "revision": "model: {reference: owner/name, revision: …}",
        "peft": "adapter",
        "tasks": "tasks",
        "limit": "limit",
        "num_fewshot": "num_fewshot",
        "batch_size": "batch_size",
        "apply_chat_template": "apply_chat_template",
        "dtype": "dtype",
        "load_in_4bit": "quantization_bit: 4",
        "load_in_8bit": "quantization_bit: 8",
        "quantization_config": "quantization_bit",
        "seed": "seed",
        "device": "gpus",
        "task_args": "tasks: [{task: …, arguments: {…}}]",
        "model_path": "model",
        "torch_dtype": "dtype",
        "max_connections": "batch_size",
        "use_chat_template": "apply_chat_template",
        "log_samples": "nothing: samples are always kept",
        "output_path": _FOLDER,
        "evaluation_tracker": _FOLDER,
        "task_manager": "tasks",
        "log_dir": _FOLDER,
    },
    "serve": {
        "model": "model",
        "revision": "model: {reference: owner/name, revision: …}",
        "tokenizer": "model: a tokenizer of its own would give other tokens than the training",
        "served_model_name": "served_name",
        "host": "host",
        "port": "port",
        "seed": "seed",
        "lora_modules": "adapters",
    },
    "generate": {
        "model": "model",
        "revision": "model: {reference: owner/name, revision: …}",
        "tokenizer": "model: a tokenizer of its own would give other tokens than the training",
        "seed": "seed",
        "max_num_seqs": "batch_size",
    },
}
"""Kind -> the library's key that tuneyard sets itself -> what to use in its place."""

SECRETS = {
    "hf_hub_token": "HF_TOKEN",
    "hub_token": "HF_TOKEN",
    "token": "HF_TOKEN",
    "ms_hub_token": "MODELSCOPE_API_TOKEN",
    "om_hub_token": "OM_TOKEN",
    "swanlab_api_key": "SWANLAB_API_KEY",
}
"""Keys that hold a secret, and the variable that the library reads instead."""

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:api_?key|secret|password)$|^token$|(?:hf|hub|auth|access|api|bearer|refresh|github|gitlab)_token$",
    re.IGNORECASE,
)  # bos_token and its like are no secrets

PPO = "LLaMA-Factory's ppo needs trl <= 0.9.6, which excludes every transformers that LLaMA-Factory works with"


def check_engine(kind: str, engine: Mapping[str, Any]) -> None:
    """What can be said without the library.

    Raises:
        RequestError: a key that tuneyard sets itself, a file that is not there, a secret, or a stage that cannot work.
    """
    for key, value in engine.items():
        if key in OWNED[kind] and value is not None:
            raise RequestError(
                f"engine.{key} is not yours to set: tuneyard does",
                where=f"engine.{key}",
                way_out=f"use {OWNED[kind][key]}",
            )
        if key in ENGINE_FILES and isinstance(value, str) and not value.startswith("{") and not Path(value).is_file():
            raise RequestError(f"no such file: {value}", where=f"engine.{key}")
    refuse_secrets(engine, "engine")
    if kind == "train" and engine.get("stage") == "ppo":
        raise RequestError(
            f"stage ppo does not work: {PPO}",
            where="engine.stage",
            way_out="train on preferences with stage: dpo or kto; a reward model with stage: rm works",
        )


def refuse_secrets(value: Any, where: str) -> None:
    """A spec is written to disk and shown: no token may stand in it.

    Raises:
        RequestError: a key whose name says that it is secret, or a value that has the form of a known token.
    """
    if isinstance(value, Mapping):
        for key, entry in value.items():
            place = f"{where}.{key}" if where else str(key)
            if _SECRET_NAME.search(str(key)) and entry not in (None, "", False, True):
                raise _secret(place, SECRETS.get(str(key)))
            refuse_secrets(entry, place)
    elif isinstance(value, list | tuple):
        for entry in value:
            refuse_secrets(entry, where)
    elif isinstance(value, str) and mask_secrets(value, {}) != value:
        raise _secret(where, None)


def _secret(where: str, variable: str | None) -> RequestError:
    return RequestError(
        "a token or key must not stand in a spec, which is kept and shown",
        where=where,
        way_out=f"leave it out and set the variable {variable or 'that the library reads, such as HF_TOKEN,'} "
        "in your environment",
    )


def without_our_own(kind: str, engine: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's settings without tuneyard's own keys where they say nothing new: null, or `do_train: true`."""
    return {
        key: value
        for key, value in engine.items()
        if not (key in OWNED[kind] and (value is None or (key == "do_train" and value is True)))
    }


def fit_to_schema(engine: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's settings as the installed library takes them.

    Args:
        engine: settings under the library's names.
        schema: `keys` of the worker's schema: name -> type, choices, default.

    Raises:
        RequestError: a key that the installed version does not know (with the nearest), a wrong type or choice.
    """
    keys = schema["keys"]
    for key in engine:
        if key not in keys:
            versions = ", ".join(f"{name} {version}" for name, version in list(schema["versions"].items())[:1])
            raise unknown("key", key, keys, where=f"engine ({versions})" if versions else "engine")
    return {key: _fitted(key, value, keys[key]) for key, value in engine.items()}


def _fitted(key: str, value: Any, entry: Mapping[str, Any]) -> Any:
    choices = entry.get("choices") or []
    if isinstance(value, bool) and choices and not any(isinstance(choice, bool) for choice in choices):
        value = _unread(value, choices)  # YAML reads a bare `no` as false
    if value is None:
        if entry.get("default") is None or _takes(value, entry):
            return value
        raise RequestError(f"engine.{key} is null", way_out=f"leave it out for the default, {entry['default']!r}")
    if value in choices:
        return value
    if any(isinstance(value, type(choice)) for choice in choices):
        guess = nearest(str(value), map(str, choices))
        known = ", ".join(map(str, choices[:20])) + (", …" if len(choices) > 20 else "")
        raise RequestError(
            f"engine.{key}: {value!r} is not one of its values",
            where=f"engine.{key}",
            way_out=f"did you mean {guess!r}?" if guess else f"known: {known}",
        )
    if not _takes(value, entry):
        raise RequestError(
            f"engine.{key} must be {entry['type']} (got {value!r})",
            where=f"engine.{key}",
            way_out="write it in quotes" if "str" in str(entry["type"]) else None,
        )
    return value


def _unread(value: bool, choices: list[Any]) -> Any:
    words = ("no", "off", "false") if value is False else ("yes", "on", "true")
    return next((word for word in words if word in choices), value)


_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "str": (str,),
    "list": (list,),
    "dict": (dict,),
    "none": (type(None),),
    "null": (type(None),),
}


def _takes(value: Any, entry: Mapping[str, Any]) -> bool:
    """Whether a value is of a type such as `int`, `float | None` or `list[str]`; types of other names take any."""
    names = [name.strip().partition("[")[0].lower() for name in _outer_parts(str(entry.get("type", "any")))]
    if any(name not in _TYPES for name in names):
        return True
    allowed = {kind for name in names for kind in _TYPES[name]}
    if isinstance(value, bool):
        return bool in allowed
    return any(isinstance(value, kind) for kind in allowed)


def _outer_parts(text: str) -> list[str]:
    """The alternatives of a type, split at each `|` that is in no bracket."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "|" and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]
