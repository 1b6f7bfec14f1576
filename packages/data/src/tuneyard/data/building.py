"""Building a dataset folder from whatever there is: one dataset, checked, without doubles, described for a trainer.

    build([open_input("rows.jsonl")], Path("datasets/rows"))

The folder is new, or, if so asked, its dataset gets more rows or is replaced. Where something is wrong with a row, with
the source, or with the disk, everything is as it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError
from tuneyard.core.references import DatasetFormat, DatasetSource
from tuneyard.data.assembling import Assembly, quiet
from tuneyard.data.contamination import Evaluation
from tuneyard.data.contents import Dedupe
from tuneyard.data.dataset_folder import DatasetFolder
from tuneyard.data.manifest import DatasetEntry, Part, Role
from tuneyard.data.origins import Input, asked_for, open_input
from tuneyard.data.placing import Mode, entry_in, is_described, place, workplace
from tuneyard.data.row_file import RowFile
from tuneyard.data.sieve import Drop, Sieve
from tuneyard.data.sources import open_source
from tuneyard.data.token_counts import TokenCounts


@dataclass(frozen=True)
class Wishes:
    """What is looked at in the rows of a dataset, and what becomes of those that are found."""

    dedupe: Dedupe = "exact"
    """Which rows count as the same; only the first of them is kept."""
    drop: frozenset[Drop] = frozenset()
    """Rows that are left out: `broken` ones, which are refused otherwise; `contaminated` and `long` ones, of which is
    told otherwise."""
    tokenizer: str | None = None
    """Folder of the model whose tokenizer counts; null: tokens are not counted."""
    max_tokens: int | None = None
    """Tokens from which on a row is cut. Null: 2048, as in LLaMA-Factory."""
    against: str | Mapping[str, Any] | None = None
    """The evaluation whose documents must not be in the rows; null: none is looked at."""

    def sieve(self, runs: Path | None = None) -> Sieve:
        """What lets rows pass by these wishes; see `evaluation_of` and `TokenCounts` for what is raised."""
        if self.max_tokens is not None and self.tokenizer is None:
            raise RequestError("a limit on tokens needs a tokenizer", where="max_tokens", way_out="name a tokenizer")
        evaluation = evaluation_of(self.against, runs) if self.against is not None else None
        tokens = TokenCounts(self.tokenizer, self.max_tokens) if self.tokenizer else None
        for kind, there in (("contaminated", evaluation), ("long", tokens)):
            if kind in self.drop and there is None:
                needs = "an evaluation (against)" if kind == "contaminated" else "a tokenizer"
                raise RequestError(f"to drop {kind} rows needs {needs}", where="drop")
        return Sieve(self.dedupe, evaluation, tokens, self.drop)


def evaluation_of(given: str | Mapping[str, Any], runs: Path | None = None) -> Evaluation:
    """The documents of an evaluation: of a source, its test split where nothing else is said.

    Raises:
        RequestError: nothing there, no such split, no document.
        SetupError: the hub is needed and cannot be reached.
    """
    asked = asked_for(given)
    splits = not Path(asked.source).is_file() and not asked.source.startswith("run:")
    if splits and "split" not in asked.model_fields_set and not _described(asked):
        asked = asked.model_copy(update={"split": "test"})
    records = open_source(asked, runs=runs, answered=False).records()
    return Evaluation(records, asked.source)


def _described(asked: DatasetSource) -> bool:
    from tuneyard.data.folders import has_entries

    return Path(asked.source).is_dir() and has_entries(Path(asked.source))


def build(
    inputs: Sequence[Input],
    folder: Path,
    *,
    name: str = "train",
    role: Role = "train",
    format: DatasetFormat | None = None,
    mode: Mode = "new",
    wishes: Wishes | None = None,
    runs: Path | None = None,
    tell: Callable[[int], None] = quiet,
) -> DatasetEntry:
    """Build one dataset of a folder; what is returned is its entry in the manifest.

    Args:
        inputs: what it is built from, in order.
        folder: the dataset folder.
        name: its name in dataset_info.json.
        role: `train` or `eval`.
        format: how rows are written; None: what the first record's fields say, or what is there says.
        mode: what becomes of a folder that is there. To append to one that is not there makes it.
        wishes: what is looked at; None: exact doubles alone.
        runs: the folder of all runs, where the evaluation is one of them.
        tell: is called now and then with the number of rows read so far.

    Raises:
        RequestError: a folder that is there, a source that is not, rows that cannot be used (all of them told), none
            left, or other rows than the dataset has.
        SetupError: the disk is full, the hub or the tokenizer's library is missing.
    """
    wishes = wishes or Wishes()
    with workplace(folder, mode) as stage:
        before, old = _before(folder, name, mode)
        format = _agreed(format, before, folder)
        sieve = wishes.sieve(runs)

        with DatasetFolder(stage) as out:
            with RowFile(out.new(name)) as file:
                assembly = Assembly(file, sieve, format, tell, folder.absolute())
                kept = assembly.add(old) if old is not None else None
                parts = [assembly.add(taken) for taken in inputs]
                made = assembly.finish(inputs[0].name if len(inputs) == 1 else str(folder))
            entry = out.put(name, made, role, **_facts(assembly, _earlier(before, old, kept) + parts))
        return place(stage, folder, entry)


def _before(folder: Path, name: str, mode: Mode) -> tuple[DatasetEntry | None, Input | None]:
    """What the manifest says of a dataset that is there, and its rows, where there will be more of them."""
    if mode != "append" or not is_described(folder, name):
        return None, None
    return entry_in(folder, name), replace(open_input({"source": str(folder), "name": name}), lenient=False)


def _agreed(format: DatasetFormat | None, before: DatasetEntry | None, folder: Path) -> DatasetFormat | None:
    if before is None or format in (None, before.format):
        return before.format if before else format
    raise RequestError(
        f"the dataset is {before.format}, and {format} rows cannot be added to it",
        where=str(folder),
        way_out=f"leave the format out, or build a dataset of another name (--name) beside {before.name!r}",
    )


def _earlier(before: DatasetEntry | None, old: Input | None, kept: Part | None) -> list[Part]:
    """The parts that a dataset had before; one that others wrote counts as one."""
    if before is not None and before.parts:
        return before.parts
    return [kept] if old is not None and kept is not None else []


def _facts(assembly: Assembly, parts: list[Part]) -> dict[str, Any]:
    facts = assembly.sieve.facts()
    if "broken" in assembly.sieve.drop:
        facts["dropped"]["broken"] = assembly.broken.count
    only = parts[0] if len(parts) == 1 else None
    return {
        **facts,
        "read": assembly.read,
        "parts": parts,
        "source": only.source if only else {},
        "source_sha256": only.sha256 if only else None,
        "revision": only.revision if only else None,
    }
