"""JSONL as it comes, from files or a pipe, in pieces of whole lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import orjson

from tuneyard.data import formats
from tuneyard.data.cursor import Cursor, refuse
from tuneyard.data.layouts import Layout, Row
from tuneyard.data.origins import Input
from tuneyard.data.reading import BYTE_ORDER_MARK, broken_line, parsed_lines
from tuneyard.data.records import Record
from tuneyard.data.turns import BadRow

AT_ONCE = 256 << 10
"""Bytes of lines that are parsed together: what fits into the processor's cache."""


@dataclass
class Piece:
    """Some lines of a file."""

    path: Path
    number: int
    """Number of the first of them."""
    data: bytes
    """The lines; each ends with a line break."""

    @cached_property
    def lines(self) -> list[bytes]:
        """The lines without their line breaks."""
        return self.data[:-1].split(b"\n")

    def place(self, index: int) -> str:
        """Where the line at an index stands."""
        return f"{self.path}:{self.number + index}"

    def first_row(self) -> tuple[int, Row] | None:
        """The first line that holds a row, with its number."""
        return next(parsed_lines(self.lines, self.path, self.number, broken=lambda error: None), None)


def pieces(taken: Input) -> Iterator[Piece]:
    """The lines of an input. The last one gets the line break it may lack.

    Raises:
        RequestError: a pipe ended in the middle of a line.
    """
    assert taken.lines is not None
    for path, file in taken.lines():
        with file:
            number = 1
            while data := file.read(AT_ONCE):
                data += file.readline()
                if number == 1:
                    data = data.removeprefix(BYTE_ORDER_MARK)
                if not data.endswith(b"\n"):
                    if taken.is_pipe:
                        _check_end(data, path, number)
                    data += b"\n"
                yield (piece := Piece(path, number, data))
                number += len(piece.lines)


def _check_end(data: bytes, path: Path, number: int) -> None:
    """Whoever wrote half a line into a pipe died, and what should follow is missing."""
    *before, line = data.split(b"\n")
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError as error:
        cut = "the pipe ended in the middle of a line, so what is missing behind it is not known"
        raise broken_line(path, number + len(before), cut, line) from error


def parsed(piece: Piece, layout: Layout | None, cursor: Cursor, lenient: bool) -> Iterator[Record]:
    """The records of lines, one by one. Without a layout, no line so far has held a row."""
    noted = cursor.unreadable if cursor.broken else None
    for number, row in parsed_lines(piece.lines, piece.path, piece.number, noted):
        cursor.at(piece.path, number, row)
        assert layout is not None
        try:
            record = formats.parse(row, layout)
        except BadRow as reason:
            refuse(reason, cursor, lenient)
        else:
            yield record


def records_of(taken: Input, cursor: Cursor) -> Iterator[Record]:
    """The records of an input, however it is read.

    Raises:
        RequestError: a row that cannot be used, unless the cursor notes it.
    """
    if taken.lines is None:
        yield from taken.records(cursor)
        return
    layout: Layout | None = None
    for piece in pieces(taken):
        if layout is None and (first := piece.first_row()) is not None:
            layout = taken.layout_for(first[1], f"{piece.path}:{first[0]}")
        yield from parsed(piece, layout, cursor, taken.lenient)
