"""Dataset folders: the rows of each dataset, dataset_info.json for LLaMA-Factory, manifest.json for everybody else.

    write_dataset(folder, records)                   records of a program's own
    with DatasetFolder(folder) as out: out.add(...)  datasets as a spec names them, several in one folder

The folder is whole once manifest.json stands in it; where something fails, nothing is left of it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError
from tuneyard.core.files import explain_os_error, write_atomically, write_json
from tuneyard.core.references import DatasetFormat
from tuneyard.data.cursor import Cursor
from tuneyard.data.folders import INFORMATION
from tuneyard.data.manifest import MANIFEST, DataManifest, DatasetEntry, Role
from tuneyard.data.records import Record
from tuneyard.data.sources import Source
from tuneyard.data.writing import Made, write_projected, write_records


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
        else:
            self._remove()

    def add(self, name: str, source: Source, role: Role = "train") -> DatasetEntry:
        """Write a dataset of a spec; what is returned is its entry in the manifest.

        Raises:
            RequestError: a row that cannot be used (with file, line and text), no row, or none left.
            SetupError: the disk is full.
        """
        path, cursor, asked = self.new(name), Cursor(name=source.where), source.asked
        if source.projection is not None:
            made = write_projected(path, source, source.projection, cursor, self.processes)
            _check_columns(source, made)
        else:
            format = asked.format if asked.converter else None  # with a converter, `format` says how rows are written
            made = write_records(path, source.records(cursor), cursor, format=format, lenient=source.lenient)
            made.entry.update(source.settings)
        return self.put(
            name,
            made,
            role,
            read=cursor.read,
            left_out=cursor.left_out,
            source=asked.model_dump(exclude_defaults=True),
            source_sha256=made.written.sha256 if made.as_it_was else source.sha256(),
            revision=source.revision,
        )

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
        path, cursor = self.new(name), Cursor(name=name)
        made = write_records(path, _counted(records, cursor), cursor, format=format, keep=True)
        return self.put(name, made, role, read=cursor.read, left_out=cursor.left_out)

    def put(self, name: str, made: Made, role: Role = "train", **facts: Any) -> DatasetEntry:
        """Add a dataset whose file has been written, to the path that `new` gave; its entry in the manifest.

        Args:
            name: its name in dataset_info.json.
            made: what was written.
            role: `train` or `eval`.
            facts: further fields of the entry, `read` among them.
        """
        self._information[name] = made.entry
        entry = DatasetEntry(
            name=name,
            role=role,
            file=made.written.path.name,
            rows=made.written.rows,
            bytes=made.written.bytes,
            sha256=made.written.sha256,
            format=made.format,
            notes=list(made.notes),
            **facts,
        )
        self.entries.append(entry)
        return entry

    def new(self, name: str) -> Path:
        """The file of a dataset that is to be added, which is not there.

        Raises:
            RequestError: the name is taken, or cannot be one.
        """
        if not name or name in self._information or any(c in name for c in "/\\,\0") or name.startswith("."):
            problem = "is there already" if name in self._information else "cannot be the name of a dataset"
            raise RequestError(f"{name!r} {problem}", where=str(self.path))
        return self.path / f"{name}.jsonl"

    def _finish(self) -> None:
        try:
            # ASCII, since LLaMA-Factory reads this file in whatever encoding the machine has
            write_atomically(self.path / INFORMATION, json.dumps(self._information, indent=2) + "\n")
            write_json(self.path / MANIFEST, DataManifest(datasets=self.entries).model_dump())
        except BaseException:
            self._remove()
            raise

    def _remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._existed:
            self.path.mkdir(exist_ok=True)


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


def _check_columns(source: Source, made: Made) -> None:
    """A column that was named and is in no row is a mistake in its name."""
    for role, column in source.asked.columns.items():
        if column not in made.written.columns:
            raise RequestError(
                f"`columns` says that {role} is in {column!r}, which no row has",
                where=source.where,
                way_out="the columns are: " + ", ".join(sorted(made.written.columns)),
            )
