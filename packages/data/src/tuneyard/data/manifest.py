"""manifest.json of a dataset folder: what is in it, where it came from, and the hashes of both."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tuneyard.core.documents import SCHEMA_VERSION, Document
from tuneyard.core.references import DatasetFormat

Role = Literal["train", "eval", "input"]

MANIFEST = "manifest.json"


class DatasetEntry(Document):
    """One dataset of the folder."""

    name: str
    """Its name in dataset_info.json."""
    role: Role = "train"
    """Whether it is trained on, its loss measured, or put to a model to answer."""
    file: str
    """Its file, relative to the folder."""
    rows: int
    """Rows in the file."""
    bytes: int
    """Size of the file."""
    sha256: str
    """Hash of the file."""
    format: DatasetFormat
    """What the rows are: alpaca, sharegpt, preference, kto or text."""
    source: dict[str, Any] = Field(default_factory=dict)
    """What it was made from, as the spec said it: a DatasetSource, without the fields at their defaults."""
    source_sha256: str | None = None
    """Hash of the source file; of several files: of the sorted list of their names and hashes. Null: made up."""
    revision: str | None = None
    """Commit of a hub dataset."""
    read: int
    """Rows read from the source, dropped ones included."""
    left_out: int = 0
    """Rows that LLaMA-Factory would have left out without a word, and that are not in the file."""
    notes: list[str] = Field(default_factory=list)
    """What a person should know about the rows."""


class DataManifest(Document):
    """manifest.json, written last: where it stands, the folder is whole."""

    schema_version: int = SCHEMA_VERSION
    """Version of this document's form."""
    datasets: list[DatasetEntry]
    """Every dataset of the folder, in the order of the spec: those trained on first."""
