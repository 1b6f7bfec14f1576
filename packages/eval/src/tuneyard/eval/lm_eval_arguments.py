"""lm-eval's own arguments, made from a resolved spec: for HFLM, for `simple_evaluate`, for its task manager."""

from __future__ import annotations

from functools import cache
from inspect import signature
from typing import Any

from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.specs import EvalSpec, RunSpec
from tuneyard.eval.model import Source

DEFAULT_SEED: int = RunSpec.model_fields["seed"].default

FILE_NAME = "lm_eval.yaml"
"""The file that `lm_eval run --config` takes."""

SEEDS = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")

OF_MANAGER = {
    "include_path": ("str | None", "Folder of task files whose names are known besides lm-eval's own."),
    "metadata": ("dict | None", "Told to tasks that ask for it, such as RULER's max_seq_lengths."),
}
"""Keys of `engine` that go to lm-eval's task manager."""

HANDED_ON = {
    "attn_implementation": ("str | None", "How attention is computed, such as sdpa, eager or flash_attention_2."),
    "device_map": ("str | dict | None", "Where each layer is put; goes to transformers."),
    "max_memory": ("dict | None", "Memory per device that layers may take; goes to transformers."),
    "variant": ("str | None", "Variant of the weights' files, such as fp16; goes to transformers."),
    "use_safetensors": ("bool | None", "Load only safetensors; goes to transformers."),
    "low_cpu_mem_usage": ("bool | None", "Load without a second copy in memory; goes to transformers."),
}
"""Arguments that HFLM hands on to transformers and so does not name itself."""

OWNED = {
    "model": "model",
    "model_args": "model",
    "pretrained": "model",
    "revision": "model",
    "peft": "adapter",
    "tasks": "tasks",
    "num_fewshot": "num_fewshot",
    "limit": "limit",
    "batch_size": "batch_size",
    "device": "gpus",
    "apply_chat_template": "apply_chat_template",
    "dtype": "dtype",
    "load_in_4bit": "quantization_bit",
    "load_in_8bit": "quantization_bit",
    "quantization_config": "quantization_bit",
}
"""lm-eval's keys that the spec has a field for, and that field."""

OURS = ("use_cache", "task_manager", "evaluation_tracker", "log_samples", "verbosity")
"""Keys of `simple_evaluate` that the worker needs for itself."""


OF_API = {
    "max_length": ("int | None", "Longest prompt and answer in tokens, where the server does not tell it."),
    "max_gen_toks": ("int | None", "Most tokens of an answer, where a task does not say it."),
    "timeout": ("int", "Seconds that one request to a server may take."),
    "eos_string": ("str | None", "Text at which a server ends an answer, beside the task's own."),
    "verify_certificate": ("bool", "Whether the certificate of an https server is checked."),
    "ca_cert_path": ("str | None", "Certificates by which it is checked."),
}
"""Keys of lm-eval's models that ask a server (`endpoint`)."""

CONCURRENT = 32
"""What `batch_size: auto` means for a server: requests under way at once."""

RETRIES = 6
"""How often lm-eval sends a request again, up to ten seconds later, before a run gives up."""


def parts(engine: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """`engine` divided into what goes to HFLM, to `simple_evaluate` and to the task manager.

    Raises:
        RequestError: a key that lm-eval does not have, or that the spec or the worker has for itself.
    """
    if not engine:
        return {}, {}, {}
    evaluate, model = keys_of_evaluate(), keys_of_model()
    for key in engine:
        _refuse_taken(key)
        if key not in (*evaluate, *model, *OF_MANAGER, *OF_API):
            raise unknown("key of lm-eval", key, (*evaluate, *model, *OF_MANAGER), where="engine")
    for_manager = {k: v for k, v in engine.items() if k in OF_MANAGER}
    for_evaluate = {k: v for k, v in engine.items() if k in evaluate and k not in OF_MANAGER}
    for_model = {k: v for k, v in engine.items() if k not in for_manager and k not in for_evaluate}
    return for_model, for_evaluate, for_manager


@cache
def keys_of_evaluate() -> list[str]:
    """The parameters of `simple_evaluate`."""
    from lm_eval.evaluator import simple_evaluate

    return [*signature(simple_evaluate).parameters]


@cache
def keys_of_model() -> list[str]:
    """The parameters of HFLM, and those that it hands on to transformers."""
    from lm_eval.models.huggingface import HFLM

    own = signature(HFLM.__init__).parameters.values()
    return [*(p.name for p in own if p.name != "self" and p.kind is not p.VAR_KEYWORD), *HANDED_ON]


def _refuse_taken(key: str) -> None:
    if key in OWNED:
        way_out = f"write it as `{OWNED[key]}`, beside `engine`"
        raise RequestError(f"`{key}` stands in the spec itself", where=f"engine.{key}", way_out=way_out)
    if key in OURS:
        raise RequestError(f"`{key}` is set by the evaluation itself", where=f"engine.{key}", way_out="leave it out")


def of_model(spec: EvalSpec, source: Source, device: str | None) -> dict[str, Any]:
    """HFLM's arguments, as JSON holds them.

    Args:
        spec: resolved.
        source: the model.
        device: cuda or cpu; None where that is not yet known.
    """
    for_model, _, _ = parts(spec.engine)
    given = {
        "pretrained": source.weights,
        "revision": source.revision,
        "peft": source.adapter,
        "dtype": spec.dtype,
        "batch_size": spec.batch_size,
        "device": device,
        "parallelize": True if spread(spec) else None,
    }
    return {k: v for k, v in given.items() if v is not None} | for_model


def of_endpoint(
    spec: EvalSpec, model: str | None, *, known: bool, context: int | None = None
) -> tuple[str, dict[str, Any]]:
    """lm-eval's name of the model that asks a server, and its arguments, as JSON holds them.

    Args:
        spec: resolved.
        model: the name under which the server knows it.
        known: whether its tokenizer is known here.
        context: the longest prompt and answer that the server takes; None: 2048, as lm-eval has it.

    Raises:
        RequestError: a key of `engine` that is for a model loaded here.
    """
    for_model, _, _ = parts(spec.engine)
    for key in for_model:
        if key not in OF_API:
            message = f"`{key}` is for a model that is loaded here, and the server has loaded its own"
            raise RequestError(message, where=f"engine.{key}", way_out="leave it out, or leave `endpoint` out")
    chat = not known and spec.apply_chat_template is not False
    kind = "local-chat-completions" if chat else "local-completions"
    given = {
        "model": model,
        "base_url": f"{spec.endpoint}/{'chat/' if chat else ''}completions",
        "num_concurrent": CONCURRENT if spec.batch_size == "auto" else spec.batch_size,
        "max_retries": RETRIES,
        "seed": spec.seed,
        **({"max_length": context} if context else {}),
    }
    return kind, given | for_model


def of_any(spec: EvalSpec, source: Source | None, device: str | None) -> tuple[str, dict[str, Any]]:
    """lm-eval's name of the model of a spec, loaded here or behind a server, and its arguments."""
    if not spec.endpoint:
        assert source is not None
        return "hf", of_model(spec, source, device)
    kind, given = of_endpoint(spec, spec.endpoint_model, known=source is not None)
    known = {"tokenizer": source.tokenizer, "tokenizer_backend": "huggingface"} if source else {}
    return kind, {k: v for k, v in given.items() if v is not None} | known


def spread(spec: EvalSpec) -> bool:
    """Whether the layers of one model are spread over the leased GPUs."""
    return isinstance(spec.gpus, int) and spec.gpus > 1 and "parallelize" not in spec.engine


def of_evaluate(spec: EvalSpec, chat: bool) -> dict[str, Any]:
    """The arguments of `simple_evaluate`, as JSON holds them; model, tasks and task manager come on top.

    lm-eval's own seeds (0, 1234, 1234, 1234) stand unless the spec names another than the default: with them, the
    worked examples are those that lm-eval's command shows.
    """
    _, for_evaluate, _ = parts(spec.engine)
    seeds = {} if spec.seed == DEFAULT_SEED else dict.fromkeys(SEEDS, spec.seed)
    given = {
        "num_fewshot": spec.num_fewshot,
        "batch_size": spec.batch_size,
        "limit": spec.limit,
        "apply_chat_template": chat,
        "fewshot_as_multiturn": chat,
    }
    return {k: v for k, v in given.items() if v is not None} | seeds | for_evaluate


def command_file(
    model: dict[str, Any], evaluate: dict[str, Any], manager: dict[str, Any], tasks: list[str], kind: str = "hf"
) -> str:
    """The text of a file with which `lm_eval run --config FILE` does the same without us."""
    import yaml

    seeds = [evaluate.get(name, default) for name, default in zip(SEEDS, (0, 1234, 1234, 1234), strict=True)]
    names = ("num_fewshot", "batch_size", "limit", "apply_chat_template", "fewshot_as_multiturn", "gen_kwargs")
    named = (*names, "max_batch_size", "samples", "system_instruction", "predict_only", "confirm_run_unsafe_code")
    model_arguments = {k: v for k, v in model.items() if k not in ("batch_size", "device")}
    document = {
        "model": kind,
        "model_args": model_arguments,
        "tasks": tasks,
        **{k: evaluate[k] for k in named if k in evaluate},
        **({"device": model["device"]} if "device" in model else {}),
        **manager,
        "seed": seeds,
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
