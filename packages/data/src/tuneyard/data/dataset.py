"""A dataset folder from Python: written by a program while it runs, read, added to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError
from tuneyard.core.references import DatasetFormat, DatasetSource
from tuneyard.data.building import Wishes, build
from tuneyard.data.contents import Dedupe
from tuneyard.data.manifest import DatasetEntry
from tuneyard.data.origins import given
from tuneyard.data.placing import Mode, entry_in
from tuneyard.data.records import Record
from tuneyard.data.sieve import Drop
from tuneyard.data.sources import read_records


class Dataset:
    """One dataset of a folder that LLaMA-Factory reads.

        sums = Dataset("datasets/sums")
        sums.write({"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(1000))
        sums.append([{"question": "2 + 2?", "answer": "4"}])
        assert len(sums) == 1001

    A spec names it by its folder: `dataset: datasets/sums`.
    """

    def __init__(self, folder: Path | str, name: str = "train") -> None:
        """
        Args:
            folder: the dataset folder; it need not be there.
            name: which of its datasets.
        """
        self.folder = Path(folder)
        self.name = name

    def __repr__(self) -> str:
        return f"Dataset({str(self.folder)!r}, {self.name!r})"

    @property
    def entry(self) -> DatasetEntry:
        """What the manifest says of it: rows, sha256, format, doubles, tokens and where it came from.

        Raises:
            RequestError: it has not been written, or not by tuneyard.
        """
        found = entry_in(self.folder, self.name)
        if found is None:
            raise RequestError(f"there is no dataset {self.name!r}", where=str(self.folder), way_out="write it first")
        return found

    def __len__(self) -> int:
        return self.entry.rows

    def __iter__(self) -> Iterator[Record]:
        return read_records(DatasetSource(source=str(self.folder), name=self.name))

    def write(
        self,
        records: Iterable[Record | Mapping[str, Any]],
        *,
        format: DatasetFormat | None = None,
        columns: Mapping[str, str] | None = None,
        dedupe: Dedupe = "exact",
        drop: Iterable[Drop] = (),
        tokenizer: str | Path | None = None,
        max_tokens: int | None = None,
        against: str | Mapping[str, Any] | None = None,
        mode: Mode = "new",
    ) -> DatasetEntry:
        """Write records as this dataset, in a folder that is not there yet; the manifest's entry.

        Args:
            records: Records, or mappings with columns of any names; may be a generator, nothing is held.
            format: alpaca, sharegpt, preference, kto or text. None: what the first record's fields say.
            columns: role -> column, where names are unusual: `{"prompt": "Frage", "response": "Antwort"}`.
            dedupe: which rows count as the same: `exact`, `normalised` or `no`.
            drop: rows to leave out: `broken`, which are refused otherwise; `contaminated`, `long`, which are counted.
            tokenizer: folder of a model whose tokenizer counts the tokens.
            max_tokens: tokens from which on a row is cut. None: 2048, as in LLaMA-Factory.
            against: the evaluation whose documents must not be in the rows, such as `builtin:gsm8k`.
            mode: `append` adds to the rows that are there, `replace` takes their place.

        Raises:
            RequestError: the folder is there, no record, or some that cannot be used (all of them told).
            SetupError: the disk is full, or the tokenizer's library is missing.
        """
        wishes = Wishes(dedupe, frozenset(drop), str(tokenizer) if tokenizer else None, max_tokens, against)
        taken = given(records, columns=columns, format=format)
        return build([taken], self.folder, name=self.name, format=format, mode=mode, wishes=wishes)

    def append(self, records: Iterable[Record | Mapping[str, Any]], **options: Any) -> DatasetEntry:
        """Add records behind those that are there, if any; rows that are there already are left out. See `write`."""
        return self.write(records, mode="append", **options)

    def replace(self, records: Iterable[Record | Mapping[str, Any]], **options: Any) -> DatasetEntry:
        """Write records in place of those that are there, if any. See `write`."""
        return self.write(records, mode="replace", **options)
