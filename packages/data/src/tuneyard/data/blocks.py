"""A JSONL file projected in blocks of whole lines, in several processes where there is enough of it.

A row that needs no change is parsed, checked and thrown away: its line is written as it stands. So the time goes into
parsing, which is divided, and into one pass of hashing and writing, in order, by the process that asked.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tuneyard.core.errors import RunError
from tuneyard.data.plain import watch_plain
from tuneyard.data.projection import Projection
from tuneyard.data.reading import BYTE_ORDER_MARK, broken_line
from tuneyard.data.row_file import PIECE, Watched, watch
from tuneyard.data.turns import BadRow, LeftOut

Row = dict[str, Any]
Span = tuple[int, int]

WORTH_A_PROCESS = 32 << 20
"""Bytes from which on starting a process pays."""


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
    """One block; lines whose rows have just the columns `plain`, all of them text, stay as they are."""
    if plain is not None and (watched := watch_plain(path, *span, plain)):
        return Block(span, watched.rows, watched, None if _ends_a_line(path, span) else read_span(path, span) + b"\n")
    lines = read_span(path, span).split(b"\n")
    if not lines[-1]:
        lines.pop()
    if span[0] == 0:
        lines[:1] = [line.removeprefix(BYTE_ORDER_MARK) for line in lines[:1]]
    return _projected(span, lines, projection)


def _ends_a_line(path: Path, span: Span) -> bool:
    return read_span(path, (span[1] - 1, span[1])) == b"\n"


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
