"""Rows that stay as their author wrote them: only checked, and cut down to the columns that LLaMA-Factory reads.

A projection belongs to an entry of dataset_info.json, the author's own or one made up from a Layout. It refuses what
would end a training on the way, with the reason, and leaves out what LLaMA-Factory would leave out without a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.core.references import DatasetFormat
from tuneyard.data.rows import OPTIONAL
from tuneyard.data.turns import (
    CALL,
    IMAGE,
    SHAREGPT_TAGS,
    BadRow,
    LeftOut,
    Tags,
    kind_of_value,
    order_problem,
    read_turn,
)

Row = dict[str, Any]

MEDIA = ("images", "videos", "audios")
TEXTS = frozenset({"prompt", "query", "response", "system", "chosen", "rejected"})
NEEDED = frozenset({"prompt", "response", "chosen", "rejected", "messages", "kto_tag"})
"""Columns that must be there wherever an entry names them."""


@dataclass(frozen=True)
class Projection:
    """What of a row is read, under LLaMA-Factory's names."""

    columns: dict[str, str]
    """LLaMA-Factory's name of a column -> the column."""
    formatting: str = "alpaca"
    settings: dict[str, Any] = field(default_factory=dict)
    """What else the entry says: ranking, tags, split, num_samples."""
    folders: tuple[Path, ...] = ()
    """Folders in which relative paths of images, videos and audio are looked for."""
    lenient: bool = False
    """Whether rows that LLaMA-Factory would leave out may be left out; else they are refused."""

    @property
    def ranking(self) -> bool:
        return bool(self.settings.get("ranking"))

    @property
    def format(self) -> DatasetFormat:
        if self.ranking:
            return "preference"
        if "kto_tag" in self.columns:
            return "kto"
        if self.formatting != "alpaca":
            return "sharegpt"
        return "alpaca" if "response" in self.columns else "text"

    @property
    def tags(self) -> Tags:
        given = self.settings.get("tags")
        return Tags.of_entry(given) if given else SHAREGPT_TAGS

    def plain(self, row: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The columns of `row`, where rows with these columns, all of them text, need no change; else None."""
        roles = {column: role for role, column in self.columns.items()}
        if self.formatting != "alpaca" or len(roles) < len(self.columns):
            return None
        return tuple(row) if all(roles.get(column) in TEXTS for column in row) and not self._lacks(row) else None

    def _lacks(self, row: Mapping[str, Any]) -> list[str]:
        return [c for role, c in self.columns.items() if role in NEEDED and c not in row]

    def __call__(self, row: Row) -> Row:
        """The row as it is written.

        Raises:
            BadRow: a column is missing or holds what it must not.
            LeftOut: LLaMA-Factory would leave the row out.
        """
        out: Row = {}
        for role, column in self.columns.items():
            if column in row:
                value = READERS[role](self, column, row[column])
                if role in NEEDED or value not in ("", []):
                    out[column] = value
        if missing := self._lacks(row):
            raise BadRow(f"there is no column {missing[0]!r} (there are: {', '.join(map(str, row)) or 'none'})")
        self._check_places(out)
        if "kto_tag" in self.columns:
            self._check_answered(out)
        return out

    def _check_answered(self, row: Row) -> None:
        """LLaMA-Factory tells a good answer from a bad one by which of two places is empty."""
        if self.formatting == "alpaca":
            answer = row.get(self.columns.get("response", ""))
        else:
            answer = row[self.columns["messages"]][-1][self.tags.content]
        if not answer:
            raise BadRow("the answer is empty, from which KTO cannot learn")

    def _check_places(self, row: Row) -> None:
        """As many places for images in the text as there are images, or training would end there."""
        column = self.columns.get("images")
        if column is None or column not in row:
            return
        texts = [row.get(c, "") for role, c in self.columns.items() if role in (*TEXTS, "messages", "history")]
        places = json.dumps(texts, ensure_ascii=False).count(IMAGE)
        if self.ranking:  # each of the two answers is read with the question, so an image's place is in the question
            places -= json.dumps(row.get(self.columns["rejected"]), ensure_ascii=False).count(IMAGE)
        if places != len(row[column]):
            raise BadRow(f"{len(row[column])} images, but {places} places for one ({IMAGE}) in the text")

    def entry(self, file_name: str, present: frozenset[str]) -> dict[str, Any]:
        """The entry of dataset_info.json for the written file, of whose columns `present` are there."""
        columns = {role: column for role, column in self.columns.items() if column in present}
        return {"file_name": file_name, "formatting": self.formatting, **self.settings, "columns": columns}

    def empty(self) -> dict[str, Any]:
        """Column -> what stands in a row that has nothing there."""
        lists = (*MEDIA, "history")
        return {c: OPTIONAL.get(role, [] if role in lists else "") for role, c in self.columns.items()}


def _text(projection: Projection, column: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None and projection.lenient:
        return ""
    raise BadRow(f"{column!r} must be text, not {kind_of_value(value)}")


def _optional_text(projection: Projection, column: str, value: Any) -> str:
    return "" if value is None else _text(projection, column, value)


def _response(projection: Projection, column: str, value: Any) -> str:
    if value is None:
        raise LeftOut(f"{column!r} must be text, not null")
    return _text(projection, column, value)


def _answer(projection: Projection, column: str, value: Any) -> Any:
    if projection.formatting == "alpaca":
        return _response(projection, column, value)
    turn, role = _turn(projection, value)
    if role not in ("assistant", CALL):
        raise LeftOut(f"{column!r} is {role}'s, where the assistant must speak")
    return turn


def _label(projection: Projection, column: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadRow(f"{column!r} must be true or false, not {kind_of_value(value)}")
    return value


def _messages(projection: Projection, column: str, value: Any) -> list[Row]:
    if not isinstance(value, list):
        raise BadRow(f"{column!r} must be a list of turns, not {kind_of_value(value)}")
    turns, roles = [], []
    for given in value:
        turn, role = _turn(projection, given)
        if roles and role == roles[-1] == "tool" and projection.formatting == "openai":
            roles.pop()  # results of calls made at once: LLaMA-Factory puts them together
        turns.append(turn)
        roles.append(role)
    behind_system = roles[1:] if roles[:1] == ["system"] else roles
    if problem := order_problem(behind_system, answered=not projection.ranking):
        raise LeftOut(problem)
    return turns


def _turn(projection: Projection, given: Any) -> tuple[Row, str]:
    """A turn cut down to role and text, and its role in our words."""
    tags = projection.tags
    if projection.formatting == "openai" and isinstance(given, dict) and (calls := given.get("tool_calls")):
        functions = [call["function"] for call in calls]  # as LLaMA-Factory turns calls into text
        given = {tags.role: _name_of(tags, CALL), tags.content: json.dumps(functions, ensure_ascii=False)}
    message = read_turn(given, tags, [])
    role = CALL if message.get("tool_calls") else message["role"]
    if not isinstance(given[tags.content], str):
        raise BadRow(f"the text of a turn must be text, not {kind_of_value(given[tags.content])}")
    return {tags.role: given[tags.role], tags.content: given[tags.content]}, role


def _name_of(tags: Tags, role: str) -> str:
    name = next((name for name, known in tags.roles.items() if known == role), None)
    if name is None:
        raise BadRow("the dataset holds calls of tools, but its tags name no function_tag")
    return name


def _history(projection: Projection, column: str, value: Any) -> list[list[str]]:
    if value is None:
        return []
    pairs = isinstance(value, list) and all(isinstance(p, list | tuple) and len(p) == 2 for p in value)
    if not pairs or not all(isinstance(text, str) for pair in value for text in pair):
        raise BadRow(f"{column!r} must be a list of pairs of texts: what was asked, what was answered")
    return [list(pair) for pair in value]


def _tools(projection: Projection, column: str, value: Any) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    text = _optional_text(projection, column, value)
    try:
        json.loads(text or "[]")
    except ValueError as error:
        raise BadRow(f"{column!r} must be JSON: {error}") from error
    return text


def _media(projection: Projection, column: str, value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [_located(projection, column, v) for v in (value if isinstance(value, list) else [value])]


def _located(projection: Projection, column: str, value: Any) -> Any:
    if isinstance(value, list):  # a video as its frames
        return [_located(projection, column, frame) for frame in value]
    if isinstance(value, dict):  # of a hub dataset: bytes and path
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise BadRow(f"{column!r} must hold paths, not {kind_of_value(value)}")
    for folder in projection.folders or (Path(),):
        if (folder / value).is_file():
            return str((folder / value).absolute())
    raise BadRow(f"{column!r} names a file that is not there: {value}")


READERS: dict[str, Callable[[Projection, str, Any], Any]] = {
    "prompt": _text,
    "query": _optional_text,
    "response": _response,
    "history": _history,
    "messages": _messages,
    "system": _optional_text,
    "tools": _tools,
    **dict.fromkeys(MEDIA, _media),
    "chosen": _answer,
    "rejected": _answer,
    "kto_tag": _label,
}
"""LLaMA-Factory's name of a column -> what checks a value in it and gives what is written."""
