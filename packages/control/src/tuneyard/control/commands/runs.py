"""`yard runs`: the runs, the newest first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuneyard.control.commands.arguments import Arguments
from tuneyard.control.index import Row, listing
from tuneyard.control.summary import age, duration
from tuneyard.control.workspace import find_workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.kinds import ENVIRONMENTS

STATES = ("queued", "preparing", "waiting", "running", "succeeded", "failed", "cancelled", "lost", "unknown")


def main(command: str, arguments: list[str]) -> int:
    parser = Arguments(command, "List the runs, the newest first.")
    parser.add_argument("--kind", choices=tuple(ENVIRONMENTS), help="only runs of this kind")
    parser.add_argument("--state", choices=STATES, action="append", help="only runs in this state; may be repeated")
    parser.add_argument("--study", metavar="NAME", help="only runs that this study made")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="the newest N (default 20)")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_json()
    options = parser.parse_args(arguments)
    if options.limit < 1:
        raise RequestError(f"--limit {options.limit}", way_out="at least 1, or --all")
    limit = None if options.all else options.limit
    runs = find_workspace().runs
    if options.study is None:
        rows, total = listing(runs, options.kind, options.state or (), limit)
    else:
        rows, total = _of_study(runs, options.study, options.kind, options.state or (), limit)
    print(json.dumps([_as_json(row) for row in rows], indent=2) if options.json else _table(rows, total))
    return 0


def _of_study(
    runs: Path, study: str, kind: str | None, states: Sequence[str], limit: int | None
) -> tuple[list[Row], int]:
    """The runs that carry the mark of a study."""
    from tuneyard.control.study_mark import runs_of_study

    made = set(runs_of_study(runs, study, kind))
    rows = [row for row in listing(runs, kind, states)[0] if row[0] in made]
    return rows[:limit], len(rows)


def _as_json(row: Row) -> dict[str, Any]:
    name, _, state, attempt, seconds, headline = row
    kind = name.partition("-")[0]
    return {"id": name, "kind": kind, "state": state, "attempt": attempt, "seconds": seconds, "headline": headline}


def _table(rows: list[Row], total: int) -> str:
    if not rows:
        return "no such runs"
    width = max(len(row[0]) for row in rows)
    lines = [f"{'run':<{width}}  {'state':<10} {'age':<7} {'took':<12} result"]
    for name, _, state, _, seconds, headline in rows:
        took = duration(seconds) if seconds is not None else ""
        lines.append(f"{name:<{width}}  {state:<10} {age(name):<7} {took:<12} {headline or ''}".rstrip())
    if len(rows) < total:
        lines.append(f"{len(rows)} of {total} runs; --limit N or --all shows more")
    return "\n".join(lines)
