"""What a row must be to be trained on, beyond its form: something in every turn, images that are whole."""

from __future__ import annotations

from collections.abc import Iterator

from tuneyard.data.image_files import fault
from tuneyard.data.records import Message, Record
from tuneyard.data.turns import BadRow


def check_record(record: Record) -> None:
    """Raise BadRow where a turn is empty, two answers to choose from are one, or an image is broken."""
    for name, text in _texts(record):
        if not text.strip():
            raise BadRow(f"{name} is empty")
        if not text.isascii():
            _check_encodes(name, text)
    if record.chosen is not None and record.chosen == record.rejected:
        raise BadRow("chosen and rejected are the same, from which nothing can be learned")
    for image in record.images:
        if problem := fault(image):
            raise BadRow(problem)


def _texts(record: Record) -> Iterator[tuple[str, str]]:
    """What must not be empty, with its name. A call of a tool needs no text, and a tool may answer nothing."""
    for name in ("prompt", "response", "text"):
        if (text := getattr(record, name)) is not None:
            yield name, text
    for number, turn in enumerate(record.messages or (), 1):
        if turn["role"] != "tool" and not turn.get("tool_calls"):
            yield f"turn {number} ({turn['role']})", turn["content"]
    for name in ("chosen", "rejected"):
        answer: str | Message | None = getattr(record, name)
        if isinstance(answer, str):
            yield name, answer
        elif answer is not None and not answer.get("tool_calls"):
            yield name, answer["content"]


def _check_encodes(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRow(f"{name} holds half of a surrogate pair (at character {error.start})") from error
