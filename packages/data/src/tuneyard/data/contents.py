"""What a record says, as one text: what rows are compared by, to find those that say the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal
from unicodedata import normalize

from tuneyard.data.records import Message, Record

Dedupe = Literal["exact", "normalised", "no"]
"""Which rows count as the same: those that say the same; also if they differ in case, white space or the way accents
are encoded; none."""


Said = tuple[str, ...]
"""What a record says, in parts: what is asked, the answers, the system prompt, tools. What is no text begins with
NUL."""


def contents(record: Record) -> Said:
    """All that is trained on of a record. The same whether it stands as a prompt or as a conversation."""
    asked, answers = _asked_and_answer(record)
    said = (asked, *answers, record.system or "")
    if record.tools:
        said += (json.dumps(record.tools, ensure_ascii=False, sort_keys=True),)
    if record.images:
        images = [blake2b(i).hexdigest() if isinstance(i, bytes) else i for i in record.images]
        said += ("\0".join(["", *images]),)
    return said


def text_of(said: Said) -> str:
    """The text of a record, its parts under one another."""
    return "\n".join(part for part in said if part and part[0] != "\0")


def _asked_and_answer(record: Record) -> tuple[str, list[str]]:
    if record.text is not None:
        return record.text, []
    turns = record.turns()
    if record.chosen is not None and record.rejected is not None:
        return _joined(turns), [_answer(record.chosen), _answer(record.rejected)]
    if not turns:
        return "", []
    answer = [_said(turns[-1])]
    return _joined(turns[:-1]), answer if record.label is None else [*answer, f"\0{record.label}"]


def _joined(turns: list[Message]) -> str:
    if len(turns) == 1 and turns[0]["role"] == "user":
        return turns[0]["content"]
    return "\1".join(f"{turn['role']}\2{_said(turn)}" for turn in turns)


def _answer(answer: str | Message) -> str:
    return answer if isinstance(answer, str) else _said(answer)


def _said(turn: Message) -> str:
    calls = turn.get("tool_calls")
    return turn["content"] + json.dumps(calls, ensure_ascii=False, sort_keys=True) if calls else turn["content"]


def normalised(text: str) -> str:
    """The text without what does not change what it says: case, white space, the way accents are encoded."""
    if not text.isascii():
        return " ".join(normalize("NFC", text).casefold().split())
    text = text.lower()  # the same, in a quarter of the time
    for space in _SPACES:
        if space in text:
            text = text.replace(space, " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text.strip(" ")


_SPACES = [character for character in map(chr, range(128)) if character.isspace() and character != " "]


def keys(said: Iterable[Said], dedupe: Dedupe) -> list[int]:
    """A short name for what each record says: its hash, good within this process.

    Two of a million records that differ have the same about once in 40 million times.
    """
    if dedupe == "exact":
        return list(map(hash, said))
    return [hash(tuple(map(normalised, parts))) for parts in said]
