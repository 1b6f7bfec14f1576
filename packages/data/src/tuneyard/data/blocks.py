"""A JSONL file projected in blocks of whole lines, in several processes where there is enough of it.

A row that needs no change is parsed, checked and thrown away: its line is written as it stands. So the time goes into
parsing, which is divided, and into one pass of hashing and writing, in order, by the process that asked.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from tuneyard.core.errors import RunError
from tuneyard.data.projection import Projection
from tuneyard.data.reading import BYTE_ORDER_MARK, broken_line
from tuneyard.data.row_file import PIECE, Watched, watch
from tuneyard.data.turns import BadRow, LeftOut

Row = dict[str, Any]
Span = tuple[int, int]

WORTH_A_PROCESS = 32 << 20
"""Bytes from which on starting a process pays."""


AT_ONCE = 500
"""Lines that are parsed together; few enough that their rows stay in the processor's cache."""

_NAME_ENDS = re.compile(b'":').findall  # twice as quick as bytes.count, which is slow with two characters


@dataclass
class Block:
    """A block of lines, projected."""

    span: Span
    lines: int
    """How many lines it has, empty ones too."""
    watched: Watched
    changed: bytes | None = None
    """The lines as they are to be written; None: as they stand in the file."""
    left_out: int = 0
    first_left_out: tuple[int, str] | None = None
    """Line within the block and reason of the first row that was left out."""
    broken: tuple[int, str, bytes] | None = None
    """Line within the block, reason, and text of the first row that cannot be used."""


def spans(path: Path) -> Iterator[Span]:
    """The file in blocks of about `PIECE` bytes that end with a line."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = 0
        while start < size:
            file.seek(min(start + PIECE, size))
            file.readline()
            end = min(file.tell(), size)
            yield start, end
            start = end


def read_span(path: Path, span: Span) -> bytes:
    with open(path, "rb") as file:
        file.seek(span[0])
        return file.read(span[1] - span[0])


def project_blocks(path: Path, projection: Projection, processes: int) -> Iterator[Block]:
    """Every block of the file, in order.

    Args:
        path: a JSONL file that is not compressed.
        projection: what is kept of its rows.
        processes: how many may work at once; small files take no more than this one.

    Raises:
        RequestError: a broken line, with its number and text.
    """
    plain = _plain_columns(path, projection)
    jobs = ((path, span, projection, plain) for span in spans(path))
    before = 0
    for block in _in_order(project_block, jobs, min(processes, path.stat().st_size // WORTH_A_PROCESS)):
        if block.broken is not None:
            place, reason, line = block.broken
            raise broken_line(path, before + place, reason, line)
        if block.first_left_out is not None:
            block.first_left_out = (before + block.first_left_out[0], block.first_left_out[1])
        before += block.lines
        yield block


def _plain_columns(path: Path, projection: Projection) -> tuple[str, ...] | None:
    with open(path, "rb") as file:
        first = file.readline()
    try:
        row = orjson.loads(first.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError:
        return None
    return projection.plain(row) if isinstance(row, dict) else None


def _in_order(work: Callable[..., Block], jobs: Iterable[tuple[Any, ...]], processes: int) -> Iterator[Block]:
    """The results of `work`, in the order of the jobs; never more than a few are waiting."""
    if processes < 2:
        yield from (work(*job) for job in jobs)
        return
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # A fork costs a hundredth of a second, a new interpreter ten times as much; macOS has no safe fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    waiting: deque[Future[Block]] = deque()
    with ProcessPoolExecutor(processes, context, initializer=gc.disable) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(work, *job))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise RunError(
                "a process that read the data was killed",
                way_out="memory may have run out: `free -h` shows what there is",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def project_block(path: Path, span: Span, projection: Projection, plain: tuple[str, ...] | None) -> Block:
    """One block; lines whose rows have the columns `plain`, in this order and all of them text, stay as they are."""
    data = read_span(path, span)
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if plain is not None and (watched := _all_plain(data, lines, plain)):
        return Block(span, len(lines), watched, None if data.endswith(b"\n") else data + b"\n")
    if span[0] == 0:
        lines[:1] = [line.removeprefix(BYTE_ORDER_MARK) for line in lines[:1]]
    return _projected(span, lines, projection)


def _all_plain(data: bytes, lines: list[bytes], plain: tuple[str, ...]) -> Watched | None:
    """What is known of the block's rows where none of them needs a change; None where one does."""
    # A column that stands twice in a line counts once in its row, and Arrow refuses the file.
    if len(_NAME_ENDS(data)) != len(plain) * len(lines) and not all(_once_each(line, plain) for line in lines):
        return None
    rows: list[Row] | None = None
    first: Watched | None = None
    for start in range(0, len(lines), AT_ONCE):
        rows = _plain_rows(lines[start : start + AT_ONCE], plain)
        if rows is None:
            return None
        first = first or watch(rows[:1])
    assert first is not None and rows is not None
    if first.dated:
        return watch(list(map(orjson.loads, lines)))
    last_dated = watch(rows[-1:]).last_dated
    return Watched(len(lines), Counter(dict.fromkeys(plain, len(lines))), set(), last_dated, first.samples)


def _plain_rows(lines: list[bytes], plain: tuple[str, ...]) -> list[Row] | None:
    """The rows of some lines where all of them are plain. Loops run in C: this is where the time goes."""
    try:
        rows = list(map(orjson.loads, lines))
        types = list(map(type, chain.from_iterable(map(dict.values, rows))))
    except (orjson.JSONDecodeError, TypeError):
        return None
    return rows if set(map(tuple, rows)) == {plain} and types == [str] * len(types) else None


def _once_each(line: bytes, columns: tuple[str, ...]) -> bool:
    """Whether every column stands once in a line, as its name in quotes; a quote within a text has a backslash."""
    return all(line.count(b'"%s"' % name.encode()) == 1 for name in columns)


def _projected(span: Span, lines: list[bytes], projection: Projection) -> Block:
    block = Block(span, len(lines), Watched())
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            continue
        try:
            row = orjson.loads(line)
            if not isinstance(row, dict):
                raise BadRow("not a JSON object")
            rows.append(projection(row))
        except orjson.JSONDecodeError as error:
            block.broken = (number, f"not valid JSON ({error.msg})", line)
            return block
        except BadRow as reason:
            if projection.lenient and isinstance(reason, LeftOut):
                block.left_out += 1
                block.first_left_out = block.first_left_out or (number, str(reason))
                continue
            block.broken = (number, str(reason), line)
            return block
    block.watched = watch(rows)
    block.changed = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    return block
