"""How many tokens rows have, by the tokenizer of a model; nothing of this is imported unless one is named.

Counted is the text. What a chat template puts around it, a few tokens a turn, comes on top.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import sha256_of_file
from tuneyard.data.builtin import PREFIX, materialise_model
from tuneyard.data.manifest import TokenStatistics

FILE = "tokenizer.json"
CUTOFF = 2048
"""LLaMA-Factory's `cutoff_len` where nobody sets it: longer rows are cut."""


class TokenCounts:
    """The tokens of rows, counted. Memory grows with how many different lengths there are, not with the rows."""

    def __init__(self, model: str, limit: int | None = None) -> None:
        """
        Args:
            model: folder of a model, or `builtin:tiny`.
            limit: tokens from which on a row is cut. Default: 2048, as in LLaMA-Factory.

        Raises:
            RequestError: no such folder, or no tokenizer.json in it.
            SetupError: this environment has no `tokenizers`.
        """
        self.model = model
        self.limit = limit or CUTOFF
        self._file = _file_of(model)
        self._tokenizer = _load(self._file)
        self._lengths: Counter[int] = Counter()

    def of(self, texts: list[str]) -> list[int]:
        """The number of tokens of each text."""
        return [len(encoded) for encoded in self._tokenizer.encode_batch(texts, add_special_tokens=False)]

    def add(self, lengths: list[int]) -> None:
        """Count rows of these lengths."""
        self._lengths.update(lengths)

    def statistics(self) -> TokenStatistics | None:
        """What the rows have; None where there is no row."""
        rows = self._lengths.total()
        if not rows:
            return None
        over = {length: count for length, count in self._lengths.items() if length > self.limit}
        total = sum(length * count for length, count in self._lengths.items())
        return TokenStatistics(
            tokenizer=self.model,
            sha256=sha256_of_file(self._file),
            total=total,
            mean=round(total / rows, 1),
            shortest=min(self._lengths),
            median=self._quantile(0.5),
            most=self._quantile(0.95),
            longest=max(self._lengths),
            limit=self.limit,
            over=sum(over.values()),
            cut=sum((length - self.limit) * count for length, count in over.items()),
        )

    def _quantile(self, share: float) -> int:
        wanted, passed = share * self._lengths.total(), 0
        for length, count in sorted(self._lengths.items()):
            passed += count
            if passed >= wanted:
                return length
        return 0


def _file_of(model: str) -> Path:
    folder = materialise_model(model) if model.startswith(PREFIX) else Path(model)
    path = folder if folder.name == FILE else folder / FILE
    if not path.is_file():
        raise RequestError(
            f"there is no {FILE}", where=str(folder), way_out="name the folder of a model (`hf download` gets one)"
        )
    return path


def _load(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer  # type: ignore[import-not-found]
    except ImportError as error:
        raise SetupError(
            "counting tokens needs the library `tokenizers`, which this environment has not",
            way_out="use the one that trains: ./pixiw run -e train yard dataset …",
        ) from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more exact
        raise RequestError(f"not a tokenizer: {error}", where=str(path)) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
