"""Splitting a dataset by the hash of the problem, so that no seed, order or size moves one from test to train."""

from __future__ import annotations

from pathlib import Path

from tuneyard.core.errors import RequestError
from tuneyard.core.references import DatasetFormat
from tuneyard.data.assembling import Assembly
from tuneyard.data.cursor import Cursor
from tuneyard.data.dataset_folder import DatasetFolder
from tuneyard.data.manifest import DatasetEntry, Part
from tuneyard.data.origins import Input
from tuneyard.data.pieces import records_of
from tuneyard.data.placing import place_new, workplace
from tuneyard.data.records import HELD_OUT, split_of
from tuneyard.data.row_file import RowFile
from tuneyard.data.sieve import Sieve


def split(
    taken: Input, folder: Path, *, held_out: int = HELD_OUT, format: DatasetFormat | None = None
) -> list[DatasetEntry]:
    """Write a folder with the datasets `train` and `test`; their entries in the manifest. Doubles stay.

    Args:
        taken: what is split.
        folder: the dataset folder, which must not be there.
        held_out: one problem in this many goes to test.
        format: how rows are written; None: what the first record's fields say.

    Raises:
        RequestError: the folder is there, rows that cannot be used, or a side that nothing falls to.
        SetupError: the disk is full.
    """
    with workplace(folder, "new") as stage:
        with DatasetFolder(stage) as out, RowFile(out.new("train")) as train, RowFile(out.new("test")) as test:
            sides = {"train": Assembly(train, Sieve("no"), format), "test": Assembly(test, Sieve("no"), format)}
            read = _divide(taken, sides, held_out)
            entries = [_finished(out, name, side, taken, read) for name, side in sides.items()]
        place_new(stage, folder)
    return entries


def _divide(taken: Input, sides: dict[str, Assembly], held_out: int) -> int:
    cursor = Cursor(name=taken.name, broken=sides["train"].broken)
    sides["test"].broken = sides["train"].broken
    for record in records_of(taken, cursor):
        sides[split_of(record, held_out)].take(record, cursor, taken.lenient)
    for side in sides.values():
        side.read = cursor.read
    return cursor.read


def _finished(out: DatasetFolder, name: str, side: Assembly, taken: Input, read: int) -> DatasetEntry:
    if not side.rows and not side.broken.count:
        raise RequestError(
            f"none of the {read:,} problems falls to {name}",
            where=taken.name,
            way_out="take more problems, or another --held-out",
        )
    made = side.finish(taken.name)
    part = Part(source=taken.source, sha256=taken.sha256(), revision=taken.revision, read=read, rows=side.rows)
    role = "train" if name == "train" else "eval"
    return out.put(name, made, role, read=read, parts=[part], source=part.source, source_sha256=part.sha256)
