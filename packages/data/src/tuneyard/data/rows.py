"""From a Record to a row of each format, and to the entry of dataset_info.json by which LLaMA-Factory reads the rows.

Every row of a file has the same columns, and each column one type, since the reader takes both from the beginning of
the file. Columns that not every record fills are named here as optional; whoever writes the file fills them up.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.references import DatasetFormat
from tuneyard.data.records import Message, Record
from tuneyard.data.turns import BadRow, LeftOut, order_problem, written_turn, written_turns

Row = dict[str, Any]

OPTIONAL: dict[str, Any] = {
    **dict.fromkeys(("system", "tools", "id", "target", "metadata"), ""),
    "history": [],
    "images": [],
}
"""Columns that a row may lack -> what stands there for nothing."""

_MEDIA = ("system", "history", "tools", "images")
"""Optional columns that LLaMA-Factory reads, by its own names."""


@dataclass(frozen=True)
class RowForm:
    """One way to write records: what a row holds, and what dataset_info.json says of it."""

    format: DatasetFormat
    make: Callable[[Record, Counter[str]], Row]
    """The row of a record; raises BadRow where this form cannot hold it. Counts in its second argument what it had to
    leave out."""
    columns: dict[str, str]
    """LLaMA-Factory's name of a column -> the column; optional ones are added when some row has them."""
    formatting: str = "alpaca"
    extra: dict[str, Any] = field(default_factory=dict)

    def entry(self, file_name: str, present: set[str]) -> dict[str, Any]:
        """The entry of dataset_info.json for a file whose rows have the columns `present`."""
        optional = {name: name for name in _MEDIA if name in present}
        return {
            "file_name": file_name,
            "formatting": self.formatting,
            **self.extra,
            "columns": {**self.columns, **optional},
        }


def form_for(record: Record, format: DatasetFormat | None = None) -> RowForm:
    """The form in which a dataset is written that begins with `record`.

    Args:
        record: the first record.
        format: the format, where it was asked for. None: what the record's fields say.

    Raises:
        RequestError: the record holds nothing of this format.
    """
    format = format or _format_of(record)
    if format not in FORMS:
        raise unknown("format", format, FORMS)
    alone, conversation = FORMS[format]
    return conversation if record.messages is not None else alone


def _format_of(record: Record) -> DatasetFormat:
    if record.text is not None:
        return "text"
    if record.chosen is not None:
        return "preference"
    if record.label is not None:
        return "kto"
    if record.messages is not None:
        return "sharegpt"
    if record.response is not None:
        return "alpaca"
    raise RequestError(
        "the record holds nothing to train on",
        where=record.id,
        way_out="set prompt and response, messages, chosen and rejected, or text",
    )


def extras(record: Record) -> Row:
    """The columns that no trainer reads: id, target and metadata (as JSON, since its keys may differ)."""
    row: Row = {name: value for name in ("id", "target") if (value := getattr(record, name)) is not None}
    if record.metadata:
        row["metadata"] = json.dumps(record.metadata, ensure_ascii=False, default=str)
    return row


def _needed(record: Record, *names: str) -> None:
    for name in names:
        if getattr(record, name) is None:
            raise BadRow(f"the record has no {name}")


def _alpaca(record: Record, notes: Counter[str]) -> Row:
    turns = record.turns()
    if any(m.get("tool_calls") or m["role"] == "tool" for m in turns):
        raise BadRow("alpaca rows hold no calls of tools; write the dataset as sharegpt")
    _ordered(turns, answered=True)
    texts = [m["content"] for m in turns]
    row = {"instruction": texts[-2], "input": "", "output": texts[-1]}
    if len(texts) > 2:
        row["history"] = [texts[n : n + 2] for n in range(0, len(texts) - 2, 2)]
    return row | _optional(record)


def _ordered(turns: list[Message], *, answered: bool) -> None:
    if problem := order_problem([m["role"] for m in turns], answered=answered):
        raise LeftOut(problem)


def _sharegpt(record: Record, notes: Counter[str]) -> Row:
    return {"conversations": _conversations(record, notes, answered=True)} | _optional(record, system=False)


def _conversations(record: Record, notes: Counter[str], *, answered: bool) -> list[dict[str, str]]:
    turns = written_turns(record.turns(), notes)
    names = {"human": "user", "gpt": "assistant", "observation": "tool"}
    if problem := order_problem([names.get(t["from"], t["from"]) for t in turns], answered=answered):
        raise LeftOut(problem)
    return [{"from": "system", "value": record.system}, *turns] if record.system else turns


def _preference(record: Record, notes: Counter[str]) -> Row:
    _needed(record, "prompt", "chosen", "rejected")
    if not isinstance(record.chosen, str) or not isinstance(record.rejected, str):
        raise BadRow("the first record of this dataset has a prompt, so each must, with two texts as answers")
    row = {"instruction": record.prompt, "input": "", "chosen": record.chosen, "rejected": record.rejected}
    return row | _optional(record)


def _preference_turns(record: Record, notes: Counter[str]) -> Row:
    _needed(record, "chosen", "rejected")
    return {
        "conversations": _conversations(record, notes, answered=False),
        "chosen": _reply(record.chosen, notes),
        "rejected": _reply(record.rejected, notes),
    } | _optional(record, system=False)


def _reply(answer: Any, notes: Counter[str]) -> dict[str, str]:
    return written_turn({"role": "assistant", "content": answer} if isinstance(answer, str) else answer, notes)


def _kto(record: Record, notes: Counter[str]) -> Row:
    return {**_alpaca(record, notes), "label": _label(record)}


def _kto_turns(record: Record, notes: Counter[str]) -> Row:
    return {**_sharegpt(record, notes), "label": _label(record)}


def _label(record: Record) -> bool:
    _needed(record, "label")
    if not record.turns()[-1]["content"] and not record.turns()[-1].get("tool_calls"):
        raise BadRow("the answer is empty, from which KTO cannot learn")
    return bool(record.label)


def _text(record: Record, notes: Counter[str]) -> Row:
    _needed(record, "text")
    return {"text": record.text}


def _optional(record: Record, *, system: bool = True) -> Row:
    row: Row = {}
    if record.system and system:
        row["system"] = record.system
    if record.tools:
        row["tools"] = json.dumps(record.tools, ensure_ascii=False)
    if record.images:
        row["images"] = list(record.images)
    return row


_ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
_TURNS = {"messages": "conversations"}
_PAIR = {"chosen": "chosen", "rejected": "rejected"}
_ASKED = {"prompt": "instruction", "query": "input"}

_ALPACA_FORM = RowForm("alpaca", _alpaca, _ALPACA)
_SHAREGPT_FORM = RowForm("sharegpt", _sharegpt, _TURNS, "sharegpt")
_TEXT_FORM = RowForm("text", _text, {"prompt": "text"})

FORMS: dict[str, tuple[RowForm, RowForm]] = {
    "alpaca": (_ALPACA_FORM, _ALPACA_FORM),
    "sharegpt": (_SHAREGPT_FORM, _SHAREGPT_FORM),
    "preference": (
        RowForm("preference", _preference, {**_ASKED, **_PAIR}, "alpaca", {"ranking": True}),
        RowForm("preference", _preference_turns, {**_TURNS, **_PAIR}, "sharegpt", {"ranking": True}),
    ),
    "kto": (
        RowForm("kto", _kto, {**_ALPACA, "kto_tag": "label"}),
        RowForm("kto", _kto_turns, {**_TURNS, "kto_tag": "label"}, "sharegpt"),
    ),
    "text": (_TEXT_FORM, _TEXT_FORM),
}
"""Format -> how records with a prompt are written, and how those with a conversation."""
