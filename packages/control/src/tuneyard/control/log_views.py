"""Pieces of a log, bounded whatever it holds: colours, rewritten bars, bytes that are no text, lines of any length.

Every piece tells where in the file it stands, so that the next one can be asked for. Secrets are masked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tuneyard.core.errors import RequestError
from tuneyard.core.masking import mask_secrets

BLOCK = 64 * 1024
"""Bytes that one piece reads at most."""

SEARCHED = 256 * 1024 * 1024
"""Bytes that one search reads at most."""

LINE_LENGTH = 500
"""Characters after which a line is cut."""

_WORD = 256  # characters at an edge that may be part of a secret: no known one is longer
_TORN_START = re.compile(r"\A\S{1,256}")
_TORN_END = re.compile(r"\S{1,256}\Z")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NO_TEXT = re.compile("\ufffd{4,}")
_TROUBLE = re.compile(r"(?i)\b(?:error|exception|traceback|fatal|killed|out of memory|warning)\b")


@dataclass(frozen=True)
class Piece:
    """Whole lines of a log, but for one that is longer than a piece."""

    lines: list[str]
    start: int
    """Byte at which they begin."""
    end: int
    """Byte behind them; the next piece begins here."""
    size: int
    """Bytes in the log now."""


@dataclass(frozen=True)
class Match:
    """A line that holds what was looked for."""

    offset: int
    """Byte at which the line begins."""
    line: str


@dataclass(frozen=True)
class Found:
    """What a search found."""

    matches: list[Match]
    end: int
    """Byte up to which it has read; a search from here goes on."""
    size: int


def tail(path: Path, lines: int, before: int | None = None) -> Piece:
    """The last lines of a log, or of what stands before a byte of it.

    Args:
        path: the log.
        lines: at most so many.
        before: a byte, such as the `start` of another piece. Default: the end.
    """
    with _opened(path) as file:
        size = _size(file)
        end = size if before is None else max(0, min(size, before))
        start, raw = _back(file, end, BLOCK)
    kept = _last_lines(raw, lines)
    start += len(raw) - len(kept)
    cut = start > 0 and len(kept) == len(raw) and not _starts_line(path, start)
    text = _whole_words(kept, cut, end < size and not kept.endswith(b"\n"))
    return Piece(_clean_lines(text), start, end, size)


def window(path: Path, offset: int, lines: int) -> Piece:
    """Lines from a byte on; the line that holds that byte is shown from its beginning if that is near.

    Args:
        path: the log.
        offset: a byte; a negative one counts from the end.
        lines: at most so many.
    """
    with _opened(path) as file:
        size = _size(file)
        start = _line_start(file, max(0, min(size, offset + size if offset < 0 else offset)))
        raw = _read(file, start, min(size, start + BLOCK))
    kept, end = _first_lines(raw, lines)
    at_end = start + end >= size
    text = _whole_words(kept, start > 0 and not _starts_line(path, start), not at_end and not kept.endswith(b"\n"))
    return Piece(_clean_lines(text), start, start + end, size)


def search(path: Path, text: str, *, offset: int = 0, most: int = 20) -> Found:
    """Lines that hold a text, upper and lower case alike.

    Args:
        path: the log.
        text: what is looked for; `|` stands between alternatives. Not a regular expression, which could take for ever.
        offset: byte to begin at.
        most: matches after which the search stops.

    Raises:
        RequestError: nothing to look for.
    """
    words = [word.lower().encode() for word in text.split("|") if word]
    if not words:
        raise RequestError("there is nothing to look for", way_out="give the text that the lines hold")
    found: list[Match] = []
    with _opened(path) as file:
        size = _size(file)
        end = min(size, offset + SEARCHED)
        for start, raw in _lines(file, offset, end):
            if len(found) == most:
                return Found(found, start, size)
            if at := _first_hit(raw.lower(), words):
                found.append(Match(start, _around(raw, at - 1)))
    return Found(found, end, size)


def trouble(path: Path, most: int = 10) -> list[str]:
    """The last lines of a log, within its last megabyte, that speak of errors or warnings."""
    with _opened(path) as file:
        _, raw = _back(file, _size(file), 16 * BLOCK)
    rows = [row for row in _whole_words(raw, True, False).split("\n") if _TROUBLE.search(row)]
    return _clean_lines("\n".join(rows[-most:]))


def clean(text: str) -> str:
    """A text without escape sequences, secrets masked; line ends stay as they are."""
    return mask_secrets(_ESCAPES.sub("", text))  # in this order: a colour may stand right before a secret


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise RequestError("there is no such log yet", where=str(path), way_out="the run may not have begun") from error


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _back(file: BinaryIO, end: int, length: int) -> tuple[int, bytes]:
    """The whole lines before a byte, and where they begin; a part of one that is longer than that."""
    start = max(0, end - length)
    raw = _read(file, start, end)
    newline = raw.find(b"\n") if start else -1
    return (start, raw) if newline in (-1, len(raw) - 1) else (start + newline + 1, raw[newline + 1 :])


def _last_lines(raw: bytes, lines: int) -> bytes:
    start = len(raw.removesuffix(b"\n"))
    for _ in range(lines):
        start = raw.rfind(b"\n", 0, start)
        if start == -1:
            return raw
    return raw[start + 1 :]


def _line_start(file: BinaryIO, offset: int) -> int:
    """The beginning of the line that holds a byte, if it is within a quarter of a piece; else the byte itself."""
    near = max(0, offset - BLOCK // 4)
    before = _read(file, near, offset)
    newline = before.rfind(b"\n")
    return near + newline + 1 if newline != -1 else (0 if near == 0 else offset)


def _starts_line(path: Path, offset: int) -> bool:
    with _opened(path) as file:
        return _read(file, offset - 1, offset) == b"\n"


def _first_lines(raw: bytes, lines: int) -> tuple[bytes, int]:
    """At most so many whole lines of a block, and how many bytes they are; the block itself where none ends in it."""
    end = -1
    for _ in range(lines):
        newline = raw.find(b"\n", end + 1)
        if newline == -1:
            whole = raw if end == -1 or len(raw) < BLOCK else raw[: end + 1]
            return whole, len(whole)
        end = newline
    return raw[: end + 1], end + 1


def _whole_words(raw: bytes, at_start: bool, at_end: bool) -> str:
    """Bytes as text without the words that a cut at either end went through: half a secret is not known as one."""
    text = raw.decode("utf-8", "replace")
    if at_start:
        text = _TORN_START.sub("", text)
    if at_end:
        text = text[:-_WORD] + _TORN_END.sub("", text[-_WORD:])
    return text


def _clean_lines(text: str) -> list[str]:
    rows = clean(text).replace("\r\n", "\n").rstrip("\n").split("\n") if text.strip() else []
    return [_cut(row.rpartition("\r")[2] or row) for row in rows]


def _cut(row: str) -> str:
    """A row as it is shown: without what cannot be printed, and of a long one both ends."""
    line = _NO_TEXT.sub("\ufffd…", _UNPRINTABLE.sub("", row))
    half = LINE_LENGTH // 2
    if len(line) <= LINE_LENGTH:
        return line
    return f"{line[:half]} … {len(line) - LINE_LENGTH} more characters … {line[-half:]}"


def _lines(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Lines between two bytes, each with its place; one that is longer than a block comes in parts."""
    file.seek(start)
    while start < end:
        raw = file.readline(BLOCK)
        if not raw:
            return
        yield start, raw
        start += len(raw)


def _first_hit(line: bytes, words: list[bytes]) -> int:
    """Where the first of the words stands, counted from 1; 0 for none."""
    return min((at for word in words if (at := line.find(word) + 1)), default=0)


def _around(raw: bytes, at: int) -> str:
    """The part of a line around a byte."""
    start = 0 if len(raw) <= LINE_LENGTH else max(0, at - LINE_LENGTH // 2)
    part = raw[start : start + 2 * LINE_LENGTH]
    text = _whole_words(part, start > 0, start + len(part) < len(raw))
    return _cut(clean(text).strip("\r\n").replace("\r", " "))
