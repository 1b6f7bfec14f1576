"""Looking at datasets: what a folder holds, what is wrong with rows, some of them by chance."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tuneyard.core.documents import Document
from tuneyard.core.errors import RequestError
from tuneyard.core.files import sha256_of_file
from tuneyard.core.references import DatasetFormat
from tuneyard.data.assembling import Assembly, NoFile, quiet
from tuneyard.data.building import Wishes
from tuneyard.data.cursor import Cursor
from tuneyard.data.folders import read_entry
from tuneyard.data.manifest import DatasetEntry
from tuneyard.data.origins import Input
from tuneyard.data.pieces import records_of
from tuneyard.data.placing import entries_in
from tuneyard.data.reading import read_rows
from tuneyard.data.records import Record


def shown_folder(folder: Path) -> dict[str, Any]:
    """What a dataset folder holds: the manifest's entries, each with how LLaMA-Factory reads it and its first row.

    Raises:
        RequestError: it is no dataset folder, or a file is missing.
    """
    entries = entries_in(folder)
    if not entries:
        there = "holds no manifest.json" if folder.is_dir() else "no such folder"
        raise RequestError(there, where=str(folder), way_out="`yard dataset build SOURCE --out DIR` makes one")
    return {"folder": str(folder), "datasets": [_shown(folder, entry) for entry in entries]}


def _shown(folder: Path, entry: DatasetEntry) -> dict[str, Any]:
    first = next((row for _, row in read_rows(folder / entry.file)), None)
    return {**entry.model_dump(), "read_as": read_entry(folder, entry.name)[1], "first": first}


@dataclass(frozen=True)
class Survey:
    """What was found in the rows of a dataset."""

    name: str
    read: int
    """Rows read."""
    sound: int
    """Rows that can be trained on, doubles left out."""
    facts: dict[str, Any]
    """Doubles, tokens and contamination, as a manifest has them."""
    notes: list[str]
    """What a person should know."""
    faults: list[str]
    """What has to be mended; empty: nothing."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON tells it."""
        return asdict(self)


def survey(
    taken: Input,
    wishes: Wishes,
    *,
    format: DatasetFormat | None = None,
    runs: Path | None = None,
    tell: Callable[[int], None] = quiet,
) -> Survey:
    """Look at every row of a source as a build does, and write nothing.

    Raises:
        RequestError: there is no row, or it cannot be read at all.
        SetupError: the tokenizer's library or the hub is missing.
    """
    with tempfile.TemporaryDirectory() as folder:  # takes images that came as bytes
        assembly = Assembly(NoFile(Path(folder) / "rows"), wishes.sieve(runs), format, tell)
        part = assembly.add(taken)
    facts = assembly.sieve.facts()
    facts = {name: fact.model_dump() if isinstance(fact, Document) else fact for name, fact in facts.items()}
    faults = [f"{error.where}: {error.message}" for error in assembly.broken.first]
    if more := assembly.broken.count - len(faults):
        faults.append(f"and {more:,} broken rows more")
    if assembly.sieve.contaminated:
        faults.append(f"{assembly.sieve.contaminated:,} rows hold documents of the evaluation")
    notes = [f"{count} rows: {note}" for note, count in assembly.notes.items()] + assembly.said
    return Survey(taken.name, assembly.read, part.rows, facts, notes, [*faults, *_damage(taken)])


def _damage(taken: Input) -> list[str]:
    """Files that are not what the manifest of their folder says."""
    folder = Path(str(taken.source.get("source")))
    entries = entries_in(folder) if folder.is_dir() else []
    name = taken.source.get("name")
    damaged = []
    for entry in entries:
        if name in (None, entry.name) and _hash(folder / entry.file) != entry.sha256:
            damaged.append(f"{folder / entry.file}: is not the file that manifest.json describes (another sha256)")
    return damaged


def _hash(path: Path) -> str | None:
    return sha256_of_file(path) if path.is_file() else None


def sample(taken: Input, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Some records by chance, in their order, each as the fields that it has; the same for the same seed.

    Raises:
        RequestError: there is no record, or one on the way cannot be read.
    """
    chance = random.Random(seed)
    chosen: list[tuple[int, Record]] = []
    for number, record in enumerate(records_of(taken, Cursor(name=taken.name))):
        if len(chosen) < count:
            chosen.append((number, record))
        elif (place := chance.randrange(number + 1)) < count:
            chosen[place] = (number, record)
    if not chosen:
        raise RequestError("there is no record", where=taken.name)
    return [_told(record) for _, record in sorted(chosen, key=lambda pair: pair[0])]


def _told(record: Record) -> dict[str, Any]:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return {name: value for name, value in values.items() if value is not None and value not in ((), {})}
