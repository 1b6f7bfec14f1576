"""The model as lm-eval asks it: HFLM with the checked tokenizer, or what the user's own function returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM

from tuneyard.core.errors import RequestError
from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.references import CodeRef, load_code
from tuneyard.core.specs import EvalSpec
from tuneyard.eval import lm_eval_arguments as arguments
from tuneyard.eval import model as models
from tuneyard.eval import tokens
from tuneyard.eval.load_errors import explained
from tuneyard.eval.model import Source

TOKENIZER_OPTIONS = {
    "trust_remote_code": "trust_remote_code",
    "add_bos_token": "add_bos_token",
    "use_fast_tokenizer": "use_fast",
    "subfolder": "subfolder",
}
"""HFLM's arguments that it hands on to the tokenizer, and what they are called there."""

_HFLM: Any = HFLM  # its decorator hides the class from type checkers


class QuantizedLM(_HFLM):
    """HFLM whose weights are loaded in 4 or 8 bit.

    lm-eval would pass `load_in_4bit` on to transformers, which no longer takes it; a configuration that says how the
    weights are quantized goes the way of models that were saved so.
    """

    def __init__(self, *, quantization: dict[str, Any], **arguments: Any) -> None:
        self._quantization = quantization
        super().__init__(**arguments)

    def _get_config(self, pretrained: str, **arguments: Any) -> None:
        super()._get_config(pretrained, **arguments)
        config: Any = self._config
        if getattr(config, "quantization_config", None) is not None:
            raise RequestError("is quantized already", where=pretrained, way_out="leave quantization_bit out")
        config.quantization_config = self._quantization


def load(
    spec: EvalSpec,
    source: Source | None,
    training: Fingerprint | None,
    warn: Callable[[str], None],
    notes: list[str],
) -> tuple[LM, bool]:
    """The model and whether its prompts go through the chat template.

    Args:
        spec: resolved.
        source: the model; None where `spec.lm` gives one.
        training: the tokens as training encoded them.
        warn: told what goes on although a person should know.
        notes: what a reader of the score must know is appended.

    Raises:
        RequestError: the tokens differ, the adapter does not fit, or the function returns no LM.
        SetupError: CUDA, bitsandbytes or the hub is missing.
    """
    if spec.lm is not None:
        return own(spec, spec.lm), bool(spec.apply_chat_template)
    if spec.endpoint:
        return _behind_server(spec, source, training, warn, notes)
    assert source is not None
    models.require_quantization(spec)
    given = arguments.of_model(spec, source, models.device(spec))
    named = {"weights": given["tokenizer"], "adapter": None, "revision": None} if "tokenizer" in given else {}
    encoding = tokens.choose(
        replace(source, **named),
        training,
        apply_chat_template=spec.apply_chat_template,
        allow_mismatch=spec.allow_token_mismatch,
        **{TOKENIZER_OPTIONS[k]: v for k, v in given.items() if k in TOKENIZER_OPTIONS},
    )
    notes += encoding.notes
    for warning in encoding.warnings:
        warn(warning)
    if encoding.add_bos_token is not None:
        given["add_bos_token"] = encoding.add_bos_token
    return _hflm(spec, {**given, "tokenizer": encoding.tokenizer}), encoding.chat


def _behind_server(
    spec: EvalSpec, source: Source | None, training: Fingerprint | None, warn: Callable[[str], None], notes: list[str]
) -> tuple[LM, bool]:
    from tuneyard.eval import endpoint, lm_eval_endpoint

    server = endpoint.connect(spec)
    notes.append(f"asked through the server {server.url}, which calls the model {server.model!r}")
    encoding = endpoint.encoding_for(spec, source, training)
    if encoding is None:
        notes.append("the model behind the server is not known here: it is sent text, which it encodes itself")
    else:
        notes += [*encoding.notes, "the server is sent ids, which the tokenizer here made"]
        for warning in encoding.warnings:
            warn(warning)
    return lm_eval_endpoint.load(spec, server, encoding)


def _hflm(spec: EvalSpec, given: dict[str, Any]) -> LM:
    quantization = models.quantization(spec)
    with explained(given["pretrained"], given.get("peft")):
        return QuantizedLM(quantization=quantization, **given) if quantization else _HFLM(**given)


def own(spec: EvalSpec, reference: CodeRef) -> LM:
    """What the user's function returns. It is called with the resolved spec if it takes an argument.

    Raises:
        RequestError: it cannot be called so, or what it returns is not an LM.
    """
    function = load_code(reference)
    try:
        takes_spec = bool(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise RequestError("is not a function", where=f"{reference.path}:{reference.name}") from error
    lm = function(spec) if takes_spec else function()
    if not isinstance(lm, LM):
        raise RequestError(
            f"returned a {type(lm).__name__}, not an lm_eval.api.model.LM", where=f"{reference.path}:{reference.name}"
        )
    return lm
