"""A conversation in a chat template keeps its text, whatever form of turns the template reads."""

from collections.abc import Callable
from typing import Any

import pytest

from tuneyard.core.chat import in_template

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "  Who was it? "}]


class Tokenizer:
    """The one method of transformers' tokenizers that is asked, with a function for how its template reads a turn."""

    def __init__(self, reads: Callable[[Any], str]) -> None:
        self.reads = reads

    def apply_chat_template(self, turns: Any, tokenize: bool, add_generation_prompt: bool) -> str:
        return "".join(f"[{turn['role']}]{self.reads(turn['content'])}" for turn in turns)


def parts(content: Any) -> str:
    """As `{% for part in content %}{{ part['text'] }}{% endfor %}` does: a letter has no text in it."""
    return "".join(part["text"] if isinstance(part, dict) else "" for part in content)


def either(content: Any) -> str:
    return content if isinstance(content, str) else "given parts"


@pytest.mark.parametrize(
    ("reads", "text"),
    [
        (str.strip, "[system]Be brief.[user]Who was it?"),
        (either, "[system]Be brief.[user]  Who was it? "),
        (parts, "[system]Be brief.[user]  Who was it? "),
        (lambda content: "", "[system][user]"),
    ],
    ids=["text alone", "text or parts", "parts alone", "nothing"],
)
def test_a_template_is_given_what_it_reads(reads: Callable[[Any], str], text: str) -> None:
    assert in_template(Tokenizer(reads), TURNS) == text
