"""A conversation in a tokenizer's chat template. The tokenizer is given: nothing here imports an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def in_template(tokenizer: Any, turns: Sequence[dict[str, Any]], **options: Any) -> str:
    """The text of a conversation up to where the answer begins.

    Templates of models that see images may read the parts of a turn only, and leave out without a word what stands
    there as plain text. Such a template is given the turns in parts.

    Args:
        tokenizer: of transformers, with a chat template.
        turns: with plain text as `content`.
        options: for `apply_chat_template`, such as `tools`.

    Raises:
        jinja2.TemplateError: the template refuses the conversation.
        TypeError: it puts together what does not go together.
        ValueError: there is no template.
    """

    def rendered(given: Sequence[dict[str, Any]]) -> str:
        return str(tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=True, **options))

    text = rendered(turns)
    asked = next((str(turn["content"]).strip() for turn in reversed(turns) if turn["role"] == "user"), "")
    if asked in text:
        return text
    in_parts = rendered([{**turn, "content": _parts(turn["content"])} for turn in turns])
    return in_parts if asked in in_parts else text


def _parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
