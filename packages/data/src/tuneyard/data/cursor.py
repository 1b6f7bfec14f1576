"""Where a stream of records is, and what became of those it has left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError
from tuneyard.data.reading import broken_line
from tuneyard.data.turns import BadRow, LeftOut

Row = dict[str, Any]


@dataclass
class Cursor:
    """Where a stream of records is, so that whoever finds fault with a record can say where it comes from."""

    path: Path | None = None
    number: int = 0
    row: Row | None = None
    name: str = ""
    """What the stream is called where it does not come from a file."""
    read: int = 0
    """Rows read so far."""
    converted_away: int = 0
    """Rows that the converter dropped."""
    filtered_away: int = 0
    """Records that the filter dropped."""
    left_out: int = 0
    """Rows left out because LLaMA-Factory would leave them out."""
    first_left_out: str = ""
    """Where the first of them stands, and why."""

    def at(self, path: Path, number: int, row: Row) -> None:
        """The stream has come to this row."""
        self.path, self.number, self.row = path, number, row
        self.read += 1

    def leave_out(self, reason: str, place: str | None = None, count: int = 1) -> None:
        """Note that rows were left out: the present one, or `count` of them, the first at `place`."""
        self.first_left_out = self.first_left_out or f"{place or f'{self.path}:{self.number}'}: {reason}"
        self.left_out += count

    def error(self, reason: str) -> RequestError:
        """The error for the present record."""
        if self.path is None or self.row is None:
            return RequestError(reason, where=f"{self.name}, record {self.read}")
        word = "row" if self.path.suffix in (".parquet", ".arrow") else "line"
        return broken_line(self.path, self.number, reason, self.row, word)


def refuse(reason: BadRow, cursor: Cursor, lenient: bool) -> None:
    """Leave the present row out where that is allowed; else raise the error for it."""
    if not (lenient and isinstance(reason, LeftOut)):
        raise cursor.error(str(reason)) from reason
    cursor.leave_out(str(reason))
