"""The token fingerprint: the ids of a fixed text and a fixed conversation, as one worker really encodes them.

Two environments may tokenize the same model differently without a warning. Training leaves its fingerprint with the
model; every reader makes its own and compares, and no score is taken where they differ unless a person allows it.
"""

from __future__ import annotations

from pydantic import Field

from tuneyard.core.documents import SCHEMA_VERSION, Document

TEXT = (
    "The quick brown fox doesn't jump: it's 12,345.67 m (≈ 7 1/2 miles) away!\n\n"
    "def add(a, b):\n    return a + b  # näïve Straße, 北京, 日本語, привет, مرحبا\n"
    "\t  x = [1, 22, 333, 4444]; y = 'don''t'  \n\nHello   World …<|im_end|></s> 🙂"
)
"""Covers what tokenizers split differently: contractions, digits, runs of spaces, newlines, scripts, special tokens."""

CONVERSATION: list[dict[str, str]] = [
    {"role": "user", "content": "What is 17 + 25?"},
    {"role": "assistant", "content": "17 + 25 = 42."},
    {"role": "user", "content": "And  twice that?\nSay only the number."},
]
"""A conversation that ends where the model is to answer. No system turn: some templates refuse one."""


class Fingerprint(Document):
    """artifacts/fingerprint.json."""

    schema_version: int = SCHEMA_VERSION
    """Version of this document's form."""
    worker: str
    """Which worker made it: train, eval or serve."""
    tokenizer_class: str
    """Class of the tokenizer that was used."""
    vocabulary_size: int
    """Number of tokens, added ones included."""
    text_ids: list[int]
    """Ids of TEXT, without special tokens added."""
    conversation_ids: list[int] | None
    """Ids of CONVERSATION in the chat template, with the start of the answer; null without a template."""
    text_tokens: list[str] = Field(default_factory=list)
    """The pieces of TEXT, id by id, so that a difference can be shown."""
    chat: bool = False
    """Whether training put its examples into the chat template; false for pre-training and base models."""
    versions: dict[str, str] = Field(default_factory=dict)
    """transformers and tokenizers."""


def first_difference(reference: Fingerprint, other: Fingerprint) -> str | None:
    """One sentence on where two fingerprints first differ, or None where they agree."""
    place = _first(reference.text_ids, other.text_ids)
    if place is not None:
        return (
            f"the text is split into {len(reference.text_ids)} tokens by {_name(reference)} and "
            f"{len(other.text_ids)} by {_name(other)}; the first difference is token {place}: "
            f"{_piece(reference, place)} against {_piece(other, place)}"
        )
    if reference.conversation_ids is None or other.conversation_ids is None:
        return None
    place = _first(reference.conversation_ids, other.conversation_ids)
    if place is None:
        return None
    return (
        f"the conversation is encoded differently by {_name(reference)} ({len(reference.conversation_ids)} tokens) and "
        f"{_name(other)} ({len(other.conversation_ids)} tokens), from token {place} on; the chat templates differ"
    )


def _first(a: list[int], b: list[int]) -> int | None:
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return place
    return None if len(a) == len(b) else min(len(a), len(b))


def _name(fingerprint: Fingerprint) -> str:
    version = fingerprint.versions.get("transformers", "?")
    return f"`{fingerprint.worker}` (transformers {version}, {fingerprint.tokenizer_class})"


def _piece(fingerprint: Fingerprint, place: int) -> str:
    if place < len(fingerprint.text_tokens):
        return repr(fingerprint.text_tokens[place])
    return "the end" if place >= len(fingerprint.text_ids) else f"id {fingerprint.text_ids[place]}"
