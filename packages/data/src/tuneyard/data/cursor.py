"""Where a stream of records is, and what became of those it has left behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError
from tuneyard.data.reading import broken_line, shown
from tuneyard.data.turns import BadRow, LeftOut

Row = dict[str, Any]


MOST_TOLD = 20
"""Broken rows of which a message tells; of the others, only how many there are."""


@dataclass
class Broken:
    """Rows that cannot be used, told together at the end, so that whoever mends them need not try again and again."""

    count: int = 0
    first: list[RequestError] = field(default_factory=list)

    def add(self, error: RequestError) -> None:
        """Note one of them."""
        self.count += 1
        if len(self.first) < MOST_TOLD:
            self.first.append(error)

    def error(self, read: int, where: str) -> RequestError:
        """The error that tells them all."""
        if self.count == 1:
            return self.first[0]
        told = [f"  {error.where}: {error.message}" for error in self.first]
        if more := self.count - len(told):
            told.append(f"  and {more:,} more")
        return RequestError("\n".join([f"{self.count:,} of {read:,} rows cannot be used:", *told]), where=where)


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
    broken: Broken | None = None
    """Takes the rows that cannot be used; None: the first one ends the stream."""

    @property
    def place(self) -> str:
        """Where the present row stands."""
        return f"{self.path}:{self.number}" if self.path is not None else f"{self.name}, record {self.read}"

    def at(self, path: Path, number: int, row: Row) -> None:
        """The stream has come to this row."""
        self.path, self.number, self.row = path, number, row
        self.read += 1

    def unreadable(self, error: RequestError) -> None:
        """Note a line that is no row."""
        assert self.broken is not None
        self.read += 1
        self.broken.add(error)

    def leave_out(self, reason: str, place: str | None = None, count: int = 1) -> None:
        """Note that rows were left out: the present one, or `count` of them, the first at `place`."""
        self.first_left_out = self.first_left_out or f"{place or self.place}: {reason}"
        self.left_out += count

    def error(self, reason: str) -> RequestError:
        """The error for the present record."""
        if self.path is None or self.row is None:
            reads = f"; it reads: {shown(self.row)}" if self.row is not None else ""
            return RequestError(reason + reads, where=self.place)
        word = "row" if self.path.suffix in (".parquet", ".arrow") else "line"
        return broken_line(self.path, self.number, reason, self.row, word)


def refuse(reason: BadRow, cursor: Cursor, lenient: bool) -> None:
    """Leave the present row out where that is allowed; else raise the error for it, or note it with the other ones."""
    if lenient and isinstance(reason, LeftOut):
        cursor.leave_out(str(reason))
    elif cursor.broken is not None:
        cursor.broken.add(cursor.error(str(reason)))
    else:
        raise cursor.error(str(reason)) from reason
