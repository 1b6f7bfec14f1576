"""Writing the rows of one dataset: streaming, hashed on the way, and so that they are read as they were meant.

The reader of JSONL (Arrow, under LLaMA-Factory's `datasets`) guesses each column's type from pieces of about 10 MB, and
guesses wrong in two cases: a column that holds nothing but dates becomes one of timestamps, and a column of lists that
are all empty at first cannot hold anything later. What is written is watched for both; such a dataset is turned into
Parquet, which says its types.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from tuneyard.core.errors import RequestError
from tuneyard.core.files import explain_os_error, sha256_of_file

Row = dict[str, Any]

PIECE = 4 << 20
"""Bytes that are watched together: under half of what the reader guesses from, so that its pieces each hold a whole one
of ours."""

ROWS_AT_ONCE = 1000

COPY_BYTES = 256 << 10
"""How much is copied at once: what fits into the processor's cache is read, hashed and written from there."""

MOST_PENDING = 8
"""Pieces that may wait to be written."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T][\d:.,Z+-]*)?\Z")
"""Wider than what Arrow takes for a timestamp."""


@dataclass
class Watched:
    """What is known of rows, as far as it decides how they are written."""

    rows: int = 0
    filled: Counter[str] = field(default_factory=Counter)
    """Column -> rows that have it."""
    dated: set[str] = field(default_factory=set)
    """Columns in which some piece holds nothing but dates."""
    last_dated: set[str] = field(default_factory=set)
    """Columns in which the last row holds nothing but dates; the reader's last piece may be that row alone."""
    samples: dict[str, Any] = field(default_factory=dict)
    """Column -> the first value that is not empty."""
    late: set[str] = field(default_factory=set)
    """Columns of lists whose first value came after the first piece."""

    def add(self, other: Watched) -> None:
        """Take in what is known of the piece that follows."""
        if self.rows:
            self.late |= {c for c, v in other.samples.items() if isinstance(v, list) and c not in self.samples}
        self.rows += other.rows
        self.filled += other.filled
        self.dated |= other.dated
        if other.rows:
            self.last_dated = other.last_dated
        self.samples = other.samples | self.samples


def watch(rows: list[Row]) -> Watched:
    """What is to be known of the rows of a piece."""
    seen = Watched(len(rows), Counter(chain.from_iterable(rows)))
    texts: set[str] = set()
    for row in rows:
        for column, value in row.items():
            if column not in texts:
                _look(column, value, seen, texts)
    if rows:
        seen.last_dated = _dated(rows[-1])
    seen.dated -= texts
    return seen


def _look(column: str, value: Any, seen: Watched, texts: set[str]) -> None:
    if value not in ("", [], None) and column not in seen.samples:
        seen.samples[column] = value
    dated = _dated({column: value})
    if dated:
        seen.dated |= dated
    elif value != []:
        texts.add(column)


def _dated(row: Row) -> set[str]:
    """The columns of a row in which some kind of text is dates alone."""
    return {column for column, value in row.items() if any(all(map(_DATE.match, t)) for t in _kinds(value))}


def _kinds(value: Any) -> list[list[str]]:
    """The texts in a value, those that Arrow takes for one column together: of a list of objects, those of each key."""
    if isinstance(value, str):
        return [[value]]
    if isinstance(value, dict):
        return [texts for inner in value.values() for texts in _kinds(inner)]
    if not isinstance(value, list) or not value:
        return []
    if isinstance(value[0], dict):
        return [[t for v in value if isinstance(t := v.get(key), str)] for key in value[0]]
    return [list(_strings(value))] if any(True for _ in _strings(value)) else []


def _strings(value: Iterable[Any]) -> Iterator[str]:
    for inner in value:
        if isinstance(inner, str):
            yield inner
        elif isinstance(inner, list):
            yield from _strings(inner)


@dataclass(frozen=True)
class Written:
    """A finished file of rows."""

    path: Path
    rows: int
    sha256: str
    bytes: int
    columns: frozenset[str]


class RowFile:
    """A JSONL file that is being written. Use it in `with`: a file that was not finished is removed.

    Raises SetupError where the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.watched = Watched()
        self._digest = hashlib.sha256()
        self._size = 0
        self._finished = False
        self._buffer = bytearray(COPY_BYTES)
        self._beside = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()
        self._file = _on_disk(path, lambda: open(path, "xb", buffering=0))  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._beside.shutdown(cancel_futures=True)
        self._file.close()
        if not self._finished:
            self.path.unlink(missing_ok=True)

    def write(self, data: bytes, watched: Watched) -> None:
        """Append whole lines, and what is known of them. They are hashed and written while the caller goes on."""
        self._wait(MOST_PENDING)
        self._pending.append(self._beside.submit(self._append, memoryview(data)))
        self.watched.add(watched)

    def _wait(self, most: int = 0) -> None:
        """Wait until no more than `most` pieces are not written yet."""
        while len(self._pending) > most:
            self._pending.popleft().result()

    def _append(self, data: memoryview) -> None:
        self._digest.update(data)
        self._size += len(data)
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    def copy(self, path: Path, start: int, end: int, watched: Watched) -> None:
        """Append the bytes of another file from `start` to `end`, whole lines too."""
        self._wait()
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            while start < end:
                count = file.readinto(memoryview(self._buffer)[: end - start])
                if not count:
                    raise RequestError("the file became shorter while it was read", where=str(path))
                self._append(memoryview(self._buffer)[:count])
                start += count
        self.watched.add(watched)

    def finish(self, empty: dict[str, Any]) -> Written:
        """Close the file; where rows lack columns that others have, or would be misread, write it anew.

        Args:
            empty: column -> what stands in a row that has nothing there.
        """
        self.keep()
        seen = self.watched
        lacking = {c: empty[c] for c, n in seen.filled.items() if n < seen.rows}
        path, digest, size = self.path, self._digest.hexdigest(), self._size
        if self._misread():
            path = _as_parquet(path, seen, empty, lacking)
        elif lacking:
            path = _filled_up(path, list(seen.filled), lacking)
        if path != self.path or lacking:
            digest, size = sha256_of_file(path), path.stat().st_size
        return Written(path, seen.rows, digest, size, frozenset(seen.filled))

    def keep(self) -> None:
        """Close the file as it is."""
        self._wait()
        _on_disk(self.path, self._file.close)
        self._finished = True

    def _misread(self) -> bool:
        several_pieces = self._size > 2 * PIECE
        return bool(self.watched.dated or self.watched.late or (several_pieces and self.watched.last_dated))


def write_rows(file: RowFile, rows: Iterable[Row]) -> None:
    """Append rows; they are watched in pieces of `PIECE` bytes."""
    rows = iter(rows)
    held: list[Row] = []
    lines: list[bytes] = []
    size = 0
    while some := list(islice(rows, ROWS_AT_ONCE)):
        new = [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in some]
        held += some
        lines += new
        size += sum(map(len, new))
        if size >= PIECE:
            file.write(b"".join(lines), watch(held))
            held, lines, size = [], [], 0
    if held:
        file.write(b"".join(lines), watch(held))


def _on_disk(path: Path, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except OSError as error:
        raise explain_os_error(error, path) from error


def _filled_up(path: Path, columns: list[str], lacking: dict[str, Any]) -> Path:
    """The same file, with something in every column of every row."""
    fuller = path.with_suffix(".filled")
    with RowFile(fuller) as file:
        with open(path, "rb") as lines:
            write_rows(file, ({c: row[c] if c in row else lacking[c] for c in columns} for row in _loaded(lines)))
        file.keep()
    _on_disk(path, lambda: fuller.replace(path))
    return path


def _loaded(lines: Iterable[bytes]) -> Iterator[Row]:
    return map(orjson.loads, lines)


def _as_parquet(path: Path, seen: Watched, empty: dict[str, Any], lacking: dict[str, Any]) -> Path:
    """A Parquet file of the same rows, with the types they have; the JSONL file is removed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(c, _arrow_type(seen.samples.get(c, empty.get(c, "")), pa)) for c in seen.filled])
    target = path.with_suffix(".parquet")
    try:
        with open(path, "rb") as lines, pq.ParquetWriter(target, schema) as writer:
            rows = ({**lacking, **row} for row in _loaded(lines))
            while some := list(islice(rows, ROWS_AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(some, schema))
    except OSError as error:
        target.unlink(missing_ok=True)
        raise explain_os_error(error, target) from error
    path.unlink()
    return target


def _arrow_type(sample: Any, pa: Any) -> Any:
    if isinstance(sample, bool):
        return pa.bool_()
    if isinstance(sample, list):
        return pa.list_(_arrow_type(next((v for v in sample if v), ""), pa))
    if isinstance(sample, dict):
        return pa.struct([(key, _arrow_type(value, pa)) for key, value in sample.items()])
    return pa.string()
