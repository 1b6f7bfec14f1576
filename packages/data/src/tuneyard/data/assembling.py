"""Assembling the file of one dataset from its inputs: read, checked, sifted and written on the way, nothing held.

Lines of JSONL whose rows are flat go the quick way, some hundreds at a time; everything else goes record by record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import orjson

from tuneyard.core.errors import RequestError
from tuneyard.core.references import DatasetFormat
from tuneyard.data import formats
from tuneyard.data.cursor import Broken, Cursor, refuse
from tuneyard.data.flat_lines import FlatReader, FlatRows, flat_reader
from tuneyard.data.layouts import Layout
from tuneyard.data.manifest import Part
from tuneyard.data.origins import Input
from tuneyard.data.pieces import Piece, parsed, pieces
from tuneyard.data.records import Record
from tuneyard.data.row_checks import check_record
from tuneyard.data.row_file import PIECE, RowFile, Watched, watch
from tuneyard.data.rows import OPTIONAL, RowForm, extras, form_for
from tuneyard.data.sieve import Sieve
from tuneyard.data.turns import BadRow
from tuneyard.data.writing import Made, with_stored_images

Row = dict[str, Any]


@dataclass
class NoFile:
    """Stands where the file would, when rows are only looked at."""

    path: Path
    watched: Watched = field(default_factory=Watched)

    def write(self, data: bytes, watched: Watched) -> None:
        """Note what is known of lines, and forget them."""
        self.watched.add(watched)


EMPTY = {**OPTIONAL, "input": ""}
"""Column -> what stands in a row that has nothing there."""


def quiet(rows: int) -> None:
    """Tells nobody how many rows have been read."""


@dataclass
class Assembly:
    """A dataset's file that is being assembled."""

    file: RowFile | NoFile
    sieve: Sieve
    format: DatasetFormat | None
    tell: Callable[[int], None] = quiet
    home: Path | None = None
    """Absolute path of the dataset folder that the file will lie in."""
    form: RowForm | None = None
    """How rows are written; the first record decides."""
    notes: Counter[str] = field(default_factory=Counter)
    broken: Broken = field(default_factory=Broken)
    parts: list[Part] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    read: int = 0
    _rows: list[Row] = field(default_factory=list)
    _lines: list[bytes] = field(default_factory=list)
    _bytes: int = 0

    def add(self, taken: Input) -> Part:
        """Take in everything of an input.

        Raises:
            RequestError: it is empty, or ends in the middle of a line; the rows that cannot be used are told by
                `finish`.
        """
        with ThreadPoolExecutor(1) as beside:
            sha256 = beside.submit(taken.sha256)  # needs no more of this process than the other core
            return self._add(taken, sha256)

    def _add(self, taken: Input, sha256: Future[str | None]) -> Part:
        cursor = Cursor(name=taken.name, broken=self.broken)
        before = self.rows
        if taken.lines is None:
            for record in taken.records(cursor):
                self.take(record, cursor, taken.lenient)
                self._told(cursor)
        else:
            self._take_lines(taken, cursor)
        if not cursor.read:
            raise RequestError("there is no record", where=taken.name)
        self.read += cursor.read
        if cursor.left_out:
            self.said.append(
                f"{cursor.left_out} of {cursor.read} rows of {taken.name} left out, as LLaMA-Factory would; "
                f"the first is {cursor.first_left_out}"
            )
        rows = self.rows - before
        return Part(source=taken.source, sha256=sha256.result(), revision=taken.revision, read=cursor.read, rows=rows)

    @property
    def rows(self) -> int:
        """How many have passed."""
        return self.file.watched.rows + len(self._rows)

    def _told(self, cursor: Cursor) -> None:
        if cursor.read % 1000 == 0:
            self.tell(self.read + cursor.read)

    def take(self, record: Record, cursor: Cursor, lenient: bool) -> None:
        """Take in one record, unless it is broken or the sieve keeps it back."""
        try:
            check_record(record)
            form = self._form(record)
            row = form.make(record, self.notes)
        except BadRow as reason:
            refuse(reason, cursor, lenient)
            return
        if self.sieve.keeps(record, cursor.place):
            self._write(self._with_own_images({**row, **extras(record)}))

    def _with_own_images(self, row: Row) -> Row:
        """The row, its images named from the dataset folder on where they lie in it, so that it may be moved."""
        row = with_stored_images(row, "images", self.file.path.parent, relative=True)
        if self.home is not None and "images" in row:
            row["images"] = [path.removeprefix(f"{self.home}/") for path in row["images"]]
        return row

    def _form(self, record: Record) -> RowForm:
        if self.form is None:
            self.form = form_for(record, self.format)
        return self.form

    def _write(self, row: Row) -> None:
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        self._rows.append(row)
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= PIECE:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self.file.write(b"".join(self._lines), watch(self._rows))
        self._rows, self._lines, self._bytes = [], [], 0

    def _take_lines(self, taken: Input, cursor: Cursor) -> None:
        layout: Layout | None = None
        reader: FlatReader | None = None
        for piece in pieces(taken):
            if layout is None and (first := piece.first_row()) is not None:
                layout = taken.layout_for(first[1], f"{piece.path}:{first[0]}")
                reader = self._quick(layout, first[1])
            if reader is None or not self._take_flat(piece, reader, cursor):
                for record in parsed(piece, layout, cursor, taken.lenient):
                    self.take(record, cursor, taken.lenient)
            self.tell(self.read + cursor.read)

    def _quick(self, layout: Layout, first: Mapping[str, Any]) -> FlatReader | None:
        """What reads rows like the first the quick way, if they are written in a form that is flat too."""
        reader = flat_reader(layout, first)
        if reader is None:
            return None
        try:
            form = self._form(formats.parse(first, layout))
        except BadRow:
            return None
        return reader if form.format == layout.format and form.formatting == "alpaca" else None

    def _take_flat(self, piece: Piece, reader: FlatReader, cursor: Cursor) -> bool:
        """Take in lines the quick way; False, with nothing done, where one of them has to be looked at."""
        found = reader.read(piece)
        if found is None:
            return False
        self._flush()
        cursor.read += len(found.rows)
        asked = partial(getattr, found, "asked")
        kept = self.sieve.sift(found.contents(), asked, piece.place)
        if kept is not None:
            found = FlatRows(list(compress(found.rows, kept)), found.roles)
        if found.rows:
            self.file.write(reader.lines_of(found, piece, kept), found.watched(reader.columns))
        return True

    def finish(self, where: str) -> Made:
        """Close the file.

        Raises:
            RequestError: rows that cannot be used, unless they are to be dropped; or no row is left.
        """
        self._flush()
        assert isinstance(self.file, RowFile)
        if self.broken.count and "broken" not in self.sieve.drop:
            raise self._unusable(where)
        if not self.file.watched.rows or self.form is None:
            raise self._nothing_left(where)
        written = self.file.finish(EMPTY)
        entry = self.form.entry(written.path.name, set(written.columns))
        entry["columns"] = {role: column for role, column in entry["columns"].items() if column in written.columns}
        noted = [f"{count} of {written.rows}: {note}" for note, count in self.notes.items()]
        return Made(written, entry, self.form.format, (*noted, *self.said, *self._dropped()))

    def _unusable(self, where: str) -> RequestError:
        error = self.broken.error(self.read, where)
        way_out = "mend them, or leave them out by `--drop broken`"
        return RequestError(error.message, where=error.where, way_out=way_out)

    def _nothing_left(self, where: str) -> RequestError:
        if self.broken.count:
            return self._unusable(where)
        counts = {"held a document of the evaluation": self.sieve.contaminated, "were too long": self.sieve.long}
        kept_back = [f"{count:,} {what}" for what, count in counts.items() if count]
        reasons = "; ".join([f"{self.read:,} were read", *kept_back, *self.said])
        return RequestError(f"no row is left: {reasons}", where=where)

    def _dropped(self) -> list[str]:
        if not self.broken.count:
            return []
        first = self.broken.first[0]
        return [f"{self.broken.count} broken rows left out; the first is {first.where}: {first.message}"]
