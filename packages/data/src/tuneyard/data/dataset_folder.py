"""Dataset folders: the rows of each dataset, dataset_info.json for LLaMA-Factory, manifest.json for everybody else.

    write_dataset(folder, records)                   records of a program's own
    with DatasetFolder(folder) as out: out.add(...)  datasets as a spec names them, several in one folder

The folder is whole once manifest.json stands in it; where something fails, nothing is left of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError
from tuneyard.core.files import explain_os_error, write_atomically, write_json
from tuneyard.core.references import DatasetFormat
from tuneyard.data import blocks
from tuneyard.data.folders import INFORMATION
from tuneyard.data.manifest import MANIFEST, DataManifest, DatasetEntry, Role
from tuneyard.data.projection import LeftOut, Projection
from tuneyard.data.reading import read_rows
from tuneyard.data.records import Record
from tuneyard.data.row_file import RowFile, Written, write_rows
from tuneyard.data.rows import OPTIONAL, RowForm, extras, form_for
from tuneyard.data.sources import Cursor, Source
from tuneyard.data.turns import BadRow

Row = dict[str, Any]

_KINDS_OF_IMAGE = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


@dataclass
class _Made:
    """A dataset that has been written, and what is to be said of it."""

    written: Written
    entry: dict[str, Any]
    format: DatasetFormat
    read: int
    left_out: int = 0
    notes: tuple[str, ...] = ()
    as_it_was: bool = False
    """Whether the file is byte for byte its source."""


class DatasetFolder:
    """A dataset folder that is being written. Use it in `with`; leaving it without an error finishes the folder.

    Raises:
        RequestError: the folder is there and not empty: a dataset folder is never written over.
        SetupError: the disk is full, or the folder may not be written to.
    """

    def __init__(self, folder: Path | str, *, processes: int = 1) -> None:
        """
        Args:
            folder: is made, with its parents; may be there if it is empty.
            processes: how many may read a large file at once.
        """
        self.path = Path(folder)
        self.processes = processes
        self.entries: list[DatasetEntry] = []
        self._information: dict[str, Any] = {}
        if self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir())):
            raise RequestError(
                "is there already, and nothing is written over it",
                where=str(self.path),
                way_out="choose another folder, or remove this one",
            )
        self._existed = self.path.is_dir()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    def __enter__(self) -> DatasetFolder:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self._finish()
            return
        shutil.rmtree(self.path, ignore_errors=True)
        if self._existed:
            self.path.mkdir(exist_ok=True)

    def add(self, name: str, source: Source, role: Role = "train") -> DatasetEntry:
        """Write a dataset of a spec; what is returned is its entry in the manifest.

        Raises:
            RequestError: a row that cannot be used (with file, line and text), no row, or none left.
            SetupError: the disk is full.
        """
        self._check_name(name)
        made = self._project(name, source) if source.projection else self._convert(name, source)
        _check_columns(source, made)
        asked = source.asked.model_dump(exclude_defaults=True)
        source_sha256 = made.written.sha256 if made.as_it_was else source.sha256()
        return self._remember(name, role, made, source=asked, source_sha256=source_sha256, revision=source.revision)

    def add_records(
        self, name: str, records: Iterable[Record], role: Role = "train", format: DatasetFormat | None = None
    ) -> DatasetEntry:
        """Write records of a program's own, with id, target and metadata; what is returned is the manifest's entry.

        Args:
            name: its name in dataset_info.json.
            records: may be a generator; nothing is held.
            role: `train` or `eval`.
            format: None: what the first record's fields say.

        Raises:
            RequestError: no record, or one that the format cannot hold.
            SetupError: the disk is full.
        """
        self._check_name(name)
        cursor = Cursor(name=name)
        return self._remember(name, role, self._write(name, _counted(records, cursor), cursor, format, keep=True))

    def _check_name(self, name: str) -> None:
        if not name or name in self._information or any(c in name for c in "/\\,\0") or name.startswith("."):
            problem = "is there already" if name in self._information else "cannot be the name of a dataset"
            raise RequestError(f"{name!r} {problem}", where=str(self.path))

    def _remember(self, name: str, role: Role, made: _Made, **origin: Any) -> DatasetEntry:
        written = made.written
        self._information[name] = made.entry
        entry = DatasetEntry(
            name=name,
            role=role,
            file=written.path.name,
            rows=written.rows,
            bytes=written.bytes,
            sha256=written.sha256,
            format=made.format,
            read=made.read,
            left_out=made.left_out,
            notes=list(made.notes),
            **origin,
        )
        self.entries.append(entry)
        return entry

    def _finish(self) -> None:
        # ASCII, since LLaMA-Factory reads this file in whatever encoding the machine has
        write_atomically(self.path / INFORMATION, json.dumps(self._information, indent=2) + "\n")
        write_json(self.path / MANIFEST, DataManifest(datasets=self.entries).model_dump())

    # Records

    def _convert(self, name: str, source: Source) -> _Made:
        cursor = Cursor()
        made = self._write(name, source.records(cursor), cursor, _written_format(source), keep=False)
        made.entry |= source.settings
        return made

    def _write(
        self, name: str, records: Iterator[Record], cursor: Cursor, format: DatasetFormat | None, *, keep: bool
    ) -> _Made:
        first = next(records, None)
        if first is None:
            raise RequestError("there is no record", where=name)
        form = form_for(first, format)
        notes: Counter[str] = Counter()
        with RowFile(self.path / f"{name}.jsonl") as file:
            write_rows(file, self._rows(form, chain([first], records), cursor, notes, keep))
            written = file.finish(OPTIONAL)
        said = tuple(f"{count} of {written.rows}: {note}" for note, count in notes.items())
        entry = form.entry(written.path.name, set(written.columns))
        return _Made(written, entry, form.format, cursor.read, notes=said)

    def _rows(
        self, form: RowForm, records: Iterator[Record], cursor: Cursor, notes: Counter[str], keep: bool
    ) -> Iterator[Row]:
        for record in records:
            try:
                row = form.make(record, notes)
            except BadRow as reason:
                raise cursor.error(str(reason)) from reason
            if keep:
                row |= extras(record)
            yield self._storable(row, "images") if record.images else row

    # Rows that stay as they are

    def _project(self, name: str, source: Source) -> _Made:
        projection = source.projection
        assert projection is not None
        made = _Made(_NOTHING, {}, projection.format, 0, as_it_was=len(source.files) == 1)
        reasons: list[str] = []
        with RowFile(self.path / f"{name}.jsonl") as file:
            for path in source.files:
                if path.suffix in (".jsonl", ".ndjson"):
                    self._project_blocks(path, projection, file, made, reasons)
                else:
                    made.as_it_was = False
                    write_rows(file, self._projected(path, projection, made, reasons))
            if not file.watched.rows:
                raise _none_left(source, made, reasons)
            made.written = file.finish(projection.empty())
        made.as_it_was = made.as_it_was and made.written.path.suffix == ".jsonl" and not made.left_out
        made.entry = projection.entry(made.written.path.name, made.written.columns)
        if made.left_out:
            made.notes = (f"{made.left_out} of {made.read} rows left out, as LLaMA-Factory would; {reasons[0]}",)
        return made

    def _project_blocks(
        self, path: Path, projection: Projection, file: RowFile, made: _Made, reasons: list[str]
    ) -> None:
        for block in blocks.project_blocks(path, projection, self.processes):
            if block.changed is None:
                file.copy(path, *block.span, block.watched)
            else:
                file.write(block.changed, block.watched)
            made.read += block.watched.rows + block.left_out
            made.left_out += block.left_out
            made.as_it_was = made.as_it_was and block.changed is None
            if block.first_left_out is not None:
                reasons.append(f"the first is {path}:{block.first_left_out[0]}: {block.first_left_out[1]}")

    def _projected(self, path: Path, projection: Projection, made: _Made, reasons: list[str]) -> Iterator[Row]:
        cursor = Cursor()
        images = [projection.columns["images"]] if "images" in projection.columns else []
        for number, row in read_rows(path):
            cursor.at(path, number, row)
            made.read += 1
            try:
                kept = projection(row)
            except LeftOut as reason:
                made.left_out += 1
                if not reasons:
                    reasons.append(f"the first is {path}:{number}: {reason}")
            except BadRow as reason:
                raise cursor.error(str(reason)) from reason
            else:
                yield self._storable(kept, *images)

    # Images

    def _storable(self, row: Row, *columns: str) -> Row:
        """The row with images that came as bytes written into files."""
        for column in columns:
            if any(isinstance(image, bytes) for image in row.get(column, ())):
                row[column] = [self._stored(i) if isinstance(i, bytes) else i for i in row[column]]
        return row

    def _stored(self, image: bytes) -> str:
        suffix = next((s for start, s in _KINDS_OF_IMAGE.items() if image.startswith(start)), ".png")
        path = self.path.absolute() / "images" / (hashlib.sha256(image).hexdigest()[:32] + suffix)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            try:
                path.write_bytes(image)
            except OSError as error:
                raise explain_os_error(error, path) from error
        return str(path)


_NOTHING = Written(Path(), 0, "", 0, frozenset())


def write_dataset(
    folder: Path | str,
    records: Iterable[Record],
    *,
    name: str = "train",
    role: Role = "train",
    format: DatasetFormat | None = None,
) -> DatasetEntry:
    """Write records as a dataset folder of one dataset; see `DatasetFolder.add_records`.

    Returns the dataset's entry in manifest.json: rows, sha256, bytes, format and the rest.
    """
    with DatasetFolder(folder) as out:
        return out.add_records(name, records, role, format)


def _counted(records: Iterable[Record], cursor: Cursor) -> Iterator[Record]:
    for record in records:
        cursor.read += 1
        yield record


def _written_format(source: Source) -> DatasetFormat | None:
    """The format that was asked for, except where a converter decides what records hold."""
    return source.asked.format if source.asked.converter else None


def _none_left(source: Source, made: _Made, reasons: list[str]) -> RequestError:
    if not made.read:
        return RequestError("the dataset is empty", where=source.where)
    return RequestError(f"LLaMA-Factory would leave out all of its {made.read} rows; {reasons[0]}", where=source.where)


def _check_columns(source: Source, made: _Made) -> None:
    """A column that was named and is in no row is a mistake in its name."""
    if source.projection is None:
        return
    for role, column in source.asked.columns.items():
        if column not in made.written.columns:
            raise RequestError(
                f"`columns` says that {role} is in {column!r}, which no row has",
                where=source.where,
                way_out="the columns are: " + ", ".join(sorted(made.written.columns)),
            )
