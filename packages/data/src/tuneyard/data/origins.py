"""What a dataset can be built from: what a spec can name, a pipe, a function in a Python file, a program's records.

open_input("-"), open_input("make.py:rows"), open_input("builtin:arithmetic", {"digits": 2}), given(records)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tuneyard.core.documents import validate
from tuneyard.core.errors import RequestError, TuneyardError
from tuneyard.core.files import sha256_of_file
from tuneyard.core.references import CodeRef, DatasetFormat, DatasetSource, load_code
from tuneyard.data import formats
from tuneyard.data.cursor import Cursor, refuse
from tuneyard.data.entries import layout_of_entry
from tuneyard.data.folders import has_entries
from tuneyard.data.layouts import Layout, Row, layout_of
from tuneyard.data.reading import open_bytes, shown
from tuneyard.data.records import Record
from tuneyard.data.sources import Source, open_source
from tuneyard.data.turns import BadRow

PIPE = "-"
LINES = (".jsonl", ".ndjson")

Opened = Iterator[tuple[Path, IO[bytes]]]


@dataclass
class Input:
    """One thing that a dataset is built from."""

    name: str
    """As messages name it."""
    source: dict[str, Any]
    """As the manifest names it."""
    records: Callable[[Cursor], Iterator[Record]] = lambda cursor: iter(())
    """Its records, where it is not read as lines."""
    lines: Callable[[], Opened] | None = None
    """Opens its files one after the other, where it is JSONL."""
    layout: Layout | None = None
    """What the columns of those lines mean; None: the first of them tells."""
    columns: Mapping[str, str] = field(default_factory=dict)
    format: DatasetFormat | None = None
    lenient: bool = False
    """Whether rows that LLaMA-Factory would leave out may be left out."""
    is_pipe: bool = False
    """Whether a last line that is cut off means that what should follow is missing."""
    sha256: Callable[[], str | None] = lambda: None
    revision: str | None = None

    def layout_for(self, row: Row, where: str) -> Layout:
        """What the columns mean, by the first row."""
        return self.layout or layout_for(row, self.columns, self.format, where)


def open_input(
    given: str | Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    format: DatasetFormat | None = None,
    runs: Path | None = None,
) -> Input:
    """A source as a person names it, found and looked at.

    Args:
        given: `-` for JSONL on stdin, `file.py:function` for a function that yields rows, a DatasetSource as a mapping,
            or what its `source` takes.
        arguments: of the function, or of a built-in corpus.
        columns: role -> column, where names are unusual.
        format: the format to be written; rows of another one are turned into it where that can be.
        runs: the folder of all runs, for `run:ID`.

    Raises:
        RequestError: nothing there, an unknown column, format or argument, or a function that cannot be called.
        SetupError: the hub is needed and cannot be reached.
    """
    columns, arguments = columns or {}, arguments or {}
    if given == PIPE:
        _no(arguments, "a pipe")
        return Input("stdin", {"source": PIPE}, lines=_stdin, columns=columns, format=format, is_pipe=True)
    if isinstance(given, str) and _names_code(given):
        return _generated(given, arguments, columns, format)
    asked = asked_for(given, columns)
    if not asked.source.startswith("builtin:"):
        _no(arguments, asked.source)
    elif arguments:
        asked = asked.model_copy(update={"arguments": {**asked.arguments, **arguments}})
    return _of_source(asked, format, runs)


def given(
    records: Iterable[Record | Mapping[str, Any]],
    *,
    columns: Mapping[str, str] | None = None,
    format: DatasetFormat | None = None,
    name: str = "records",
) -> Input:
    """The records of a program: Records, or mappings with a Record's fields or with columns of any names."""

    def parsed(cursor: Cursor) -> Iterator[Record]:
        return _records(records, cursor, columns or {}, format)

    return Input(name, {"source": name}, parsed)


def asked_for(given: str | Mapping[str, Any], columns: Mapping[str, str] | None = None) -> DatasetSource:
    """A DatasetSource from a string or mapping."""
    mapping: dict[str, Any] = {"source": given} if isinstance(given, str) else dict(given)
    if columns:
        mapping["columns"] = {**mapping.get("columns", {}), **columns}
    return validate(DatasetSource, mapping, "SOURCE")


def layout_for(row: Row, columns: Mapping[str, str], format: DatasetFormat | None, where: str) -> Layout:
    """What the columns of rows mean that are to be written in a format; conversations and alpaca become each other."""
    try:
        return layout_of(row, columns, format, where)
    except RequestError:
        other = _OTHER.get(format or "")
        if other is None:
            raise
        try:
            return layout_of(row, columns, other, where)
        except RequestError:
            pass
        raise


_OTHER: dict[str, DatasetFormat] = {"alpaca": "sharegpt", "sharegpt": "alpaca"}


def _of_source(asked: DatasetSource, format: DatasetFormat | None, runs: Path | None) -> Input:
    source = _opened(asked, format, runs)
    opened = Input(
        source.where,
        asked.model_dump(exclude_defaults=True),
        source.records,
        lenient=source.lenient,
        sha256=source.sha256,
        revision=source.revision,
    )
    plain = source.projection is not None and source.projection.formatting == "alpaca" and not _media(source)
    if plain and source.files and all(f.name.removesuffix(".gz").endswith(LINES) for f in source.files):
        assert source.projection is not None
        opened.layout = layout_of_entry(source.projection, source.where)
        opened.lines = lambda: ((path, open_bytes(path)) for path in source.files)
    return opened


def _media(source: Source) -> set[str]:
    """Columns of images and the like; LLaMA-Factory's entries name them only where there are some."""
    assert source.projection is not None
    told = source.projection.columns if source.lenient else {}
    return {"images", "videos", "audios"} & set(told)


def _opened(asked: DatasetSource, format: DatasetFormat | None, runs: Path | None) -> Source:
    if format is None or asked.format or asked.converter or asked.source.startswith(("builtin:", "run:")):
        return open_source(asked, runs=runs)
    path = Path(asked.source)
    if path.is_dir() and has_entries(path) and not asked.columns:
        return open_source(asked, runs=runs)
    try:
        return open_source(asked.model_copy(update={"format": format}), runs=runs)
    except RequestError:
        if format not in _OTHER:
            raise
        try:
            return open_source(asked.model_copy(update={"format": _OTHER[format]}), runs=runs)
        except RequestError:
            pass
        raise


def _no(arguments: Mapping[str, Any], what: str) -> None:
    if arguments:
        raise RequestError(f"{what} takes no arguments", where=f"{next(iter(arguments))}=…")


def _stdin() -> Opened:
    yield Path("stdin"), os.fdopen(os.dup(sys.stdin.fileno()), "rb", 1 << 20)


def _names_code(text: str) -> bool:
    path, colon, name = text.rpartition(":")
    return bool(colon) and path.endswith(".py") and name.isidentifier()


def _generated(
    reference: str, arguments: Mapping[str, Any], columns: Mapping[str, str], format: DatasetFormat | None
) -> Input:
    code = validate(CodeRef, reference, reference)
    function = load_code(code)
    if not callable(function):
        raise RequestError("is not a function", where=reference)

    def records(cursor: Cursor) -> Iterator[Record]:
        return _records(_called(function, arguments, reference, cursor), cursor, columns, format)

    source = {"source": reference, **({"arguments": dict(arguments)} if arguments else {})}
    return Input(reference, source, records, sha256=lambda: sha256_of_file(Path(code.path)))


def _called(function: Callable[..., Any], arguments: Mapping[str, Any], name: str, cursor: Cursor) -> Iterator[Any]:
    """What a person's function yields; what it raises is told with its type and place."""
    try:
        yielded = function(**arguments)
        if isinstance(yielded, str | bytes | Mapping) or not isinstance(yielded, Iterable):
            raise RequestError(
                f"must yield records or return a list of them, not {shown(repr(yielded), 100)}", where=name
            )
        yield from yielded
    except TuneyardError:
        raise
    except Exception as error:
        raise RequestError(
            f"raised {type(error).__name__}: {error} ({_line_of(error)}), after {cursor.read:,} records", where=name
        ) from error


def _line_of(error: BaseException) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"{Path(frame.tb_frame.f_code.co_filename).name}, line {frame.tb_lineno}" if frame else "no line"


def _records(
    rows: Iterable[Any], cursor: Cursor, columns: Mapping[str, str], format: DatasetFormat | None
) -> Iterator[Record]:
    """Records as they are, and mappings as records; the first mapping tells what the columns mean."""
    layout: Layout | None = None
    for row in rows:
        cursor.read += 1
        if isinstance(row, Record):
            cursor.row = None
            yield row
            continue
        cursor.row = dict(row) if isinstance(row, Mapping) else {"": row}
        try:
            if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
                raise BadRow("a record must be a Record or a mapping with names for keys")
            if layout is None:
                layout = layout_for(row, columns, format, cursor.place)
            record = formats.parse(row, layout)
        except BadRow as reason:
            refuse(reason, cursor, lenient=False)
        else:
            yield record
