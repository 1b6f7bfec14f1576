"""Inspect's own arguments, made from a resolved spec: for its Hugging Face provider and for `inspect_ai.eval`."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.specs import EvalSpec
from tuneyard.eval.inspect_tasks import InspectTask
from tuneyard.eval.model import Source, quantization

OWNED = {
    "model": "model",
    "tasks": "tasks",
    "device": "gpus",
    "task_args": "the task's `arguments`",
    "limit": "limit",
    "model_path": "model",
    "torch_dtype": "dtype",
    "dtype": "dtype",
    "load_in_4bit": "quantization_bit",
    "load_in_8bit": "quantization_bit",
    "quantization_config": "quantization_bit",
    "max_connections": "batch_size",
    "use_chat_template": "apply_chat_template",
    "seed": "seed",
}
"""Inspect's keys that the spec has a field for, and that field."""

OURS = (
    "log_dir",
    "log_format",
    "log_header_only",
    "log_samples",
    "run_samples",
    "display",
    "trace",
    "ctl_server",
    "acp_server",
    "model_args",
    "model_base_url",
)
"""Keys of `eval` that the worker needs for itself."""

OF_PROVIDER = (
    "tokenizer_path",
    "chat_template",
    "tokenizer_call_args",
    "enable_thinking",
    "hidden_states",
    "do_sample",
    "trust_remote_code",
    "auto_model_class",
    "attn_implementation",
)
"""Arguments of Inspect's Hugging Face provider (`-M`)."""

DEFAULT_BATCH = 32
"""What `batch_size: auto` means: the provider's own number of prompts at once."""

RETRIES = 6
"""How often a request to a server is sent again before the task fails."""


@cache
def of_eval() -> list[str]:
    """The keys that `inspect_ai.eval` takes, those of generation included."""
    from inspect import signature

    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import GenerateConfigArgs

    named = [n for n, p in signature(inspect_eval).parameters.items() if p.kind is not p.VAR_KEYWORD]
    return [*named, *GenerateConfigArgs.__annotations__]


def parts(engine: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`engine` divided into what goes to the provider and what to `eval`.

    Raises:
        RequestError: a key that Inspect does not have, or that the spec or the worker has for itself.
    """
    for key in engine:
        if key in OWNED:
            way_out = f"write it as {OWNED[key]}, beside `engine`"
            raise RequestError(f"`{key}` stands in the spec itself", where=f"engine.{key}", way_out=way_out)
        if key in OURS:
            message = f"`{key}` is set by the evaluation itself"
            raise RequestError(message, where=f"engine.{key}", way_out="leave it out")
        if key not in (*of_eval(), *OF_PROVIDER):
            raise unknown("key of Inspect", key, (*of_eval(), *OF_PROVIDER), where="engine")
    for_eval = {k: v for k, v in engine.items() if k in of_eval() and k not in OF_PROVIDER}
    return {k: v for k, v in engine.items() if k not in for_eval}, for_eval


def of_provider(spec: EvalSpec, source: Source, device: str | None, chat: bool | None) -> dict[str, Any]:
    """Arguments of Inspect's Hugging Face provider, as JSON holds them.

    Greedy unless `engine` asks for sampling: the provider samples by default, and fails at a temperature of 0.
    """
    for_provider, for_eval = parts(spec.engine)
    spread = isinstance(spec.gpus, int) and spec.gpus > 1
    given = {
        "model_path": source.weights,
        "revision": source.revision,
        "dtype": spec.dtype,
        "quantization_config": quantization(spec),
        "device": "auto" if spread and device == "cuda" else device,
        "use_chat_template": chat,
        "do_sample": bool(for_eval.get("temperature")),
    }
    return {k: v for k, v in given.items() if v is not None} | for_provider


def of_evaluation(spec: EvalSpec) -> dict[str, Any]:
    """Arguments of `inspect_ai.eval` besides task, model and log folder, as JSON holds them."""
    for_provider, for_eval = parts(spec.engine)
    if spec.endpoint and for_provider:
        key = next(iter(for_provider))
        message = f"`{key}` is for a model that is loaded here, and the server has loaded its own"
        raise RequestError(message, where=f"engine.{key}", way_out="leave it out, or leave `endpoint` out")
    batch = DEFAULT_BATCH if spec.batch_size == "auto" else spec.batch_size
    given = {"limit": spec.limit, "max_connections": batch, "seed": spec.seed}
    if spec.endpoint:  # a server samples where nobody says otherwise, and one that is gone would be asked for ever
        given |= {"temperature": 0.0, "max_retries": RETRIES}
    return {k: v for k, v in given.items() if v is not None} | for_eval


def command(
    task: InspectTask, provider: dict[str, Any], evaluation: dict[str, Any], model: list[str] | None = None
) -> list[str]:
    """The words of the nearest command: `inspect eval`, without an adapter, which it does not know."""
    words = ["inspect", "eval", task.spec, *(model or ["--model", "hf/local"])]
    words += [w for k, v in provider.items() for w in ("-M", f"{k}={_word(v)}")]
    words += [w for k, v in task.arguments.items() for w in ("-T", f"{k}={_word(v)}")]
    return words + [w for k, v in evaluation.items() for w in (f"--{k.replace('_', '-')}", _word(v))]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
