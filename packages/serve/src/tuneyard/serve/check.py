"""What the verb `check` answers: whether a chat template can be served with, before a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError
from tuneyard.core.fingerprint import CONVERSATION


def check(path: Path) -> dict[str, Any]:
    """Render the fixed conversation with a chat template (`engine.chat_template`).

    Raises:
        RequestError: no such file, no template, or one that refuses a plain conversation.
    """
    if not path.is_file():
        raise RequestError("no such file", where=str(path))
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        texts, _ = render_jinja_template(
            conversations=[CONVERSATION],
            chat_template=path.read_text(encoding="utf-8"),
            add_generation_prompt=True,
        )
    except (TemplateError, TypeError, UnicodeDecodeError) as error:
        raise RequestError(
            f"is no chat template that renders a conversation: {error}",
            where=str(path),
            way_out="a template is Jinja over `messages`; the worker checks nothing else",
        ) from error
    return {"kind": "chat template", "rendered": texts[0]}
