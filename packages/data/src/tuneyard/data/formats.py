"""Formats: from a row as a dataset has it to a Record.

alpaca      instruction [input] output [system] [history]; so are prompt/response, question/answer and the like
sharegpt    conversations (from/value) or messages (role/content) [tools] [images]
preference  chosen and rejected, with a prompt (alpaca) or a conversation (sharegpt)
kto         an answer, with a label that says whether it is a good one
text        text, for pre-training
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuneyard.data.layouts import Layout, Row, listed
from tuneyard.data.records import Message, Record
from tuneyard.data.turns import IMAGE, BadRow, LeftOut, kind_of_value, read_image, read_turn


def parse(row: Row, layout: Layout) -> Record:
    """A row as a Record.

    Raises:
        BadRow: a column is missing, empty where it must not be, or of the wrong type.
    """
    images: list[str | bytes] = []
    fields = _PARSERS[layout.format](row, layout, images)
    images += _images(_get(row, layout, "images"))
    if images:
        fields["images"] = tuple(_located(image, layout.folder) for image in images)
        _place_images(fields, len(images))
    _add_common(fields, row, layout)
    return Record(**fields)


def _alpaca(row: Row, layout: Layout, images: list[str | bytes]) -> dict[str, Any]:
    prompt = _prompt(row, layout)
    response = _response(row, layout)
    history = _list(row, layout, "history")
    if not history:
        return {"prompt": prompt, "response": response}
    turns: list[Message] = []
    for pair in history:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise BadRow("history must be a list of pairs of texts: what was asked, what was answered")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    answer = [] if response is None else [{"role": "assistant", "content": response}]
    return {"messages": (*turns, {"role": "user", "content": prompt}, *answer)}


def _response(row: Row, layout: Layout) -> str | None:
    """The answer; None where the layout has none, since nothing but questions is wanted."""
    column = layout.columns.get("response")
    if column is None:
        return None
    if column in row and row[column] is None:
        raise LeftOut(f"{column!r} must be text, not null")
    return _text(row, layout, "response")


def _prompt(row: Row, layout: Layout) -> str:
    """Prompt and query as LLaMA-Factory joins them: those that are not empty, on lines of their own."""
    prompt = _text(row, layout, "prompt")
    query = _optional_text(row, layout, "query")
    return "\n".join(text for text in (prompt, query) if text)


def _sharegpt(row: Row, layout: Layout, images: list[str | bytes]) -> dict[str, Any]:
    return _conversation(_turns(_get(row, layout, "messages"), layout, "messages", images))


def _conversation(turns: list[Message]) -> dict[str, Any]:
    if turns and turns[0]["role"] == "system":
        return {"system": turns[0]["content"], "messages": tuple(turns[1:])}
    return {"messages": tuple(turns)}


def _turns(value: Any, layout: Layout, role: str, images: list[str | bytes]) -> list[Message]:
    value = _parsed(value)
    if not isinstance(value, list):
        raise BadRow(f"{layout.columns[role]!r} must be a list of turns, not {kind_of_value(value)}")
    return [read_turn(turn, layout.tags, images) for turn in value]


def _preference(row: Row, layout: Layout, images: list[str | bytes]) -> dict[str, Any]:
    chosen, fore = _answer(row, layout, "chosen")
    rejected, fore_rejected = _answer(row, layout, "rejected")
    if fore != fore_rejected:
        raise BadRow("chosen and rejected are answers to different conversations")
    return {**_asked(row, layout, fore, images), "chosen": chosen, "rejected": rejected}


def _asked(row: Row, layout: Layout, fore: list[Message], images: list[str | bytes]) -> dict[str, Any]:
    """What both answers are answers to: the turns before them in their own lists, else conversation or prompt."""
    if fore:
        return _conversation(fore)
    if "messages" in layout.columns:
        return _sharegpt(row, layout, images)
    if isinstance(_parsed(_get(row, layout, "prompt")), list):
        return _conversation(_turns(_get(row, layout, "prompt"), layout, "prompt", images))
    return {"prompt": _prompt(row, layout)}


def _answer(row: Row, layout: Layout, role: str) -> tuple[str | Message, list[Message]]:
    """An answer, and the turns before it where it is given as the whole conversation."""
    value = _get(row, layout, role)
    if isinstance(value, str):
        return value, []
    turns = _turns(value if isinstance(value, list) else [value], layout, role, [])
    if not turns or turns[-1]["role"] != "assistant":
        raise BadRow(f"{layout.columns[role]!r} must end with an answer of the assistant")
    last = turns.pop()
    return (last if last.get("tool_calls") else last["content"]), turns


def _kto(row: Row, layout: Layout, images: list[str | bytes]) -> dict[str, Any]:
    read = _sharegpt if "messages" in layout.columns else _alpaca
    fields = read(row, layout, images)
    label = _get(row, layout, "label")
    truth = {"true": True, "1": True, "false": False, "0": False}.get(str(label).lower())
    if truth is None:
        raise BadRow(f"{layout.columns['label']!r} must be true or false, not {label!r:.40}")
    return {**fields, "label": truth}


def _plain_text(row: Row, layout: Layout, images: list[str | bytes]) -> dict[str, Any]:
    return {"text": _text(row, layout, "text")}


_PARSERS = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "preference": _preference,
    "kto": _kto,
    "text": _plain_text,
}


def _add_common(fields: dict[str, Any], row: Row, layout: Layout) -> None:
    """System prompt, tools, id, target; and every column that means nothing to us, as metadata."""
    if system := _optional_text(row, layout, "system"):
        fields.setdefault("system", system)
    if tools := _list(row, layout, "tools"):
        fields["tools"] = tuple(tools)
    if (name := _get(row, layout, "id")) is not None:
        fields["id"] = str(name)
    if isinstance(target := _get(row, layout, "target"), str):
        fields["target"] = target
    used = set(layout.columns.values())
    rest = {name: value for name, value in row.items() if name not in used}
    inner = _parsed(rest.get("metadata"))
    if isinstance(inner, dict):
        rest = {**{n: v for n, v in rest.items() if n != "metadata"}, **inner}
    if rest:
        fields["metadata"] = rest


def _get(row: Row, layout: Layout, role: str) -> Any:
    column = layout.columns.get(role)
    return None if column is None else row.get(column)


def _text(row: Row, layout: Layout, role: str) -> str:
    column = layout.columns[role]
    value = row.get(column)
    if isinstance(value, str):
        return value
    if column not in row:
        raise BadRow(f"there is no column {column!r} (there are: {listed(row)})")
    raise BadRow(f"{column!r} must be text, not {kind_of_value(value)}")


def _optional_text(row: Row, layout: Layout, role: str) -> str:
    return "" if _get(row, layout, role) is None else _text(row, layout, role)


def _list(row: Row, layout: Layout, role: str) -> list[Any]:
    value = _parsed(_get(row, layout, role))
    if value is None or value == "":
        return []
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise BadRow(f"{layout.columns[role]!r} must be a list, not {kind_of_value(value)}")
    return value


def _parsed(value: Any) -> Any:
    """A list or object that stands as text, as it must in CSV, and as tools do in LLaMA-Factory's datasets."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _images(value: Any) -> list[str | bytes]:
    value = _parsed(value)
    if value is None or value == "":
        return []
    return [read_image(image) for image in (value if isinstance(value, list) else [value])]


def _located(image: str | bytes, folder: Path | None) -> str | bytes:
    if isinstance(image, bytes):
        return image
    path = (folder or Path()) / image
    if not path.is_file():
        raise BadRow(f"there is no image {path}")
    return str(path.absolute())


def _place_images(fields: dict[str, Any], count: int) -> None:
    """Each image needs its place in the text; where there is none at all, they go before the first words."""
    first = fields["messages"][0] if fields.get("messages") else None
    texts = [m["content"] for m in fields.get("messages", ())] or [fields.get("prompt", "")]
    texts += [fields[key] for key in ("response", "chosen") if isinstance(fields.get(key), str)]
    places = sum(text.count(IMAGE) for text in texts)
    if places == count:
        return
    if places:
        raise BadRow(f"{count} images, but {places} places for one ({IMAGE}) in the text")
    if first is not None:
        fields["messages"] = ({**first, "content": IMAGE * count + first["content"]}, *fields["messages"][1:])
    else:
        fields["prompt"] = IMAGE * count + fields.get("prompt", "")
