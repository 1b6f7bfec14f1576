"""How a run says which study made it: the first line of its spec.yaml, written with the run and never changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuneyard.control.index import run_ids
from tuneyard.core.run_folder import RunFolder

_BEGINNING = b"# study: "
_LONGEST = 4096


def marked(mark: dict[str, Any], text: str) -> str:
    """The document of a run with its study's mark in front; `mark` has `study` and `content` at least."""
    return f"{_BEGINNING.decode()}{json.dumps(mark, ensure_ascii=False)}\n{text}"


def read_mark(run: RunFolder) -> dict[str, Any] | None:
    """The mark of a run; None where no study made it."""
    try:
        with open(run.given_spec, "rb") as file:
            line = file.readline(_LONGEST)
    except OSError:
        return None
    if not line.startswith(_BEGINNING):
        return None
    try:
        mark = json.loads(line[len(_BEGINNING) :])
    except ValueError:
        return None
    return mark if isinstance(mark, dict) else None


def runs_of_study(runs: Path, name: str, kind: str | None = None) -> list[str]:
    """Ids of the runs that a study of this name made."""
    marks = ((run, read_mark(RunFolder(runs / run))) for run in run_ids(runs, kind))
    return [run for run, mark in marks if mark is not None and mark.get("study") == name]
