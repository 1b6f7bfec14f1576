"""The rows of one data file: JSONL, JSON, CSV, Parquet, Arrow or plain text, streamed, each with its line number.

JSON lists are streamed too, so that no file has to fit into memory. A file may be compressed by gzip (`.jsonl.gz`),
except Parquet and Arrow, which compress by themselves.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from tuneyard.core.errors import RequestError
from tuneyard.data.json_text import JsonText

Row = dict[str, Any]
Rows = Iterator[tuple[int, Row]]

READ_BYTES = 1 << 20
"""How much of a file is read at once."""

ROWS_AT_ONCE = 1024
"""Rows of a Parquet or Arrow file that are held at once."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def is_data_file(path: Path) -> bool:
    """Whether the file's name says that rows can be read from it."""
    return _suffix(path) in READERS


def read_rows(path: Path, broken: Callable[[RequestError], None] | None = None) -> Rows:
    """The rows of a file with their line numbers (for Parquet and Arrow: row numbers), from 1.

    Args:
        path: the file.
        broken: takes the error for a broken line of JSONL, behind which reading goes on. None: it is raised.

    Raises:
        RequestError: no such file, a kind that is not known, or a broken line (with its number and text).
    """
    reader = READERS.get(_suffix(path))
    if reader is None:
        raise RequestError(
            f"files of this kind are not read: {path.suffix or 'no suffix'}",
            where=str(path),
            way_out="give the file one of these forms: " + ", ".join(READERS),
        )
    try:
        if reader is _jsonl:
            yield from _jsonl(path, broken)
        else:
            yield from reader(path)
    except FileNotFoundError as error:
        raise RequestError("no such file", where=str(path)) from error
    except (gzip.BadGzipFile, EOFError) as error:
        raise RequestError(f"is cut off or not compressed by gzip: {error}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise RequestError(
            f"is not UTF-8 text: {error.reason}, byte {error.object[error.start]:#x}",
            where=str(path),
            way_out="save the file as UTF-8",
        ) from error


def broken_line(path: Path, number: int, reason: str, line: bytes | str | Row, word: str = "line") -> RequestError:
    """The error for one row that cannot be used: file, number, reason, and the text of the line."""
    return RequestError(f"{reason}; {word} {number} reads: {shown(line)}", where=f"{path}:{number}")


def shown(line: bytes | str | Row, most: int = 300) -> str:
    """A line as an error shows it: on one line, cut off after `most` characters."""
    if isinstance(line, dict):
        line = json.dumps(line, ensure_ascii=False, default=repr)
    text = line.decode("utf-8", "backslashreplace") if isinstance(line, bytes) else line
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text.strip()[: most + 1])
    return text if len(text) <= most else text[:most] + "…"


def parse_line(line: bytes, path: Path, number: int) -> Row:
    """The object on one line of a JSONL file; raises RequestError where there is none."""
    import orjson

    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise broken_line(path, number, f"not valid JSON ({error.msg})", line) from error
    if not isinstance(row, dict):
        raise broken_line(path, number, "not a JSON object", line)
    return row


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix if not name.endswith((".parquet.gz", ".arrow.gz")) else ""


def open_bytes(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where it is compressed by gzip."""
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def _open_text(path: Path, newline: str | None = None) -> IO[str]:
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline=newline)


def _jsonl(path: Path, broken: Callable[[RequestError], None] | None = None) -> Rows:
    with open_bytes(path) as file:
        yield from parsed_lines(file, path, broken=broken)


def parsed_lines(
    lines: Iterable[bytes], path: Path, first: int = 1, broken: Callable[[RequestError], None] | None = None
) -> Rows:
    """The rows of lines of JSONL with their numbers; empty lines are passed over.

    Args:
        lines: the lines, which may end with a line break.
        path: where they come from, for messages.
        first: number of the first of them.
        broken: takes the error for a broken line. None: it is raised.
    """
    for number, raw in enumerate(lines, first):
        line = raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw
        if line and not line.isspace():
            try:
                row = parse_line(line, path, number)
            except RequestError as error:
                if broken is None:
                    raise
                broken(error)
            else:
                yield number, row


def _json(path: Path) -> Rows:
    """A list of objects, an object with such a list under `data`, or, as many such files are, one object a line."""
    with _open_text(path) as file:
        text = JsonText(file, READ_BYTES)
        try:
            yield from _objects(text, path)
        except json.JSONDecodeError as error:
            number, line = text.line_at(error.pos)
            raise broken_line(path, number, f"not valid JSON ({error.msg})", line) from error


def _objects(text: JsonText, path: Path) -> Rows:
    if text.peek() == "[":
        yield from _checked(text.elements(), path)
        if text.peek():
            raise text.error("more after the end of the list")
        return
    while text.peek() == "{":
        number, row, data = text.line(), {}, False
        for key in text.members():
            if key == "data" and text.peek() == "[":
                yield from _checked(text.elements(), path)
                data = True
            else:
                row[key] = text.value()
        if not data:
            yield number, row
    if text.peek():
        raise text.error("not a JSON object")


def _checked(elements: Iterator[tuple[int, Any]], path: Path) -> Rows:
    for number, element in elements:
        if not isinstance(element, dict):
            raise broken_line(path, number, "not a JSON object", json.dumps(element, ensure_ascii=False))
        yield number, element


def _csv(path: Path, delimiter: str = ",") -> Rows:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with _open_text(path, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header, number = None, 0
        try:
            for cells in reader:
                first, number = number + 1, reader.line_num
                if header is None:
                    header = _header(cells, path)
                elif cells:
                    yield first, _with_names(header, cells, path, first, delimiter)
        except csv.Error as error:
            raise RequestError(f"not valid CSV: {error}", where=f"{path}:{reader.line_num}") from error


def _header(cells: list[str], path: Path) -> list[str]:
    double = {name for name in cells if cells.count(name) > 1}
    if double:
        raise RequestError(f"two columns have the name {sorted(double)[0]!r}", where=f"{path}:1")
    return cells


def _with_names(header: list[str], cells: list[str], path: Path, number: int, delimiter: str) -> Row:
    if len(cells) != len(header):
        reason = f"{len(cells)} cells, where the header has {len(header)}"
        raise broken_line(path, number, reason, delimiter.join(cells))
    return dict(zip(header, cells, strict=True))


def _parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from _from_batches(file.iter_batches(ROWS_AT_ONCE))
    except pa.ArrowException as error:
        raise RequestError(f"not valid Parquet: {error}", where=str(path)) from error


def _arrow(path: Path) -> Rows:
    """An Arrow file of either layout; `datasets` writes the streaming one."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        try:
            with pa.ipc.open_stream(file) as stream:
                yield from _from_batches(stream)
            return
        except pa.ArrowInvalid:
            file.seek(0)
        try:
            table = pa.ipc.open_file(file)
        except pa.ArrowInvalid as error:
            raise RequestError(f"not valid Arrow: {error}", where=str(path)) from error
        yield from _from_batches(table.get_batch(n) for n in range(table.num_record_batches))


def _from_batches(batches: Any) -> Rows:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            for row in batch.slice(start, ROWS_AT_ONCE).to_pylist():
                number += 1
                yield number, row


def _txt(path: Path) -> Rows:
    with _open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, {"text": line.rstrip("\n")}


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": lambda path: _csv(path, "\t"),
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".txt": _txt,
}
"""Suffix -> what reads it."""
