"""The tokens that training sees, and the chat template that makes the same ones for every later reader.

LLaMA-Factory encodes conversations by templates of its own, which need not be the tokenizer's chat template. Before
anything is trained, a chat template is looked for that gives the very ids LLaMA-Factory trains on; it is saved with
the model, loaded anew from there, and compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.errors import RequestError, RunError, unknown
from tuneyard.core.files import write_atomically
from tuneyard.core.fingerprint import CONVERSATION, TEXT, Fingerprint, first_difference
from tuneyard.core.references import ModelRef
from tuneyard.train.library import imported

if TYPE_CHECKING:
    from llamafactory.data import Template
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import PreTrainedTokenizer

CHAT_TEMPLATE = "chat_template.jinja"
"""Where transformers looks for a model's chat template."""

OTHER = "the chat template saved with the model is not the tokenizer's own: it is the one that is trained on"
NONE = (
    "the model has no chat template and `engine.template` names none: prompts and answers are trained on without any "
    "mark between them or at their end"
)


@dataclass(frozen=True)
class Tokens:
    """How a run encodes."""

    fingerprint: Fingerprint
    chat_template: str | None
    """The chat template that gives the same ids; None where training uses no template."""
    note: str | None = None
    """What a person should know of it."""


def fingerprint(model: ModelRef) -> Fingerprint:
    """What the verb `fingerprint` answers: the model as it would be trained without further settings."""
    with imported():
        from llamafactory.hparams import DataArguments, ModelArguments
    arguments = ModelArguments(model_name_or_path=model.name_or_path)
    if model.revision and model.path is None:
        arguments.model_revision = model.revision
    return tokens_of(arguments, DataArguments(), chat=True).fingerprint


def tokens_of(model: ModelArguments, data: DataArguments, chat: bool) -> Tokens:
    """The ids that LLaMA-Factory makes, and the chat template that makes the same.

    Args:
        model: names the tokenizer, with the tokens that are added to it.
        data: names the template.
        chat: whether examples go through the template; false for pre-training.

    Raises:
        RequestError: no such template, one whose tokens the model does not have, or no chat template gives its ids.
    """
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.data.template import TEMPLATES
    from llamafactory.model import load_tokenizer

    if data.template is not None and data.template not in TEMPLATES:
        raise unknown("template", data.template, TEMPLATES, where="engine.template")
    tokenizer = load_tokenizer(model)["tokenizer"]
    came_with = tokenizer.chat_template
    template = get_template_and_fix_tokenizer(tokenizer, data)
    ids = _encoded(template, tokenizer) if chat else None
    refuse_unknown_ids([*(ids or []), tokenizer.eos_token_id, tokenizer.pad_token_id], tokenizer, model, data)
    found = _fingerprint(tokenizer, ids)
    if ids is None:
        return Tokens(found, None)
    matching = _matching(template, tokenizer, found, data.template)
    note = None if matching == came_with else OTHER
    return Tokens(found, matching, NONE if came_with is None and data.template is None else note)


def refuse_unknown_ids(
    ids: list[Any], tokenizer: PreTrainedTokenizer, model: ModelArguments, data: DataArguments
) -> None:
    """Raise RequestError for ids beyond the model's embeddings: on a GPU they end in an error that names nothing."""
    from llamafactory.model import load_config

    known = getattr(load_config(model).get_text_config(), "vocab_size", None) or len(tokenizer)
    beyond = sorted({i for i in ids if i is not None and i >= known})
    if None not in ids and (model.resize_vocab or not beyond):
        return
    names = ", ".join(map(str, tokenizer.convert_ids_to_tokens(beyond))) or "its own marks"
    raise RequestError(
        f"the template {data.template!r} uses tokens that the model does not have: {names}",
        where="engine.template",
        way_out="the template that belongs to the model; or engine.resize_vocab=true, which adds them to the model "
        "(with LoRA then also merge=true: such an adapter does not load on the bare base)",
    )


def _encoded(template: Template, tokenizer: PreTrainedTokenizer) -> list[int]:
    """The conversation up to where the model is to answer, encoded by LLaMA-Factory; None for a token it lacks."""
    answer = {"role": "assistant", "content": ""}
    prompt, _ = template.encode_oneturn(tokenizer, [*CONVERSATION, answer])
    return prompt


def _fingerprint(tokenizer: PreTrainedTokenizer, conversation: list[int] | None) -> Fingerprint:
    from importlib.metadata import version

    ids = [int(i) for i in tokenizer.encode(TEXT, add_special_tokens=False)]
    return Fingerprint(
        worker="train",
        tokenizer_class=type(tokenizer).__name__,
        vocabulary_size=len(tokenizer),
        text_ids=ids,
        conversation_ids=conversation,
        text_tokens=[str(token) for token in tokenizer.convert_ids_to_tokens(ids)],
        chat=conversation is not None,
        versions={name: version(name) for name in ("transformers", "tokenizers")},
    )


def _matching(template: Template, tokenizer: PreTrainedTokenizer, wanted: Fingerprint, name: str | None) -> str:
    for candidate in _candidates(template, tokenizer):
        if _rendered(tokenizer, candidate) == wanted.conversation_ids:
            return candidate
    raise RequestError(
        f"no chat template makes the tokens that the template {name or 'read from the tokenizer'!r} trains on, so "
        "that whoever reads the model later would prompt it otherwise",
        where="engine.template",
        way_out="name the template that LLaMA-Factory has for this model, or leave `engine.template` out: then it is "
        "read from the tokenizer's own chat template",
    )


def _candidates(template: Template, tokenizer: PreTrainedTokenizer) -> Iterator[str]:
    """The tokenizer's own, the same told not to think, and the one that LLaMA-Factory derives from its template."""
    own = tokenizer.chat_template
    if isinstance(own, str):
        yield own
        yield "{%- set enable_thinking = false -%}\n" + own
    try:
        yield template._get_jinja_template(tokenizer)
    except ValueError:  # it has parts that jinja cannot say
        return


def _rendered(tokenizer: PreTrainedTokenizer, chat_template: str | None) -> list[int] | None:
    """The conversation as transformers' readers encode it; None where the template refuses it."""
    from jinja2 import TemplateError

    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
    try:
        text = tokenizer.apply_chat_template(CONVERSATION, chat_template=chat_template, **options)
    except (TemplateError, ValueError, TypeError):  # ValueError: there is none; TypeError: it adds text to nothing
        return None
    return [int(i) for i in tokenizer.encode(str(text), add_special_tokens=False)]


def save_template(tokens: Tokens, folder: Path, trust_remote_code: bool = False) -> None:
    """Have `folder`, in which a tokenizer was saved, carry the chat template that matches, and prove it.

    Args:
        tokens: how the run encoded.
        folder: the folder.
        trust_remote_code: run the tokenizer's own code, as the training did.

    Raises:
        RunError: the tokenizer loaded anew from `folder` gives other ids than those that were trained on.
    """
    from transformers import AutoTokenizer

    file = folder / CHAT_TEMPLATE
    if tokens.chat_template is not None and (not file.is_file() or file.read_text() != tokens.chat_template):
        write_atomically(file, tokens.chat_template)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    conversation = _rendered(tokenizer, None) if tokens.chat_template is not None else None
    difference = first_difference(tokens.fingerprint, _fingerprint(tokenizer, conversation))
    if difference is None and conversation is None and tokens.chat_template is not None:
        difference = "it has no chat template that takes a conversation"
    if difference is not None:
        raise RunError(
            f"the saved tokenizer does not make the tokens that were trained on: {difference}",
            where=str(folder),
            way_out="the weights are whole; save the tokenizer of the base model beside them and compare again",
        )
