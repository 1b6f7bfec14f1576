"""manifest.json of a dataset folder: what is in it, where it came from, and the hashes of both."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tuneyard.core.documents import SCHEMA_VERSION, Document
from tuneyard.core.references import DatasetFormat
from tuneyard.data.contents import Dedupe

Role = Literal["train", "eval", "input"]

MANIFEST = "manifest.json"


class TokenStatistics(Document):
    """How many tokens the rows of a dataset have. The text is counted, without what a chat template adds."""

    tokenizer: str
    """The model whose tokenizer counted."""
    sha256: str
    """Hash of its tokenizer.json."""
    total: int
    """Tokens of all rows."""
    mean: float
    """Tokens of a row, on average."""
    shortest: int
    """Tokens of the shortest row."""
    median: int
    """Tokens that half of the rows do not exceed."""
    most: int
    """Tokens that 95 % of the rows do not exceed."""
    longest: int
    """Tokens of the longest row."""
    limit: int
    """Tokens from which on a row is cut."""
    over: int
    """Rows that would be cut."""
    cut: int
    """Tokens that would be cut off them."""


class Contamination(Document):
    """What rows hold of an evaluation's documents."""

    against: str
    """The evaluation."""
    documents: int
    """Documents that it has."""
    found: int
    """Documents of it that some row holds."""
    rows: int
    """Rows that hold one."""
    first: list[str] = Field(default_factory=list)
    """The first of these rows, and what they hold."""


class Part(Document):
    """One of the sources that a dataset was built from."""

    source: dict[str, Any]
    """What it is: a DatasetSource without the fields at their defaults; `-` for a pipe, `file.py:function` for code."""
    sha256: str | None = None
    """Hash of its file or code; of several files: of the sorted list of their names and hashes. Null: unknown."""
    revision: str | None = None
    """Commit of a hub dataset."""
    read: int
    """Rows read from it."""
    rows: int
    """Rows of it that are in the dataset."""


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
    parts: list[Part] = Field(default_factory=list)
    """What a dataset that was built consists of, in order; appending adds one. Empty for the data of a run."""
    dedupe: Dedupe = "no"
    """Which rows counted as the same."""
    duplicates: int = 0
    """Rows that are not in the file, since an earlier one says the same."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Rows that are not in the file, as was asked: `broken`, `contaminated` or `long` -> how many."""
    tokens: TokenStatistics | None = None
    """Null: no tokenizer was given."""
    contamination: Contamination | None = None
    """Null: compared with no evaluation."""
    notes: list[str] = Field(default_factory=list)
    """What a person should know about the rows."""


class DataManifest(Document):
    """manifest.json, written last: where it stands, the folder is whole."""

    schema_version: int = SCHEMA_VERSION
    """Version of this document's form."""
    datasets: list[DatasetEntry]
    """Every dataset of the folder, in the order of the spec: those trained on first."""
