"""Whether this environment tokenizes a model as its training did, and what is sent where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneyard.core.chat import in_template
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.fingerprint import CONVERSATION, TEXT, Fingerprint, first_difference
from tuneyard.core.references import ModelRef
from tuneyard.eval.model import Source, source_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Untrained = Literal["none", "if there is one"]


@dataclass(frozen=True)
class Encoding:
    """The tokenizer that is used, whether prompts go through its chat template, and what is to be said of both."""

    tokenizer: PreTrainedTokenizerBase
    chat: bool
    add_bos_token: bool | None = None
    """False where a template's text must get no BOS token of the tokenizer's own; None leaves it to lm-eval."""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def load(model: ModelRef | Source, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer that transformers gives a model in this environment.

    Raises:
        RequestError: there is no tokenizer.
        SetupError: it is on the hub, and the hub cannot be reached.
    """
    source = source_of(model) if isinstance(model, ModelRef) else model
    return _load(source, **options)


def _load(source: Source, **options: Any) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    revision = {"revision": source.revision} if source.revision else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.tokenizer, **revision, **options)
    except (OSError, ValueError) as error:
        raise _no_tokenizer(source, error) from error
    _take_template_of_processor(tokenizer, source, **revision)
    return tokenizer


def _take_template_of_processor(tokenizer: PreTrainedTokenizerBase, source: Source, **revision: str) -> None:
    """Models that see images may have a chat template for their processor alone, which servers take too."""
    from transformers import ProcessorMixin

    if tokenizer.chat_template:
        return
    with suppress(OSError):  # nothing more can be had from the hub
        processor, _ = ProcessorMixin.get_processor_dict(source.tokenizer, **revision)
        tokenizer.chat_template = processor.get("chat_template")


def _no_tokenizer(source: Source, error: Exception) -> RequestError | SetupError:
    if source.folder is None:
        return SetupError(
            f"the tokenizer cannot be had from the hub or its cache: {str(error).splitlines()[0]}",
            where=source.weights,
            way_out="connect to the hub; or `hf download` it on a machine that can and copy the cache; "
            "or give the folder of a downloaded copy as `model`",
        )
    message = f"has no tokenizer that transformers can load: {str(error).splitlines()[0]}"
    return RequestError(message, where=source.tokenizer, way_out="save the tokenizer beside the weights")


def fingerprint_of(tokenizer: PreTrainedTokenizerBase, add_bos_token: bool | None = None) -> Fingerprint:
    """The ids of the fixed text and conversation as lm-eval's HFLM encodes them with this tokenizer.

    Args:
        tokenizer: whose ids are wanted.
        add_bos_token: HFLM's argument of this name.
    """
    ids = [int(i) for i in tokenizer.encode(TEXT, add_special_tokens=False)]
    return Fingerprint(
        worker="eval",
        tokenizer_class=type(tokenizer).__name__,
        vocabulary_size=len(tokenizer),
        text_ids=ids,
        conversation_ids=_conversation_ids(tokenizer, add_bos_token),
        text_tokens=[str(token) for token in tokenizer.convert_ids_to_tokens(ids)],
        versions=_versions(),
    )


def _conversation_ids(tokenizer: PreTrainedTokenizerBase, add_bos_token: bool | None) -> list[int] | None:
    """Ids of the fixed conversation in the chat template; None without a template, or with one that refuses it."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        return None
    try:
        text = in_template(tokenizer, CONVERSATION)
    except (TemplateError, TypeError):
        return None
    # HFLM's rule: text that begins with the BOS token gets no second one, whatever `add_bos_token` says.
    bos = getattr(tokenizer, "bos_token", None)
    bare = add_bos_token is False or bool(bos and text.startswith(bos))
    return [int(i) for i in (tokenizer.encode(text, add_special_tokens=False) if bare else tokenizer.encode(text))]


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("transformers", "tokenizers")}


def choose(
    source: Source,
    training: Fingerprint | None,
    *,
    apply_chat_template: bool | None,
    allow_mismatch: bool,
    untrained: Untrained = "none",
    **options: Any,
) -> Encoding:
    """The tokenizer to evaluate with: one whose ids are those of training.

    First the one that transformers chooses here; where its ids differ, the tokenizer.json that training saved, read
    as it stands.

    Args:
        source: the model.
        training: what training left; None for a model without a run.
        apply_chat_template: put prompts into the chat template; None: exactly when training did.
        allow_mismatch: go on although the ids differ.
        untrained: the chat template of a model without a run: `none`, as lm-eval has it, or `if there is one`, as
            Inspect has it.
        options: for the tokenizer, such as trust_remote_code.

    Raises:
        RequestError: the ids differ, with the first differing text; or a chat template is wanted and there is none.
    """
    tokenizer = load(source, **options)
    chat, notes = _chat(training, apply_chat_template, source, untrained == "none" or not tokenizer.chat_template)
    if training is None:
        return _with_template(Encoding(tokenizer, chat, notes=notes), source)
    for encoding in _candidates(source, tokenizer, chat, notes):
        if _difference(training, encoding) is None:
            return _with_template(encoding, source)
    first = Encoding(tokenizer, chat, notes=notes)
    difference = _difference(training, first)
    if not allow_mismatch:
        raise RequestError(
            f"this environment tokenizes the model differently from the one that trained it: {difference}",
            where=source.tokenizer,
            way_out="install in `eval` the transformers that trained it (the run's environment.json names it); "
            "allow_token_mismatch=true takes the score all the same",
        )
    message = f"token mismatch allowed: {difference}"
    return _with_template(replace(first, notes=[*notes, message], warnings=[message]), source)


def _candidates(source: Source, tokenizer: PreTrainedTokenizerBase, chat: bool, notes: list[str]) -> Iterator[Encoding]:
    """The tokenizer as it comes, then without a BOS token of its own, then the one that training saved, likewise."""
    saved = _as_saved(source)
    kept = f"{type(tokenizer).__name__} gives other ids than training: tokenizer.json is read as training saved it"
    for one, said in ((tokenizer, notes), (saved, [*notes, kept])):
        if one is not None:
            yield Encoding(one, chat, notes=said)
            bare = "no BOS token is put before the chat template, as in training"
            yield Encoding(one, chat, add_bos_token=False, notes=[*said, bare])


def _chat(training: Fingerprint | None, asked: bool | None, source: Source, plain: bool) -> tuple[bool, list[str]]:
    if asked is not None:
        return asked, [f"chat template {'applied' if asked else 'not applied'}, as the spec says"]
    if training is not None:
        did = "applied, as training did" if training.chat else "not applied: training did not either"
        return training.chat, [f"chat template {did}"]
    why = f"the run {source.run} left no fingerprint" if source.run else "the model has no run"
    default = "no chat template is applied" if plain else "its chat template is applied"
    return not plain, [f"{why}: its tokens cannot be compared with training's, and {default}"]


def _with_template(encoding: Encoding, source: Source) -> Encoding:
    if encoding.chat and not encoding.tokenizer.chat_template:
        raise RequestError(
            "the tokenizer has no chat template",
            where=source.tokenizer,
            way_out="apply_chat_template=false sends prompts as they are; or save a chat_template.jinja with the model",
        )
    return encoding


def _difference(training: Fingerprint, encoding: Encoding) -> str | None:
    """Where the ids first differ; the conversation counts only if prompts go through the template."""
    here = fingerprint_of(encoding.tokenizer, encoding.add_bos_token)
    return first_difference(training, here if encoding.chat else here.model_copy(update={"conversation_ids": None}))


def _as_saved(source: Source) -> PreTrainedTokenizerBase | None:
    """tokenizer.json without the class that transformers would build for this kind of model."""
    from transformers import PreTrainedTokenizerFast

    if not (Path(source.tokenizer) / "tokenizer.json").is_file():
        return None
    return PreTrainedTokenizerFast.from_pretrained(source.tokenizer)
