"""Writing one dataset: records as rows of a form, or rows that stay as they are, cut down to what is read of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError
from tuneyard.core.files import explain_os_error
from tuneyard.core.references import DatasetFormat
from tuneyard.data import blocks
from tuneyard.data.cursor import Cursor, refuse
from tuneyard.data.projection import Projection
from tuneyard.data.reading import read_rows
from tuneyard.data.records import Record
from tuneyard.data.row_file import RowFile, Written, write_rows
from tuneyard.data.rows import OPTIONAL, RowForm, extras, form_for
from tuneyard.data.sources import Source
from tuneyard.data.turns import BadRow

Row = dict[str, Any]

_KINDS_OF_IMAGE = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


@dataclass(frozen=True)
class Made:
    """A dataset that has been written, and what dataset_info.json is to say of it."""

    written: Written
    entry: dict[str, Any]
    format: DatasetFormat
    notes: tuple[str, ...] = ()
    as_it_was: bool = False
    """Whether the file is byte for byte its source."""


def write_records(
    path: Path,
    records: Iterator[Record],
    cursor: Cursor,
    *,
    format: DatasetFormat | None = None,
    keep: bool = False,
    lenient: bool = False,
) -> Made:
    """Write records as JSONL, in the form that fits the first of them.

    Args:
        path: the file, which must not be there; images that come as bytes are put beside it, into `images`.
        records: the records.
        cursor: tells where the stream of records is.
        format: the format, where it was asked for.
        keep: also write id, target and metadata.
        lenient: leave out what LLaMA-Factory would leave out, rather than refuse it.

    Raises:
        RequestError: no record, or one that the form cannot hold.
        SetupError: the disk is full.
    """
    first = next(records, None)
    if first is None:
        raise RequestError("there is no record", where=cursor.name)
    form = form_for(first, format)
    notes: Counter[str] = Counter()
    made = _rows(form, chain([first], records), cursor, notes, lenient)
    rows = ({**row, **extras(record)} if keep else row for row, record in made)
    with RowFile(path) as file:
        write_rows(file, (with_stored_images(row, "images", path.parent, relative=keep) for row in rows))
        _check_left(file, cursor)
        written = file.finish(OPTIONAL)
    said = [f"{count} of {written.rows}: {note}" for note, count in notes.items()]
    entry = form.entry(written.path.name, set(written.columns))
    return Made(written, entry, form.format, (*said, *_left_out(cursor)))


def _rows(
    form: RowForm, records: Iterable[Record], cursor: Cursor, notes: Counter[str], lenient: bool
) -> Iterator[tuple[Row, Record]]:
    for record in records:
        try:
            row = form.make(record, notes)
        except BadRow as reason:
            refuse(reason, cursor, lenient)
        else:
            yield row, record


def write_projected(path: Path, source: Source, projection: Projection, cursor: Cursor, processes: int) -> Made:
    """Write the rows of a source's files as they are, cut down to the columns that are read of them.

    Raises:
        RequestError: a row that cannot be used, or none at all.
        SetupError: the disk is full.
    """
    as_it_was = len(source.files) == 1
    with RowFile(path) as file:
        for origin in source.files:
            if origin.suffix in (".jsonl", ".ndjson"):
                as_it_was &= _copy_blocks(origin, projection, file, cursor, processes)
            else:
                as_it_was = False
                write_rows(file, _projected(origin, projection, cursor, path.parent))
        _check_left(file, cursor)
        written = file.finish(projection.empty())
    as_it_was &= written.path == path
    entry = projection.entry(written.path.name, written.columns)
    return Made(written, entry, projection.format, tuple(_left_out(cursor)), as_it_was)


def _copy_blocks(origin: Path, projection: Projection, file: RowFile, cursor: Cursor, processes: int) -> bool:
    """Append a JSONL file block by block; whether every block could stay as it was."""
    unchanged = True
    for block in blocks.project_blocks(origin, projection, processes):
        if block.changed is None:
            file.copy(origin, *block.span, block.watched)
        else:
            file.write(block.changed, block.watched)
            unchanged = False
        cursor.read += block.watched.rows + block.left_out
        if block.first_left_out is not None:
            number, reason = block.first_left_out
            cursor.leave_out(reason, f"{origin}:{number}", block.left_out)
    return unchanged


def _projected(origin: Path, projection: Projection, cursor: Cursor, folder: Path) -> Iterator[Row]:
    images = projection.columns.get("images", "")
    for number, row in read_rows(origin):
        cursor.at(origin, number, row)
        try:
            kept = projection(row)
        except BadRow as reason:
            refuse(reason, cursor, projection.lenient)
        else:
            yield with_stored_images(kept, images, folder)


def _check_left(file: RowFile, cursor: Cursor) -> None:
    if file.watched.rows:
        return
    if not cursor.read:
        raise RequestError("the dataset is empty", where=cursor.name)
    raise RequestError(
        f"LLaMA-Factory would leave out every row; the first is {cursor.first_left_out}", where=cursor.name
    )


def _left_out(cursor: Cursor) -> list[str]:
    if not cursor.left_out:
        return []
    counts = f"{cursor.left_out} of {cursor.read} rows left out, as LLaMA-Factory would"
    return [f"{counts}; the first is {cursor.first_left_out}"]


def with_stored_images(row: Row, column: str, folder: Path, *, relative: bool = False) -> Row:
    """The row with images that came as bytes written into files.

    Args:
        row: the row; it is changed.
        column: the column of its images.
        folder: the dataset folder, whose `images` takes the files.
        relative: name them from the dataset folder on, so that it may be moved; a trainer's media folder is then this.
    """
    if any(isinstance(image, bytes) for image in row.get(column, ())):
        stored = [stored_image(i, folder) if isinstance(i, bytes) else i for i in row[column]]
        row[column] = [path.removeprefix(f"{folder.absolute()}/") for path in stored] if relative else stored
    return row


def stored_image(image: bytes, folder: Path) -> str:
    """The absolute path of an image that came as bytes, written into `images` under its hash."""
    suffix = next((s for start, s in _KINDS_OF_IMAGE.items() if image.startswith(start)), ".png")
    path = folder.absolute() / "images" / (hashlib.sha256(image).hexdigest()[:32] + suffix)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        try:
            path.write_bytes(image)
        except OSError as error:
            raise explain_os_error(error, path) from error
    return str(path)
