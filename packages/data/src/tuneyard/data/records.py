"""Records: what a corpus yields, a dataset folder is written from, an evaluation scores and a reward sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Any, Literal

from tuneyard.core.errors import RequestError, unknown

Message = dict[str, Any]
"""One turn: `role` (system, user, assistant or tool), `content`, and for an assistant that calls tools `tool_calls`,
a list of {"type": "function", "function": {"name", "arguments"}}, as chat templates take them."""

ROLES = ("system", "user", "assistant", "tool")

HELD_OUT = 10
"""One problem in this many belongs to the test split, where `split_of` is not told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One example. Which fields are set says what it is good for; nothing is checked here, for there may be millions.

    `record_from` checks fields that a person's code returns.
    """

    id: str | None = None
    """Name of the example within its corpus; null where it has none."""
    prompt: str | None = None
    """What is asked, where it is one text; else `messages`."""
    response: str | None = None
    """What is to be answered to `prompt`."""
    messages: tuple[Message, ...] | None = None
    """A conversation without its system turn. It ends with the answer, or before it where there is `chosen`."""
    chosen: str | Message | None = None
    """The better of two answers."""
    rejected: str | Message | None = None
    """The worse of two answers."""
    label: bool | None = None
    """Whether the answer is a good one (KTO)."""
    text: str | None = None
    """Text for pre-training."""
    system: str | None = None
    """The system prompt."""
    tools: tuple[dict[str, Any], ...] = ()
    """Descriptions of the tools that may be called, as JSON schemas."""
    images: tuple[str | bytes, ...] = ()
    """Absolute paths of images, or their bytes, in the order of the `<image>` places in the text."""
    target: str | None = None
    """The answer that a score compares with."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Whatever else is known about it."""

    def turns(self) -> list[Message]:
        """The conversation without its system turn, however it was given."""
        if self.messages is not None:
            return list(self.messages)
        turns: list[Message] = [] if self.prompt is None else [{"role": "user", "content": self.prompt}]
        if self.response is not None:
            turns.append({"role": "assistant", "content": self.response})
        return turns


FIELDS = tuple(f.name for f in fields(Record))

_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "prompt", "response", "text", "system", "target"), (str,)),
    "chosen": (str, dict),
    "rejected": (str, dict),
    "label": (bool,),
    "messages": (list, tuple),
    "tools": (list, tuple),
    "images": (list, tuple),
    "metadata": (dict,),
}
_SEQUENCES = ("messages", "tools", "images")


def record_from(given: Mapping[str, Any]) -> Record:
    """A Record from its fields as a person's code wrote them; null stands for a field that is not there.

    Raises:
        RequestError: an unknown field (with the nearest), or a value of the wrong type.
    """
    known: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _TYPES:
            raise unknown("field of a record", str(name), FIELDS)
        if value is None:
            continue
        if not isinstance(value, _TYPES[name]):
            wanted = " or ".join(t.__name__ for t in _TYPES[name])
            raise RequestError(f"{name} must be {wanted}, not {type(value).__name__}: {value!r:.80}")
        known[name] = tuple(value) if name in _SEQUENCES else value
    for message in known.get("messages", ()):
        check_message(message)
    return Record(**known)


def check_message(message: Any) -> None:
    """Raise RequestError where a turn has no known role or no text."""
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        raise RequestError(f"a message needs role and content, both text: {message!r:.120}")
    if message.get("role") not in ROLES:
        raise unknown("role of a message", str(message.get("role")), ROLES)


def problem_of(record: Record) -> str:
    """The text that makes a record the problem it is: what is asked, white space evened out, answers left out."""
    if record.text is not None:
        asked: Iterable[str] = (record.text,)
    elif record.messages is None:
        asked = (record.prompt or "",)
    else:
        asked = (str(m["content"]) for m in record.messages if m["role"] == "user")
    return "\n".join(" ".join(text.split()) for text in asked)


def split_of(record: Record, held_out: int = HELD_OUT) -> Literal["train", "test"]:
    """The split a record belongs to, from the hash of its problem alone.

    No seed, order or size of a corpus moves a problem from test to train, and doubles land on the same side.

    Args:
        record: any record.
        held_out: one problem in this many goes to test.
    """
    chance = int.from_bytes(blake2b(problem_of(record).encode("utf-8", "surrogatepass"), digest_size=8).digest())
    return "test" if chance % held_out == 0 else "train"
