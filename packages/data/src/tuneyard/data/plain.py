"""The quick way through a block of JSONL: rows whose columns are all text need no change, so they are only checked.

Nothing is kept of such rows. They are parsed straight into typed fields, from one buffer that stays in the processor's
cache; where a single row turns out to be of another kind, the block is read again, the careful way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import orjson

from tuneyard.data.row_file import Watched, watch

AT_ONCE = 256 << 10
"""Bytes that are parsed together. A row must fit."""

# Counting with bytes.count takes twice as long where there are two characters.
_name_ends = re.compile(b'":').findall
_beginnings = re.compile(rb"\n(.)", re.DOTALL).findall


def watch_plain(path: Path, start: int, end: int, columns: tuple[str, ...]) -> Watched | None:
    """What is known of the lines between two places of a file, if every row has just these columns, all of them text.

    Args:
        path: a JSONL file.
        start: byte at which the first of the lines begins.
        end: byte behind the last of them.
        columns: the columns, in any order.

    Returns:
        None where some row is different, broken, or too long to be checked this way.
    """
    decoder = _decoder(columns)
    if decoder is None:
        return None
    rows = 0
    first: Watched | None = None
    last = b""
    for lines in _pieces(path, start, end):
        count = _rows(lines, columns, decoder)
        if count is None:
            return None
        rows += count
        if first is None:
            first = watch([orjson.loads(bytes(lines).partition(b"\n")[0])])
            if first.dated:  # every row has to be looked at
                return None
        last = lines
    if first is None:
        return None
    row = orjson.loads(last.rstrip(b"\n").rpartition(b"\n")[2])
    return Watched(rows, Counter(dict.fromkeys(columns, rows)), set(), watch([row]).last_dated, first.samples)


@cache
def _decoder(columns: tuple[str, ...]) -> msgspec.json.Decoder[Any] | None:
    """Parses rows that have these columns and no other, each of them text; None where no such parser can be made."""
    fields = [(f"column_{number}", str, msgspec.field(name=name)) for number, name in enumerate(columns)]
    try:
        row = msgspec.defstruct("Row", fields, forbid_unknown_fields=True, gc=False)
    except ValueError:  # a name with a quote, a backslash or a control character
        return None
    return msgspec.json.Decoder(row)


def _pieces(path: Path, start: int, end: int) -> Iterator[bytearray]:
    """The lines in pieces of whole ones; each is gone with the next. An overlong line comes cut."""
    buffer = bytearray(AT_ONCE)
    held = 0
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while start < end:
            count = file.readinto(memoryview(buffer)[held : held + end - start])
            if not count:
                return
            start += count
            filled = held + count
            whole = filled if start == end else buffer.rfind(b"\n", 0, filled) + 1 or filled
            yield buffer[:whole]
            held = filled - whole
            buffer[:held] = buffer[whole:filled]


def _rows(lines: bytearray, columns: tuple[str, ...], decoder: msgspec.json.Decoder[Any]) -> int | None:
    """How many rows some lines hold, where every line is one row with these columns."""
    try:
        rows = len(decoder.decode_lines(lines))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return rows if a_line_each(lines, rows) and once_each(lines, rows, columns) else None


def a_line_each(lines: bytes | bytearray, rows: int) -> bool:
    """Whether each line is one row, of the rows that were parsed from the lines.

    A brace within a row stands in a text, which has no line break; so what a brace begins is a row, and if each line
    begins with one, and there are as many rows as lines, each line is one row.
    """
    beginnings = _beginnings(lines)
    return lines[:1] == b"{" and len(beginnings) == rows - 1 == beginnings.count(b"{")


def once_each(lines: bytes | bytearray, rows: int, columns: tuple[str, ...]) -> bool:
    """Whether every column stands once in each line. One that stands twice counts once in its row; Arrow refuses it."""
    return len(_name_ends(lines)) == len(columns) * rows or all(_once_in(n, columns) for n in lines.splitlines())


def _once_in(line: bytes | bytearray, columns: tuple[str, ...]) -> bool:
    """Whether every column stands once in a line, as its name in quotes; a quote within a text has a backslash."""
    return all(line.count(b'"%s"' % name.encode()) == 1 for name in columns)
