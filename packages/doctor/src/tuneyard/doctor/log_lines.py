"""The lines of a log that can matter, of a log of any size, encoding or make.

Hundreds of megabytes are searched as bytes for the few words that every line of trouble has; only the lines around
those are taken apart (see `tuneyard.core.signatures.reading`, which says which ones it can do without).
"""

from __future__ import annotations

import codecs
import gzip
import re
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase, BufferedReader
from typing import cast

from tuneyard.core.errors import RequestError
from tuneyard.core.signatures.reading import MARKS, NEAR, SURVIVED_AFTER, WORK, WORK_MARKS, matters

BLOCK = 4 * 1024 * 1024
"""Bytes read at once."""

KEPT = 100_000
"""Lines kept at most, the last ones."""

LINE_LENGTH = 4096
"""Bytes of a line that are read on either side of a mark."""

LONGEST = 1024 * 1024
"""Bytes after which a line without end is taken apart."""

_SAMPLE = 64 * 1024
_MARKED = re.compile(b"|".join(re.escape(mark.encode()) for mark in MARKS))
_WORK = re.compile(b"|".join(re.escape(mark.encode()) for mark in WORK_MARKS))
_END = re.compile(rb"[\r\n]")
_CONTROLS = bytes({*range(1, 32), 127} - {7, 8, 9, 10, 12, 13, 27})
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass
class Log:
    """What was read of a log."""

    kept: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Numbers and texts of the lines that can matter, in order."""
    lines: int = 0
    """Lines in the log."""
    size: int = 0
    """Bytes in the log, as UTF-8 and without compression."""
    cut: str | None = None
    """Why it could not be read to its end, where it could not."""


def read_log(place: str) -> Log:
    """Read a log.

    Args:
        place: a file, also one compressed by gzip; `-` for stdin.

    Raises:
        RequestError: there is no such file, it may not be read, or it is no text.
    """
    log = Log()
    scan = _Scan(log)
    with _opened(place) as stream:
        for block in _blocks(stream, place, log):
            scan.read(block)
    return log


@contextmanager
def _opened(place: str) -> Iterator[BufferedIOBase]:
    if place == "-":
        yield _unpacked(cast("BufferedReader", sys.stdin.buffer))
        return
    try:
        with open(place, "rb") as file:
            yield _unpacked(file)
    except (FileNotFoundError, IsADirectoryError, PermissionError, NotADirectoryError) as error:
        hint = "name a file in it, or - for stdin" if isinstance(error, IsADirectoryError) else None
        said = (error.strerror or str(error)).lower()
        raise RequestError(f"no log to read: {said}", where=place, way_out=hint) from None


def _unpacked(stream: BufferedReader) -> BufferedIOBase:
    return gzip.GzipFile(fileobj=stream) if stream.peek(2)[:2] == b"\x1f\x8b" else stream


def _blocks(stream: BufferedIOBase, place: str, log: Log) -> Iterator[bytes]:
    """The log as UTF-8, in pieces that end where a line does, or are of LONGEST."""
    decode, rest = None, b""
    for number, raw in enumerate(_raw_blocks(stream, log)):
        if number == 0:
            encoding = _encoding(raw)
            decode = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("replace").decode
        piece = raw if decode is None else decode(raw).encode("utf-8", "replace")
        if number == 0:
            _refuse_no_text(piece, place)
        log.size += len(piece)
        piece = rest + piece
        whole = max(piece.rfind(b"\n"), piece.rfind(b"\r", max(0, len(piece) - _SAMPLE), len(piece) - 1)) + 1
        whole = whole or (len(piece) if len(piece) > LONGEST else 0)
        rest = piece[whole:]
        yield piece[:whole]
    yield rest


def _raw_blocks(stream: BufferedIOBase, log: Log) -> Iterator[bytes]:
    try:
        while block := stream.read1(BLOCK):  # read() would lose what comes before a cut
            yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        log.cut = f"the compressed file cannot be read to its end: {error}"


def _encoding(head: bytes) -> str:
    """UTF-16 is known by its mark, or by the zeros that Latin text has in every other byte."""
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    sample = head[:4096]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) > 0.4 * len(sample) / 2 and min(even, odd) < 0.05 * len(sample) / 2:
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def _refuse_no_text(piece: bytes, place: str) -> None:
    if piece.startswith(b"PK\x03\x04"):
        raise RequestError(
            "is an archive, not a log", where=place, way_out="unzip it; Inspect's .eval: `inspect log dump FILE`"
        )
    sample = piece[:_SAMPLE].replace(b"\0", b"")
    if len(sample) - len(sample.translate(None, _CONTROLS)) > 0.05 * len(sample):
        raise RequestError("is no text", where=place, way_out="give what the process wrote to stdout and stderr")


class _Scan:
    """Takes the lines that can matter out of one block after the other."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.newlines = 0
        self.near = 0
        self.work = 0

    def read(self, block: bytes) -> None:
        """Take what matters out of a block."""
        if b"\r\n" in block:
            block = block.replace(b"\r\n", b"\n")
        counted = 0
        for start, text in self._chosen(block):
            self.newlines += block.count(b"\n", counted, start)
            counted = start
            self.log.kept.append((self.newlines + 1, text))
        self.newlines += block.count(b"\n", counted)
        if block:
            self.log.lines = self.newlines + (not block.endswith(b"\n"))

    def _chosen(self, block: bytes) -> Iterator[tuple[int, str]]:
        """Where the lines that can matter begin, and what they say."""
        position = 0
        while position < len(block):
            limit = _line_end(block, position) if self.near else len(block)
            hit = _MARKED.search(block, position, limit)
            if hit is None and not self.near:
                yield from self._working(block, position, limit)
                return
            start = position if self.near else _line_start(block, position, hit.start() if hit else position)
            end = _line_end(block, hit.end() if hit else start)
            yield from self._working(block, position, start)
            text = _text(block, start, end)
            if self._keep(text, hit is not None):
                yield start, text
            position = end + (block[end : end + 1] in (b"\r", b"\n"))

    def _keep(self, text: str, marked: bool) -> bool:
        near = self.near > 0
        self.near -= near
        if not marked:
            return near
        kept, loud = matters(text)
        if loud:
            self.near, self.work = NEAR, SURVIVED_AFTER
        return kept or near

    def _working(self, block: bytes, position: int, limit: int) -> Iterator[tuple[int, str]]:
        """The next lines of ordinary work, as many as it takes to know that the run went on."""
        while self.work and (found := _WORK.search(block, position, limit)):
            start = _line_start(block, position, found.start())
            position = _line_end(block, found.end()) + 1
            if WORK.search(text := _text(block, start, position - 1)):
                self.work -= 1
                yield start, text


def _text(block: bytes, start: int, end: int) -> str:
    return block[start:end].decode("utf-8", "replace").replace("\0", "")


def _line_start(block: bytes, position: int, hit: int) -> int:
    low = max(position, hit - LINE_LENGTH)
    return max(block.rfind(b"\n", low, hit) + 1, block.rfind(b"\r", low, hit) + 1, low)


def _line_end(block: bytes, hit: int) -> int:
    high = min(len(block), hit + LINE_LENGTH)
    found = _END.search(block, hit, high)
    return found.start() if found else high
