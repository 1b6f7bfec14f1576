"""Datasets as a spec names them: from a DatasetSource to a stream of records, or to files whose rows may stay.

Everything streams. What cannot be read is said with file, line number and the text of the line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tuneyard.core.documents import validate
from tuneyard.core.errors import RequestError, TuneyardError, unknown
from tuneyard.core.files import sha256_of_file
from tuneyard.core.references import HUB_ID, CodeRef, DatasetSource, load_code
from tuneyard.data import folders, formats, gsm8k
from tuneyard.data.builtin import CORPORA, PREFIX, arithmetic
from tuneyard.data.cursor import Cursor, refuse
from tuneyard.data.entries import layout_of_entry, projection_of_entry, projection_of_layout
from tuneyard.data.layouts import Layout, layout_of
from tuneyard.data.projection import Projection
from tuneyard.data.reading import read_rows, shown
from tuneyard.data.records import Record, record_from
from tuneyard.data.turns import BadRow

Row = dict[str, Any]


@dataclass
class Source:
    """A dataset that can be read."""

    asked: DatasetSource
    files: list[Path] = field(default_factory=list)
    """Files that hold its rows; none for what is made up."""
    revision: str | None = None
    """Commit of a hub dataset."""
    projection: Projection | None = None
    """Set where the rows may stay as they are."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What its entry in a dataset_info.json says of sampling."""
    lenient: bool = False
    """Whether rows that LLaMA-Factory would leave out may be left out: where it is told how to read them."""
    _records: Callable[[Cursor], Iterator[Record]] = lambda cursor: iter(())

    def records(self, cursor: Cursor | None = None) -> Iterator[Record]:
        """The records, filtered and limited as was asked.

        Raises:
            RequestError: a row that cannot be read, no row at all, or none left.
        """
        cursor = cursor or Cursor(name=self.where)
        kept = 0
        for record in islice(self._kept(cursor), self.asked.limit):
            kept += 1
            yield record
        if not kept and not (cursor.broken and cursor.broken.count):
            raise self._nothing_left(cursor)

    def _kept(self, cursor: Cursor) -> Iterator[Record]:
        if self.asked.filter is None:
            yield from self._records(cursor)
            return
        keeps = _code(self.asked.filter, self.asked.source)
        for record in self._records(cursor):
            if _call(keeps, record, cursor, f"the filter {self.asked.filter}"):
                yield record
            else:
                cursor.filtered_away += 1

    def _nothing_left(self, cursor: Cursor) -> RequestError:
        if not cursor.read:
            return RequestError("the dataset is empty", where=self.where)
        if cursor.left_out == cursor.read:
            return RequestError(
                f"LLaMA-Factory would leave out every row; the first is {cursor.first_left_out}", where=self.where
            )
        lost = [
            f"the {what} {code} dropped {count}"
            for what, code, count in (
                ("converter", self.asked.converter, cursor.converted_away),
                ("filter", self.asked.filter, cursor.filtered_away),
            )
            if code is not None
        ]
        return RequestError(
            f"no record is left: {cursor.read} were read, {' and '.join(lost)}",
            where=self.where,
            way_out="let the filter return true for what is to be kept",
        )

    @property
    def where(self) -> str:
        """The dataset as messages name it."""
        return str(self.files[0]) if len(self.files) == 1 else self.asked.path or self.asked.source

    def sha256(self) -> str | None:
        """Hash of the file, or of the sorted list of the files' names and hashes; None without files."""
        if len(self.files) < 2:
            return sha256_of_file(self.files[0]) if self.files else None
        root = Path(self.asked.path) if self.asked.path else self.files[0].parent
        digest = hashlib.sha256()
        for file in self.files:
            name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
            digest.update(f"{name}\0{sha256_of_file(file)}\n".encode())
        return digest.hexdigest()


def open_source(
    asked: DatasetSource, *, runs: Path | None = None, media: Path | None = None, answered: bool = True
) -> Source:
    """A dataset, found and its first row looked at.

    Args:
        asked: what a spec says.
        runs: the folder of all runs, for `run:ID` without a path.
        media: folder in which relative paths of images are looked for first.
        answered: whether its rows need answers; without, a column for what is asked is enough.

    Raises:
        RequestError: nothing there, another sha256 than expected, an unknown column, format or argument.
        SetupError: the hub is needed and cannot be reached.
    """
    if asked.source.startswith(PREFIX):
        return _builtin(asked)
    source, entry = _located(asked, runs)
    _check_sha256(source)
    if asked.converter is not None:
        source._records = _converted(source, asked.converter)
        return source
    number, path, first = _first_row(source)
    beside = (path.parent,) if asked.revision is None else ()
    folders_of_media = (media, *beside) if media else beside
    described = entry is not None and asked.format is None and not asked.columns
    if described:
        projection = projection_of_entry(entry or {}, folders_of_media, source.where)
        source.settings = {k: v for k, v in projection.settings.items() if k in ("split", "num_samples")}
        source.lenient = projection.lenient
        if answered and _may_stay(asked):
            source.projection = projection
            source._records = _described_records(source, projection)
            return source
        layout = layout_of_entry(projection, source.where)
    else:
        layout = layout_of(first, asked.columns, asked.format, f"{path}:{number}", answered=answered)
        layout = Layout(layout.format, layout.columns, None, folders_of_media[0] if folders_of_media else None)
        if answered and _may_stay(asked) and _all_in_columns(layout, first):
            source.projection = projection_of_layout(layout)
    source._records = _parsed(source, layout)
    return source


def read_records(asked: DatasetSource, *, runs: Path | None = None) -> Iterator[Record]:
    """The records of a dataset; see `open_source` and `Source.records` for what is raised."""
    return open_source(asked, runs=runs).records()


def _may_stay(asked: DatasetSource) -> bool:
    return asked.filter is None and asked.converter is None and asked.limit is None


def _all_in_columns(layout: Layout, first: Row) -> bool:
    """Whether rows of this layout hold texts in columns, which need no other form."""
    if layout.format == "sharegpt" or "messages" in layout.columns or layout.columns.get("images") in first:
        return False
    texts = [first.get(layout.columns[r]) for r in ("prompt", "chosen", "rejected") if r in layout.columns]
    label = first.get(layout.columns["label"]) if layout.format == "kto" else True
    return all(isinstance(text, str) for text in texts) and isinstance(label, bool)


def _located(asked: DatasetSource, runs: Path | None) -> tuple[Source, dict[str, Any] | None]:
    """The files of a dataset, and its entry where a dataset_info.json describes it."""
    if asked.source.startswith("run:"):
        return Source(asked, [_samples(asked, runs)]), None
    path = Path(asked.path or asked.source)
    if asked.path is None and not path.exists() and HUB_ID.match(asked.source):
        return _from_hub(asked, asked.source, asked.name, asked.split), None
    if not path.exists():
        raise RequestError("no such file or folder", where=str(path))
    if path.is_dir() and folders.has_entries(path):
        return _described(asked, path)
    if asked.name is not None:
        raise RequestError(
            f"`name` names an entry of {folders.INFORMATION}, or a configuration on the hub", where=str(path)
        )
    if path.is_dir():
        return Source(asked, folders.files_of(path, asked.split)), None
    if asked.split != "train":
        missing = f"there is no split {asked.split!r} in a single file"
        raise RequestError(missing, where=str(path), way_out="leave `split` out")
    return Source(asked, [path]), None


def _described(asked: DatasetSource, folder: Path) -> tuple[Source, dict[str, Any]]:
    name, entry = folders.read_entry(folder, asked.name)
    if asked.split != "train":
        raise RequestError(
            f"the entry in {folders.INFORMATION} says which split it is", where=str(folder), way_out="leave `split` out"
        )
    if "hf_hub_url" in entry:
        split = str(entry.get("split", "train"))
        source = _from_hub(asked, str(entry["hf_hub_url"]), entry.get("subset") or entry.get("folder"), split)
        return source, {key: value for key, value in entry.items() if key != "split"}
    return Source(asked, folders.files_of_entry(folder, name, entry)), entry


def _from_hub(asked: DatasetSource, name: str, config: str | None, split: str) -> Source:
    from tuneyard.data import hub

    found = hub.fetch(name, config, split, asked.revision)
    return Source(asked, found.files, found.commit)


def _samples(asked: DatasetSource, runs: Path | None) -> Path:
    """What a run made: one JSON object a line, with at least prompt and response."""
    from tuneyard.core.run_folder import RunFolder, find_run

    if asked.path is not None and Path(asked.path).is_file():
        return Path(asked.path)
    if asked.path is None and runs is None:
        raise RequestError("the folder of runs is not known here", where=asked.source, way_out="give its path")
    run = RunFolder(Path(asked.path)) if asked.path else find_run(runs or Path(), asked.source)
    left = next((file for file in (run.responses, run.samples) if file.is_file()), None)
    if left is None:
        raise RequestError(
            f"run {run.id} left no samples", where=str(run.samples), way_out="name a run that evaluates or generates"
        )
    return left


def _check_sha256(source: Source) -> None:
    expected = source.asked.sha256
    if expected is not None and (actual := source.sha256()) != expected.lower():
        raise RequestError(
            f"its sha256 is {actual}, not {expected} as the spec says",
            where=source.where,
            way_out="get the right file, or correct `sha256`",
        )


def _first_row(source: Source) -> tuple[int, Path, Row]:
    broken: list[RequestError] = []  # who reads it all says what is to become of them
    for path in source.files:
        for number, row in read_rows(path, broken.append):
            return number, path, row
    raise broken[0] if broken else RequestError("the dataset is empty", where=source.where)


def _rows(source: Source, cursor: Cursor) -> Iterator[Row]:
    for path in source.files:
        for number, row in read_rows(path, cursor.unreadable if cursor.broken else None):
            cursor.at(path, number, row)
            yield row


def _parsed(source: Source, layout: Layout) -> Callable[[Cursor], Iterator[Record]]:
    def records(cursor: Cursor) -> Iterator[Record]:
        for row in _rows(source, cursor):
            try:
                record = formats.parse(row, layout)
            except BadRow as reason:
                refuse(reason, cursor, source.lenient)
            else:
                yield record

    return records


def _described_records(source: Source, projection: Projection) -> Callable[[Cursor], Iterator[Record]]:
    def records(cursor: Cursor) -> Iterator[Record]:
        # only now, since rows with videos or audio can stay as they are, but become no records
        yield from _parsed(source, layout_of_entry(projection, source.where))(cursor)

    return records


def _converted(source: Source, converter: str) -> Callable[[Cursor], Iterator[Record]]:
    convert = _code(converter, source.asked.source)

    def records(cursor: Cursor) -> Iterator[Record]:
        for row in _rows(source, cursor):
            fields = _call(convert, row, cursor, f"the converter {converter}")
            if fields is None:
                cursor.converted_away += 1
            else:
                yield _made(fields, cursor, converter)

    return records


def _made(fields: Any, cursor: Cursor, converter: str) -> Record:
    if isinstance(fields, Record):
        return fields
    if not isinstance(fields, dict):
        raise cursor.error(f"the converter {converter} must return a dict, a Record or None, not {shown(repr(fields))}")
    try:
        return record_from(fields)
    except RequestError as error:
        failed = cursor.error(f"the converter {converter} returned no record: {error.message}")
        raise RequestError(failed.message, where=failed.where, way_out=error.way_out) from error


def _code(reference: str, where: str) -> Callable[[Any], Any]:
    return load_code(validate(CodeRef, reference, where))


def _call(function: Callable[[Any], Any], argument: Any, cursor: Cursor, what: str) -> Any:
    try:
        return function(argument)
    except TuneyardError:
        raise
    except Exception as error:  # the user's code: whatever it raises is told, with its type and the row
        raise cursor.error(f"{what} raised {type(error).__name__}: {error}") from error


def _builtin(asked: DatasetSource) -> Source:
    name = asked.source.removeprefix(PREFIX)
    if name not in CORPORA:
        raise unknown("built-in dataset", name, CORPORA)
    CORPORA[name].check(asked.arguments, asked.split, asked.source)
    for key in ("columns", "converter", "sha256"):
        if getattr(asked, key):
            raise RequestError(f"`{key}` has no meaning for a built-in dataset", where=asked.source)
    return _gsm8k(asked) if name == "gsm8k" else _arithmetic(asked)


def _arithmetic(asked: DatasetSource) -> Source:
    def records(cursor: Cursor) -> Iterator[Record]:
        for record in arithmetic(asked.arguments, asked.split):
            cursor.read += 1
            yield record

    return Source(asked, _records=records)


def _gsm8k(asked: DatasetSource) -> Source:
    folder = gsm8k.folder_of(asked.path or asked.arguments.get("data"))
    if folder is None:
        source = _from_hub(asked, gsm8k.HUB_ID, gsm8k.CONFIGURATION, asked.split)
    elif not folder.is_dir():
        named = f"name the folder of GSM8K's files by `data` or {gsm8k.VARIABLE}"
        raise RequestError("no such folder", where=str(folder), way_out=named)
    else:
        source = Source(asked, folders.files_of(folder, asked.split))

    def records(cursor: Cursor) -> Iterator[Record]:
        for row in _rows(source, cursor):
            try:
                yield gsm8k.record(cursor.number, row, asked.split)
            except BadRow as reason:
                raise cursor.error(str(reason)) from reason

    source._records = records
    return source
