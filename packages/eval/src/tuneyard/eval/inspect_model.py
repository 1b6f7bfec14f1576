"""The run's weights behind Inspect's own Hugging Face provider: adapter on top, checked tokenizer in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from inspect_ai.model import Model, get_model

from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.specs import EvalSpec
from tuneyard.eval import inspect_arguments as arguments
from tuneyard.eval import model as models
from tuneyard.eval import tokens
from tuneyard.eval.load_errors import explained
from tuneyard.eval.model import Source


def load(
    spec: EvalSpec, source: Source, training: Fingerprint | None, warn: Callable[[str], None], notes: list[str]
) -> tuple[Model, bool]:
    """The model for `inspect_ai.eval`, and whether its prompts go through the chat template.

    The provider takes no adapter: it is put on top of what the provider loaded, by PEFT.

    Raises:
        RequestError: the tokens differ, or the adapter does not fit.
        SetupError: CUDA, bitsandbytes or the hub is missing.
    """
    models.require_quantization(spec)
    named = spec.engine.get("tokenizer_path")
    encoding = tokens.choose(
        replace(source, weights=named, adapter=None, revision=None) if named else source,
        training,
        apply_chat_template=spec.apply_chat_template,
        allow_mismatch=spec.allow_token_mismatch,
        untrained="if there is one",
    )
    notes += encoding.notes
    for warning in encoding.warnings:
        warn(warning)
    if not encoding.chat:
        notes.append("without a chat template, Inspect joins the messages as `role: text` lines")
    given = _objects(arguments.of_provider(spec, source, models.device(spec), encoding.chat))
    with explained(source.weights, source.adapter):
        model = get_model("hf/local", memoize=False, **given)
        if source.adapter:
            _put_on_top(model, source.adapter)
    _take_tokenizer(model, encoding.tokenizer)
    return model, encoding.chat


def _objects(given: dict[str, Any]) -> dict[str, Any]:
    """Arguments that transformers wants as objects."""
    if "quantization_config" not in given:
        return given
    from transformers import BitsAndBytesConfig

    settings = {k: v for k, v in given["quantization_config"].items() if k != "quant_method"}
    return {**given, "quantization_config": BitsAndBytesConfig(**settings)}


def _put_on_top(model: Model, adapter: str) -> None:
    from peft import PeftModel

    api: Any = model.api
    api.model = PeftModel.from_pretrained(api.model, adapter).eval()


def _take_tokenizer(model: Model, tokenizer: Any) -> None:
    """Give the provider the tokenizer whose ids were compared, set up as the provider sets up its own."""
    api: Any = model.api
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    api.tokenizer = tokenizer
    if not api.tokenizer_call_args and tokenizer.bos_token and tokenizer.bos_token in str(tokenizer.chat_template):
        api.tokenizer_call_args = {"add_special_tokens": False}  # the template writes the BOS token itself
