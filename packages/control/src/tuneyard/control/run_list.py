"""The runs of a folder, page by page, for a program that asks again and again: what is known stays in memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tuneyard.control.index import Index, Row, in_order, run_ids
from tuneyard.core.errors import RequestError
from tuneyard.core.run_folder import is_run_id

CLOCK_TICK_NS = 100_000_000
"""A folder changed less than this ago may change once more without its time telling so."""


@dataclass(frozen=True)
class Page:
    """Some runs, the newest first."""

    rows: list[Row]
    total: int
    """How many runs fit the question, on all pages."""
    after: str | None
    """What to ask the next page with; None on the last one."""


class RunList:
    """The runs of one folder. Threads may share it."""

    def __init__(self, runs: Path) -> None:
        self.folder = runs
        self._lock = threading.Lock()
        self._listed = -1
        self._ids: list[str] = []
        self._index: Index | None = None

    def page(
        self,
        *,
        kind: str | None = None,
        states: Iterable[str] = (),
        text: str = "",
        limit: int = 20,
        after: str | None = None,
    ) -> Page:
        """One page of the runs that fit.

        Args:
            kind: only these. Default: every kind.
            states: only runs in one of these states. Default: in any.
            text: only runs with this in their id.
            limit: at most so many.
            after: continue behind this run, as the page before said. It may have been removed since.

        Raises:
            RequestError: `after` is no run id.
        """
        if after is not None and not is_run_id(after):
            raise RequestError(f"{after!r} is no run id", way_out="take `after` from the page before")
        with self._lock:
            ids = self._names()
            if kind or text:
                beginning = f"{kind}-" if kind else ""
                ids = [name for name in ids if name.startswith(beginning) and text in name]
            index = self._index = self._index or Index(self.folder)
            if wanted := frozenset(states):
                ids = index.in_states(ids, wanted)
            found = list(islice(self._behind(ids, after), limit + 1))
            rows = index.rows(found[:limit])
            index.save()
        return Page(rows, len(ids), found[limit - 1] if len(found) > limit else None)

    def _names(self) -> list[str]:
        """The ids of all runs, read again when the folder has changed."""
        try:
            changed = os.stat(self.folder).st_mtime_ns
        except FileNotFoundError:
            return []
        if changed != self._listed:
            self._ids = run_ids(self.folder)
            self._listed = changed if time.time_ns() - changed > CLOCK_TICK_NS else -1
        return self._ids

    def _behind(self, ids: list[str], after: str | None) -> Iterator[str]:
        if after is None:
            yield from in_order(self.folder, ids)
            return
        minute = _minute(after)
        start = next((n for n, name in enumerate(ids) if _minute(name) <= minute), len(ids))
        # a run that is gone no longer tells its place within its minute: that minute is shown again
        skip = after in ids
        for name in in_order(self.folder, ids[start:]):
            if not skip:
                yield name
            elif name == after:
                skip = False


def _minute(name: str) -> str:
    return name[-15:-4]
