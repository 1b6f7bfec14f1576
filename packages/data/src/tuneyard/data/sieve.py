"""What rows have to pass to get into a dataset that is built: each said once, none of an evaluation's, none too long.

Memory holds a short key of every row that is in, about 90 bytes, and no row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Literal

from tuneyard.data.contamination import Evaluation, asked_of
from tuneyard.data.contents import Dedupe, Said, contents, keys, text_of
from tuneyard.data.manifest import Contamination
from tuneyard.data.records import Record
from tuneyard.data.token_counts import TokenCounts

Drop = Literal["broken", "contaminated", "long"]
"""Rows that are left out where that is asked for, rather than refused or told of."""

DROPS: tuple[Drop, ...] = ("broken", "contaminated", "long")

MOST_TOLD = 5
"""Rows with documents of an evaluation that the manifest names."""

Place = Callable[[int], str]
"""Where the row at an index stands, for messages."""


@dataclass
class Sieve:
    """Lets rows pass, and counts what it keeps back."""

    dedupe: Dedupe = "exact"
    evaluation: Evaluation | None = None
    """Whose documents rows must not hold."""
    tokens: TokenCounts | None = None
    drop: frozenset[Drop] = frozenset()
    duplicates: int = 0
    contaminated: int = 0
    long: int = 0
    _seen: set[int] = field(default_factory=set)
    _documents: set[int] = field(default_factory=set)
    _first: list[str] = field(default_factory=list)

    def keeps(self, record: Record, place: str) -> bool:
        """Whether a record passes."""
        return self.sift([contents(record)], lambda: [asked_of(record)], lambda index: place) is None

    def sift(self, said: list[Said], asked: Callable[[], list[str]], place: Place) -> list[bool] | None:
        """Which rows pass; None: all of them.

        Args:
            said: what each row says (`contents`).
            asked: gives what each asks; called only where that is needed.
            place: where each stands.
        """
        kept = self._new(said)
        if self.evaluation is not None:
            kept = _both(kept, self._clean(said, asked(), kept, place))
        if self.tokens is not None:
            kept = _both(kept, self._short(said, kept))
        return None if kept is None or all(kept) else kept

    def _new(self, said: list[Said]) -> list[bool] | None:
        """Which say what none said before."""
        if self.dedupe == "no":
            return None
        named = keys(said, self.dedupe)
        new = set(named)
        known = self._seen & new
        if not known and len(new) == len(named):
            self._seen |= new
            return None
        if len(new) == len(named):
            self._seen |= new
            kept = [name not in known for name in named]
        else:
            kept = [self._is_new(name) for name in named]
        self.duplicates += kept.count(False)
        return kept

    def _is_new(self, name: int) -> bool:
        before = len(self._seen)
        self._seen.add(name)
        return len(self._seen) > before

    def _clean(self, said: list[Said], asked: list[str], kept: list[bool] | None, place: Place) -> list[bool]:
        """Which hold no document of the evaluation; those that are kept back already are not looked at."""
        assert self.evaluation is not None
        clean = []
        for index, parts in enumerate(said):
            found = self.evaluation.find(asked[index], "\n".join(parts)) if kept is None or kept[index] else None
            clean.append(found is None)
            if found is not None:
                self.contaminated += 1
                self._documents.add(found)
                if len(self._first) < MOST_TOLD:
                    self._first.append(f"{place(index)} holds {self.evaluation.name_of(found)}")
        return clean if "contaminated" in self.drop else [True] * len(said)

    def _short(self, said: list[Said], kept: list[bool] | None) -> list[bool]:
        """Which are no longer than the limit, where longer ones are dropped."""
        assert self.tokens is not None
        kept = kept or [True] * len(said)
        texts = [text_of(parts) for parts in compress(said, kept)]
        lengths = dict(zip(compress(range(len(said)), kept), self.tokens.of(texts), strict=True))
        long = {index for index, length in lengths.items() if length > self.tokens.limit}
        self.long += len(long)
        if "long" not in self.drop:
            self.tokens.add(list(lengths.values()))
            return kept
        self.tokens.add([length for index, length in lengths.items() if index not in long])
        return [passed and index not in long for index, passed in enumerate(kept)]

    def facts(self) -> dict[str, Any]:
        """What the manifest tells of it."""
        dropped = {"contaminated": self.contaminated, "long": self.long}
        return {
            "dedupe": self.dedupe,
            "duplicates": self.duplicates,
            "dropped": {kind: count for kind, count in dropped.items() if kind in self.drop},
            "contamination": self._contamination(),
            "tokens": self.tokens.statistics() if self.tokens else None,
        }

    def _contamination(self) -> Contamination | None:
        if self.evaluation is None:
            return None
        return Contamination(
            against=self.evaluation.name,
            documents=self.evaluation.documents,
            found=len(self._documents),
            rows=self.contaminated,
            first=self._first,
        )


def _both(a: list[bool] | None, b: list[bool]) -> list[bool]:
    return b if a is None else [x and y for x, y in zip(a, b, strict=True)]
