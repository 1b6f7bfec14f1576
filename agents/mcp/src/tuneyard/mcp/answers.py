"""What tools are asked and what they answer: typed, bounded, without secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tuneyard.core.documents import Document
from tuneyard.core.masking import masking

CONCISE = 1500
"""Characters that a concise answer has at most, as text and as data."""

DETAILED = 9500
"""The same for a detailed one; both together stay under 20,000."""


class Arguments(Document):
    """Base of what tools are asked: unknown arguments are refused, and a text is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, strict=True)

    response_format: Literal["concise", "detailed"] = "concise"
    """How much is told: concise stays under 1,500 characters, detailed under 20,000."""

    @property
    def detailed(self) -> bool:
        return self.response_format == "detailed"

    @property
    def room(self) -> int:
        """Characters that the answer may have, as text or as data."""
        return DETAILED if self.detailed else CONCISE


class Answer(BaseModel):
    """Base of what tools answer: data, and the same as a text to read."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    def text(self) -> str:
        raise NotImplementedError

    def data(self, room: int) -> dict[str, Any]:
        """The answer as data that fits, what is empty left out, secrets masked."""
        return fit(masked(self.model_dump(mode="json", exclude_none=True)), room)


def masked(value: Any) -> Any:
    """A value with the secrets in all its texts masked."""
    return _masked(value, masking())


def _masked(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: _masked(entry, mask) for key, entry in value.items()}
    return [_masked(entry, mask) for entry in value] if isinstance(value, list) else value


def clip(text: str, room: int) -> str:
    """A text of at most `room` characters, the cut marked."""
    return text if len(text) <= room else text[: max(0, room - 2)].rstrip() + " …"


def fit(value: Any, room: int) -> Any:
    """A value whose JSON has at most `room` characters: the largest texts and lists in it are cut until it fits.

    The last resort: tools choose what to leave out before, and say how to get it.
    """
    while (length := size(value)) > room:
        smaller = _cut_largest(value, length - room)
        if size(smaller) >= length:
            break
        value = smaller
    return value


def size(value: Any) -> int:
    """Characters of a value as JSON."""
    return len(json.dumps(value, ensure_ascii=False))


def _cut_largest(value: Any, excess: int) -> Any:
    if isinstance(value, str):
        return clip(value, max(20, len(value) - excess - 2))
    if isinstance(value, list) and value:
        largest = max(range(len(value)), key=lambda n: size(value[n]))
        if size(value[largest]) > max(100, size(value) // 2):
            return [*value[:largest], _cut_largest(value[largest], excess), *value[largest + 1 :]]
        return value[: max(1, len(value) * 3 // 4)] if len(value) > 1 else [_cut_largest(value[0], excess)]
    if isinstance(value, dict) and value:
        largest = max(value, key=lambda key: size(value[key]))
        return {**value, largest: _cut_largest(value[largest], excess)}
    return value


def call_text(tool: str, **arguments: Any) -> str:
    """A call as it is written in an answer, for whoever wants more."""
    given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
    return f"{tool}({given})"


def lines(*parts: str | None) -> str:
    """Parts of a text under one another, empty ones left out."""
    return "\n".join(part for part in parts if part)
