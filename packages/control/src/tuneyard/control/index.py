"""Finding runs among thousands: newest first from their names, by state from an index in the user's cache.

A run's id tells when it was made, so the newest need no index. The index (SQLite, one file per folder of runs) keeps
how runs ended. A success is final; another ending changes only with a new attempt, which touches the run's folder. The
index is derived: whatever is wrong with it, the files are read instead, and it may be deleted at any time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.run_folder import RunFolder, is_run_id

if TYPE_CHECKING:
    import sqlite3

VERSION = 1
"""Of the index's form. Another one is made anew."""

WRITTEN = frozenset({"succeeded", "failed", "cancelled"})
"""The endings that are written. `lost` is derived and may still turn out otherwise, so it is read every time."""

LOCK_SECONDS = 0.5
"""How long to wait for another who writes the index; reading the files may be quicker."""

SETTLED_NS = 2_000_000_000
"""A folder changed less than this ago may change again within one tick of the disk's clock: not believed yet."""

_CREATE = """
create table if not exists runs (
    id text primary key, mtime_ns integer not null, state text not null, attempt integer not null,
    seconds real, headline text
) without rowid
"""

Row = tuple[str, int, str, int, float | None, str | None]
"""id, mtime_ns of the folder, state, attempt, seconds, headline."""

# An id ends in its moment: `261120-1830-k3f`, of which the first eleven characters are the minute in UTC.
_moment = itemgetter(slice(-15, None))
_minute = itemgetter(slice(-15, -4))


def run_ids(runs: Path, kind: str | None = None) -> list[str]:
    """Ids of all runs of a kind, the newest first to the minute; empty where the folder does not exist yet."""
    try:
        names = os.listdir(runs)
    except FileNotFoundError:
        return []
    beginning = f"{kind}-" if kind else ""
    return sorted((n for n in names if n.startswith(beginning) and is_run_id(n)), key=_moment, reverse=True)


def in_order(runs: Path, ids: Iterable[str]) -> Iterator[str]:
    """Ids that are sorted to the minute, those of the same minute by when their spec was written, the newest first."""
    for _, minute in groupby(ids, _minute):
        same = list(minute)
        yield from same if len(same) == 1 else sorted(same, key=lambda name: _written(runs / name), reverse=True)


def _written(path: Path) -> float:
    try:
        return os.stat(RunFolder(path).spec).st_mtime
    except OSError:
        return 0.0


def newest_first(runs: Path, kind: str | None = None, owner: int | None = None) -> Iterator[RunFolder]:
    """Every run, the newest first.

    Args:
        runs: the folder of all runs.
        kind: only these. Default: every kind.
        owner: only runs of this user id. Default: everybody's.
    """
    for name in in_order(runs, run_ids(runs, kind)):
        run = RunFolder(runs / name)
        if owner is None or _owner(run.path) == owner:
            yield run


def _owner(path: Path) -> int | None:
    try:
        return os.stat(path).st_uid
    except OSError:
        return None


def listing(
    runs: Path, kind: str | None = None, states: Iterable[str] = (), limit: int | None = None
) -> tuple[list[Row], int]:
    """What is known of the newest runs, and how many there are in all.

    Args:
        runs: the folder of all runs.
        kind: only these. Default: every kind.
        states: only runs in one of these states. Default: in any.
        limit: at most so many. Default: all.
    """
    ids = run_ids(runs, kind)
    wanted = frozenset(states)
    if limit is not None and not wanted:
        return [read_row(RunFolder(runs / name)) for name in islice(in_order(runs, ids), limit)], len(ids)
    index = Index(runs)
    if kind is None:
        index.forget_all_but(ids)
    if wanted:
        ids = index.in_states(ids, wanted)
    rows = index.rows(list(islice(in_order(runs, ids), limit)))
    index.save()
    return rows, len(ids)


def read_row(run: RunFolder, mtime_ns: int = 0) -> Row:
    """What the index knows of a run, from its files."""
    status = run.status()
    result = run.attempt(status.attempt).read_result() if status.state in WRITTEN else None
    if result is None:
        return run.id, mtime_ns, status.state, status.attempt, None, None
    return run.id, mtime_ns, status.state, status.attempt, result["seconds"], headline(run.kind, result)


def headline(kind: str, result: dict[str, Any]) -> str | None:
    """The one number of a result that a person looks for first; of a failure, its reason."""
    failure = result.get("failure")
    if failure:
        return f"{failure['kind']}: {failure['message'].partition(chr(10))[0][:80]}"
    metrics: dict[str, dict[str, Any]] = result.get("metrics") or {}
    wanted = ("eval_loss", "train_loss") if kind == "train" else ()
    name = next((n for n in wanted if n in metrics), next(iter(metrics), None))
    return None if name is None else f"{name} {metric_text(metrics[name])}"


def metric_text(metric: dict[str, Any]) -> str:
    """A value with its standard error: `0.956 ± 0.009`."""
    error = metric.get("standard_error")
    return f"{metric['value']:.4g}" + (f" ± {error:.2g}" if error is not None else "")


def index_file(runs: Path) -> Path:
    """Where the index of a folder of runs is kept."""
    import hashlib

    from tuneyard.core.cache import cache_folder

    name = hashlib.sha256(os.fsencode(os.path.realpath(runs))).hexdigest()[:16]
    return cache_folder() / "index" / f"{name}.sqlite"


def rebuild(runs: Path) -> int:
    """Throw the index away and make it anew; the number of runs."""
    _delete(index_file(runs))
    return listing(runs)[1]


class Index:
    """The endings that are known, and those that are read meanwhile."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._folder = os.fspath(runs)  # joining paths as text is a third of the cost of asking for many
        self._file = index_file(runs)
        self._succeeded: set[str] = set()
        self._others: dict[str, Row] = {}
        self._read: dict[str, Row] = {}
        self._gone: list[str] = []
        _attempt(self._file, self._load)

    def _load(self, connection: sqlite3.Connection) -> None:
        # As one text: a row for each would take twice as long.
        (names,) = connection.execute("select group_concat(id, ' ') from runs where state = 'succeeded'").fetchone()
        self._succeeded = set((names or "").split())
        rows = connection.execute("select * from runs where state <> 'succeeded'")
        self._others = {row[0]: row for row in rows}

    def in_states(self, names: list[str], wanted: frozenset[str]) -> list[str]:
        """The runs in one of these states, as they are known to have ended, else from their files."""
        succeeded = self._succeeded
        others = [name for name in names if name not in succeeded]
        if "succeeded" not in wanted:
            return [name for name in others if self._current(name)[2] in wanted]
        unwanted = {name for name in others if self._current(name)[2] not in wanted}
        return [name for name in names if name not in unwanted]

    def _current(self, name: str) -> Row:
        """The row of a run that is not known to have succeeded."""
        if name in self._read:
            return self._read[name]
        try:
            # before the files are read: what comes later shows
            mtime_ns = os.stat(f"{self._folder}/{name}").st_mtime_ns
        except FileNotFoundError:  # it has just been removed
            return name, 0, "unknown", 0, None, None
        row = self._others.get(name)
        if row is None or row[1] != mtime_ns:
            row = self._read[name] = read_row(RunFolder(self._runs / name), mtime_ns)
        return row

    def rows(self, names: list[str]) -> list[Row]:
        """What is known of these runs, in their order."""
        asked = [name for name in names if name in self._succeeded]
        found = _attempt(self._file, lambda connection: _select(connection, asked)) or {}
        return [found[name] if name in found else self._current(name) for name in names]

    def forget_all_but(self, names: list[str]) -> None:
        """Drop runs that are gone. They are never shown: this only keeps the index from growing."""
        if len(self._succeeded) + len(self._others) > len(names):
            self._gone = list({*self._succeeded, *self._others}.difference(names))

    def save(self) -> None:
        """Keep the endings that were read, here and in the file, drop what is gone, and ask again about the rest."""
        now = time.time_ns()
        rows = [r for r in self._read.values() if r[2] in WRITTEN and now - r[1] > SETTLED_NS]
        self._read.clear()
        if rows or self._gone:
            _attempt(self._file, lambda connection: self._write(connection, rows))
        self._succeeded |= {row[0] for row in rows if row[2] == "succeeded"}
        self._others |= {row[0]: row for row in rows if row[2] != "succeeded"}

    def _write(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        with connection:
            connection.executemany("insert or replace into runs values (?, ?, ?, ?, ?, ?)", rows)
            connection.executemany("delete from runs where id = ?", [(name,) for name in self._gone])


def _select(connection: sqlite3.Connection, names: list[str]) -> dict[str, Row]:
    if len(names) > 500:
        wanted = set(names)
        return {row[0]: row for row in connection.execute("select * from runs") if row[0] in wanted}
    places = ",".join("?" * len(names))
    return {row[0]: row for row in connection.execute(f"select * from runs where id in ({places})", names)}


def _attempt(file: Path, work: Any) -> Any:
    """What `work` makes of the index, or None where it cannot be used; a broken one is deleted."""
    import sqlite3

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file, timeout=LOCK_SECONDS)) as connection:
            connection.execute("pragma synchronous = off")  # what a crash spoils is made anew
            _form(connection)
            return work(connection)
    except (sqlite3.OperationalError, OSError):
        return None  # locked, or the cache cannot be written: it only costs time
    except sqlite3.DatabaseError:
        _delete(file)
        return None


def _form(connection: sqlite3.Connection) -> None:
    if connection.execute("pragma user_version").fetchone()[0] == VERSION:
        return
    with connection:
        connection.execute("drop table if exists runs")
        connection.execute(_CREATE)
        connection.execute(f"pragma user_version = {VERSION}")


def _delete(file: Path) -> None:
    for path in (file, file.with_name(f"{file.name}-journal")):
        with suppress(OSError):
            path.unlink()
