"""The quick way for lines of JSONL whose rows are texts in columns: parsed together, checked, and written together.

Where a single row of some lines is of another kind, empty or broken, nothing is said of any of them, and they are read
one by one, the careful way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, repeat
from operator import attrgetter, eq
from typing import Any

import msgspec

from tuneyard.core.references import DatasetFormat
from tuneyard.data.contents import Said
from tuneyard.data.layouts import Layout
from tuneyard.data.pieces import Piece
from tuneyard.data.plain import a_line_each, once_each
from tuneyard.data.row_file import Watched, watch

ROLES: dict[DatasetFormat, tuple[str, ...]] = {
    "alpaca": ("prompt", "query", "response", "system", "id", "target"),
    "preference": ("prompt", "query", "chosen", "rejected", "system", "id", "target"),
    "kto": ("prompt", "query", "response", "label", "system", "id", "target"),
    "text": ("text", "id", "target"),
}
"""Roles that a flat row may have."""

WRITTEN = {"prompt": "instruction", "query": "input", "response": "output"}
"""Roles whose columns are written under another name than the role's."""

_ANSWERS = ("response", "chosen", "rejected")


@dataclass(frozen=True)
class FlatRows:
    """Some rows, parsed."""

    rows: list[Any]
    roles: tuple[str, ...]

    def column(self, role: str) -> list[Any]:
        return list(map(attrgetter(role), self.rows))

    @cached_property
    def asked(self) -> list[str]:
        """What each asks: its prompt and what belongs to it, joined as LLaMA-Factory joins them."""
        if "text" in self.roles:
            return self.column("text")
        prompts = self.column("prompt")
        if "query" not in self.roles:
            return prompts
        both = zip(prompts, self.column("query"), strict=True)
        return [f"{prompt}\n{query}" if prompt and query else prompt or query for prompt, query in both]

    def contents(self) -> list[Said]:
        """What each says, as `contents.contents` has it."""
        parts: list[Iterable[str]] = [self.asked, *(self.column(r) for r in _ANSWERS if r in self.roles)]
        if "label" in self.roles:
            parts.append([f"\0{label}" for label in self.column("label")])
        parts.append(self.column("system") if "system" in self.roles else repeat(""))
        return list(zip(*parts, strict=False))

    def sound(self) -> bool:
        """Whether every row asks something, and answers, and its two answers differ."""
        texts = [self.asked, *(self.column(role) for role in _ANSWERS if role in self.roles)]
        if not all(all(map(str.strip, column)) for column in texts):
            return False
        return "chosen" not in self.roles or not any(map(eq, texts[1], texts[2]))

    def watched(self, columns: Mapping[str, str]) -> Watched:
        """What is to be known of them as they are written. Only where the first row is dated can a column be."""
        seen = watch(self._named(self.rows[:1], columns))
        if seen.dated:
            return watch(self._named(self.rows, columns))
        count = len(self.rows)
        last = watch(self._named(self.rows[-1:], columns)).last_dated
        return Watched(count, Counter(dict.fromkeys(columns.values(), count)), set(), last, seen.samples)

    def _named(self, rows: list[Any], columns: Mapping[str, str]) -> list[dict[str, Any]]:
        return [{columns[role]: getattr(row, role) for role in self.roles} for row in rows]


class FlatReader:
    """Reads lines whose rows have just the columns of a first row, all of them text (a label: true or false)."""

    def __init__(self, layout: Layout, columns: tuple[str, ...]) -> None:
        """
        Args:
            layout: what columns mean.
            columns: those of the first row.

        Raises:
            ValueError: rows with these columns are not flat; `flat_reader` asks first.
        """
        roles = {column: role for role, column in layout.columns.items()}
        self.roles = tuple(roles[column] for column in columns)
        self.columns = {role: WRITTEN.get(role, role) for role in self.roles}
        self.keeps_names = tuple(self.columns.values()) == columns
        self._read_columns = columns
        self._row = _struct(self.roles, columns)
        self._decode = msgspec.json.Decoder(self._row).decode_lines
        self._written = _struct(self.roles, tuple(self.columns.values()))
        self._encode = msgspec.json.Encoder().encode_lines

    def read(self, piece: Piece) -> FlatRows | None:
        """The rows of some lines; None where one is not flat, empty, broken, or has a column twice."""
        try:
            rows = self._decode(piece.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if not a_line_each(piece.data, len(rows)) or not once_each(piece.data, len(rows), self._read_columns):
            return None
        found = FlatRows(rows, self.roles)
        return found if found.sound() else None

    def lines_of(self, found: FlatRows, piece: Piece, kept: list[bool] | None) -> bytes:
        """The lines that are written for some rows of a piece.

        Args:
            found: those rows.
            piece: where they come from.
            kept: which of its lines they are; None: all.
        """
        if not self.keeps_names:
            values = zip(*map(found.column, self.roles), strict=True)
            return self._encode([self._written(*row) for row in values])
        return piece.data if kept is None else b"\n".join([*compress(piece.lines, kept), b""])


def flat_reader(layout: Layout, row: Mapping[str, Any]) -> FlatReader | None:
    """What reads rows like `row` the quick way; None where they are not flat."""
    roles = {column: role for role, column in layout.columns.items()}
    known = ROLES.get(layout.format, ())
    if layout.tags is not None or not row or any(roles.get(column) not in known for column in row):
        return None
    needed = [r for r in ("prompt", "response", "chosen", "rejected", "label", "text") if r in known]
    if any(layout.columns.get(role) not in row for role in needed):
        return None
    try:
        return FlatReader(layout, tuple(row))
    except ValueError:  # a name with a quote, a backslash or a control character
        return None


def _struct(roles: tuple[str, ...], columns: tuple[str, ...]) -> Any:
    fields = [
        (role, bool if role == "label" else str, msgspec.field(name=column))
        for role, column in zip(roles, columns, strict=True)
    ]
    return msgspec.defstruct("Row", fields, forbid_unknown_fields=True, gc=False)
