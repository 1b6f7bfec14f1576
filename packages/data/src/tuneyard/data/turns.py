"""Turns of a conversation: from the many ways datasets write them to messages, and to the way LLaMA-Factory reads.

Two ways are read without being told: ShareGPT's `from`/`value` and the `role`/`content` of chat APIs, with their tool
calls and parts of text and image. What is written is ShareGPT's, with the names that LLaMA-Factory takes by default.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tuneyard.data.records import Message

IMAGE = os.environ.get("IMAGE_PLACEHOLDER", "<image>")
"""Stands in the text where an image belongs; the variable is LLaMA-Factory's own."""

CALL = "function_call"
RESULT = "observation"

_ROLES = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    CALL: CALL,
    RESULT: "tool",
    "tool": "tool",
    "function": "tool",
    "function_response": "tool",
}
_WRITTEN = {"system": "system", "user": "human", "assistant": "gpt", "tool": RESULT}

# What LLaMA-Factory puts between the results of calls made at once: the end and the beginning of a result in the
# templates that allow several.
_BETWEEN_RESULTS = "\n</tool_response>\n<tool_response>\n"
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
_WRITTEN_THOUGHT = "<think>\n{}\n</think>\n\n"
"""A thought before a call of a tool: LLaMA-Factory tells it from the call by exactly this."""


class BadRow(ValueError):
    """Why a row cannot be used; whoever knows the file and the line says so to the user."""


class LeftOut(BadRow):
    """Why LLaMA-Factory would leave a row out without a word."""


@dataclass(frozen=True)
class Tags:
    """How turns are written in a dataset that says so itself."""

    role: str = "from"
    content: str = "value"
    roles: Mapping[str, str] = field(default_factory=lambda: _ROLES)
    """What stands for a role -> system, user, assistant, tool or function_call."""

    @classmethod
    def of_entry(cls, tags: Mapping[str, str]) -> Tags:
        """From `tags` of dataset_info.json. As LLaMA-Factory has it, with any of them given the rest do not default."""
        names = {"user_tag": "user", "assistant_tag": "assistant", "observation_tag": "tool", "function_tag": CALL}
        names["system_tag"] = "system"
        roles = {tags[key]: role for key, role in names.items() if tags.get(key)}
        return cls(tags.get("role_tag", "role"), tags.get("content_tag", "content"), roles)


SHAREGPT_TAGS = Tags(
    roles={"human": "user", "gpt": "assistant", RESULT: "tool", CALL: CALL, "system": "system"},
)
"""What LLaMA-Factory takes where a dataset gives no tags."""


def _tags_for(raw: Mapping[str, Any]) -> Tags:
    return Tags() if "from" in raw else Tags("role", "content")


def read_turn(raw: Any, tags: Tags | None, images: list[str | bytes]) -> Message:
    """One turn as a message; images that stand in its parts are added to `images`, with their place in the text.

    Args:
        raw: the turn as the dataset has it.
        tags: how it is written; None: seen from its keys.
        images: takes the images of the conversation, in order.

    Raises:
        BadRow: no role, an unknown one, or no text.
    """
    if not isinstance(raw, dict):
        raise BadRow(f"a turn must be an object, not {_kind(raw)}")
    tags = tags or _tags_for(raw)
    role = tags.roles.get(raw.get(tags.role, ""))
    if role is None:
        raise BadRow(_unknown_role(raw, tags))
    content = _text_of(raw.get(tags.content), images)
    calls = raw.get("tool_calls")
    if role == CALL:
        return _call_from_text(content or "")
    if role == "assistant" and calls:
        return {"role": role, "content": content or "", "tool_calls": [_call(c.get("function", c)) for c in calls]}
    if content is None:
        raise BadRow(f"a turn of {raw[tags.role]!r} has no text ({tags.content!r})")
    return {"role": role, "content": content}


def _unknown_role(raw: Mapping[str, Any], tags: Tags) -> str:
    if tags.role not in raw:
        return f"a turn has no {tags.role!r} (it has {', '.join(map(str, raw)) or 'nothing'})"
    return f"unknown {tags.role} {raw[tags.role]!r} (known: {', '.join(tags.roles)})"


def _text_of(content: Any, images: list[str | bytes]) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(part, images) for part in content)
    raise BadRow(f"the text of a turn must be text, not {_kind(content)}")


def _part(part: Any, images: list[str | bytes]) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    if kind in ("image", "image_url"):
        given = part.get(kind) or part.get("url") or part.get("path")
        images.append(read_image(given.get("url") if kind == "image_url" and isinstance(given, dict) else given))
        return IMAGE
    raise BadRow(f"a part of a turn must be text or image, not {kind or _kind(part)}")


def read_image(given: Any) -> str | bytes:
    """A path or the bytes of an image, from a path, a data URL, or the {bytes, path} of a hub dataset.

    Raises:
        BadRow: none of these.
    """
    if isinstance(given, dict):
        given = given.get("bytes") or given.get("path")
    if isinstance(given, str) and given.startswith("data:"):
        try:
            return base64.b64decode(given.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise BadRow(f"an image is not valid base64: {error}") from error
    if isinstance(given, str) and given.startswith(("http://", "https://")):
        raise BadRow(f"images are not fetched from the network: {given:.80}")
    if not isinstance(given, str | bytes) or not given:
        raise BadRow(f"an image must be a path, not {_kind(given)}")
    return given.removeprefix("file://") if isinstance(given, str) else given


def _call_from_text(text: str) -> Message:
    """A `function_call` turn: JSON of one call or a list of them, a thought in <think> before it allowed."""
    thought, rest = "", text
    if match := _THOUGHT.fullmatch(text):
        rest = match[2]
        thought = text.removesuffix(rest)
    try:
        calls = json.loads(rest)
    except ValueError as error:
        raise BadRow(f"a {CALL} must be JSON with name and arguments: {error}") from error
    made = [_call(call) for call in (calls if isinstance(calls, list) else [calls])]
    return {"role": "assistant", "content": thought, "tool_calls": made}


def _call(call: Any) -> dict[str, Any]:
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
        raise BadRow("a call of a tool needs name and arguments")
    arguments = call["arguments"]
    if isinstance(arguments, str):  # chat APIs give the arguments as a text of JSON
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise BadRow(f"the arguments of a call are not JSON: {error}") from error
    return {"type": "function", "function": {"name": call["name"], "arguments": arguments}}


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a truth value", int: "a number", float: "a number", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, dict) else type(value).__name__)


kind_of_value = _kind


def written_turn(message: Message, notes: Counter[str]) -> dict[str, str]:
    """A message as LLaMA-Factory's sharegpt format has it."""
    calls = message.get("tool_calls")
    if not calls:
        return {"from": _WRITTEN[message["role"]], "value": message["content"]}
    match = _THOUGHT.fullmatch(message["content"])
    thought = _WRITTEN_THOUGHT.format(match[1].strip("\n")) if match else ""
    if (match[2] if match else message["content"]).strip():
        notes["text beside a tool call left out, since LLaMA-Factory trains on the call alone"] += 1
    plain = [{"name": c["function"]["name"], "arguments": c["function"]["arguments"]} for c in calls]
    value = json.dumps(plain[0] if len(plain) == 1 else plain, ensure_ascii=False)
    return {"from": CALL, "value": thought + value}


def written_turns(messages: Iterable[Message], notes: Counter[str]) -> list[dict[str, str]]:
    """Messages as LLaMA-Factory's sharegpt format has them, the results of calls made at once as one turn."""
    turns: list[dict[str, str]] = []
    for message in messages:
        turn = written_turn(message, notes)
        if turns and turn["from"] == RESULT == turns[-1]["from"]:
            turns[-1]["value"] += _BETWEEN_RESULTS + turn["value"]
        else:
            turns.append(turn)
    return turns


def order_problem(roles: list[str], *, answered: bool) -> str | None:
    """Why LLaMA-Factory would leave a conversation out, or None.

    Args:
        roles: roles of the turns behind the system turn: user, assistant, tool or function_call.
        answered: whether it must end with an answer; else it must end before one.
    """
    sides = (("user", "tool"), ("assistant", CALL))
    for place, role in enumerate(roles):
        if role not in sides[place % 2]:
            wanted = "the user or a tool" if place % 2 == 0 else "the assistant"
            return f"turn {place + 1} of the conversation is {role}'s, where {wanted} must speak"
    if not roles:
        return "the conversation has no turn"
    if (len(roles) % 2 == 0) != answered:
        return f"the conversation ends with {roles[-1]}, where {'an answer' if answered else 'a question'} must stand"
    return None
