"""LLaMA-Factory's keys: type, choices, default and help of each, read off its own dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tuneyard.core.worker import installed
from tuneyard.train.library import imported

DISTRIBUTIONS = ("llamafactory", "transformers", "tokenizers", "peft", "trl", "accelerate", "datasets", "torch")
"""The packages whose versions decide a result, the one that names the keys first."""

SPLIT_AT_COMMAS = frozenset(
    {
        "lora_target",
        "oft_target",
        "additional_target",
        "freeze_trainable_modules",
        "freeze_extra_modules",
        "galore_target",
        "apollo_target",
    }
)
"""Keys that LLaMA-Factory declares as text and takes as a list as well."""

_PLAIN: dict[Any, str] = {int: "int", float: "float", bool: "bool", str: "str", dict: "dict", NoneType: "None"}


def schema() -> dict[str, Any]:
    """What the verb `schema` answers: every key of the five dataclasses that LLaMA-Factory's `train` reads."""
    keys = {f.name: _entry(f, hint) for group in argument_classes() for f, hint in _fields(group)}
    return {"keys": keys, "versions": versions()}


def argument_classes() -> tuple[type, ...]:
    """Model, data, training, fine-tuning and generating arguments, in the order of LLaMA-Factory's parser."""
    with imported():
        from llamafactory.hparams import (
            DataArguments,
            FinetuningArguments,
            GeneratingArguments,
            ModelArguments,
            TrainingArguments,
        )
    return ModelArguments, DataArguments, TrainingArguments, FinetuningArguments, GeneratingArguments


def keys_of(*groups: type) -> set[str]:
    """The keys of some of the dataclasses."""
    return {f.name for group in groups for f, _ in _fields(group)}


def versions() -> dict[str, str]:
    """Distribution -> installed version."""
    found = installed()
    return {name: found[name] for name in DISTRIBUTIONS if name in found}


def _fields(group: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(group)
    return [(f, hints[f.name]) for f in dataclasses.fields(group) if f.init]


def _entry(entry: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:
    named = entry.metadata.get("choices")
    types = dict.fromkeys(_type_names(hint))
    if entry.name in SPLIT_AT_COMMAS:
        types = {"str": None, "list[str]": None, **types}
    return {
        "type": " | ".join(types),
        "choices": _plain(list(named)) if named else _choices(hint),
        "default": _default(entry),
        "help": entry.metadata.get("help", ""),
    }


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _type_names(hint: Any) -> list[str]:
    return [_type_name(alternative) for alternative in _alternatives(hint)]


def _type_name(hint: Any) -> str:
    """`int`, `list[str]` and the like; `any` for what only Python code can make."""
    if _is_enumeration(hint) or get_origin(hint) is Literal:
        return "str"
    origin = get_origin(hint)
    if origin is list:
        return f"list[{_type_name(get_args(hint)[0])}]"
    return _PLAIN.get(origin or hint, "any")


def _is_enumeration(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def _choices(hint: Any) -> list[Any] | None:
    """The allowed values; None where any value of the type is allowed.

    `SomeEnum | str` means the values of the enumeration: transformers turns the text into it.
    """
    for alternative in _alternatives(hint):
        if get_origin(alternative) is Literal:
            return list(get_args(alternative))
        if _is_enumeration(alternative):
            return [member.value for member in alternative]
    return None


def _default(entry: dataclasses.Field[Any]) -> Any:
    if entry.default_factory is not dataclasses.MISSING:
        return _plain(entry.default_factory())
    return None if entry.default is dataclasses.MISSING else _plain(entry.default)


def _plain(value: Any) -> Any:
    """`value` as JSON can say it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
