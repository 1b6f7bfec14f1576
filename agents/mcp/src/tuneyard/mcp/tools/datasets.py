"""Building datasets while an agent works, out of rows that it gives or of a source in the workspace."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tuneyard.control.dataset_builds import FOLDER, Build
from tuneyard.control.dataset_builds import build_dataset as build
from tuneyard.core.run_folder import slug
from tuneyard.mcp.answers import Answer, Arguments, call_text, lines
from tuneyard.mcp.tool import Call, in_thread

MOST_RECORDS = 200

DropKind = Literal["broken", "contaminated", "long"]


class BuildDatasetArguments(Arguments):
    records: list[dict[str, Any]] = Field(default_factory=list, max_length=MOST_RECORDS)
    """Rows: {instruction, input, output}, {question, answer}, {messages}, {prompt, chosen, rejected}, {text}; with
    other keys say by `columns` which is which."""
    source: str | dict[str, Any] | None = None
    """Instead of records: a file or folder in the workspace, a hub id, builtin:NAME, run:ID, `file.py:function` for a
    function that yields rows, or a mapping with `source` and more, as `dataset` in a spec."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Of the function, or of a built-in corpus (digits, size, seed)."""
    out: str | None = Field(default=None, max_length=4096)
    """Dataset folder, in the workspace. Default: datasets/NAME."""
    name: str = Field(default="train", pattern=r"^[A-Za-z0-9_][\w.-]{0,80}$")
    """Name of the dataset in dataset_info.json."""
    mode: Literal["new", "append", "replace"] = "new"
    """What becomes of a folder that is there: refused, its dataset gets more rows, or is replaced."""
    format: Literal["alpaca", "sharegpt", "preference", "kto", "text"] | None = None
    """How rows are written. Default: what the first one is."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Role to column, where names are unusual: {"prompt": "Frage", "response": "Antwort"}."""
    dedupe: Literal["exact", "normalised", "no"] = "exact"
    """Which rows count as the same; the first of them is kept."""
    drop: list[DropKind] = Field(default_factory=list, max_length=3)
    """Rows to leave out: broken ones, which are refused otherwise; contaminated or long ones, which are counted."""
    tokenizer: str | None = Field(default=None, max_length=4096)
    """Folder of a model, or builtin:tiny: count the tokens of the rows."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens from which on a row would be cut. Default: 2048, as in LLaMA-Factory."""
    against: str | dict[str, Any] | None = None
    """An evaluation whose documents must not be in the rows: builtin:gsm8k, a file, {"source": "builtin:arithmetic",
    "digits": 2}."""


class BuildDatasetAnswer(Answer):
    folder: str
    """What `dataset` in a spec names."""
    rows: int
    format: str
    duplicates: int
    """Rows left out, since an earlier one says the same."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Rows left out as asked."""
    tokens: dict[str, Any] | None = None
    """How many tokens the rows have, and what would be cut."""
    contamination: dict[str, Any] | None = None
    """What the rows hold of the evaluation."""
    notes: list[str] = Field(default_factory=list)
    sha256: str
    next: list[str] = Field(default_factory=list)
    """Calls that come next."""

    def text(self) -> str:
        return lines(
            f"{self.folder}: {self.rows} rows ({self.format}), {self.duplicates} doubles left out",
            *(f"{count} {kind} rows left out" for kind, count in self.dropped.items() if count),
            self._told_of_tokens(),
            self._told_of_contamination(),
            *self.notes,
            f"next: {'; '.join(self.next)}",
        )

    def _told_of_tokens(self) -> str | None:
        tokens = self.tokens
        if tokens is None:
            return None
        return f"{tokens['total']} tokens, the longest row {tokens['longest']}; {tokens['over']} rows would be cut"

    def _told_of_contamination(self) -> str | None:
        found = self.contamination
        if found is None:
            return None
        told = f"{found['rows']} rows hold {found['found']} of {found['documents']} documents of {found['against']}"
        return "; ".join([told, *found["first"]])


async def build_dataset(call: Call, asked: BuildDatasetArguments) -> BuildDatasetAnswer:
    """Build a dataset folder that `train` takes as its `dataset`: from up to 200 records given here, or from a source.
    Rows are checked (empty turns, order of roles, images), doubles left out; broken rows are all named and nothing is
    made. Nothing is overwritten unless mode says so. Code of a source must lie in the workspace, and is run.
    """
    out = asked.out or f"{FOLDER}/{slug(asked.name)}"
    given = asked.model_dump(exclude={"response_format", "out"})
    await call.report(0, 1, "building")
    entry = await in_thread(build, call.workspace, Build(out, **given))
    return _answer(entry, asked.name)


def _answer(entry: dict[str, Any], name: str) -> BuildDatasetAnswer:
    dataset = {"source": entry["folder"], "name": name}
    known = {field: entry[field] for field in BuildDatasetAnswer.model_fields if field in entry}
    return BuildDatasetAnswer(**known, next=[call_text("train", fields={"dataset": dataset})])
