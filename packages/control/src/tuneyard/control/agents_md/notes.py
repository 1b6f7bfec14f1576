"""AGENTS.md: what a person and coding agents leave for whoever comes next.

    ## Current tasks      what is being worked on; `N/A` when all is done
    ## Recent changes     newest first, dated, five at most; older entries move to docs/changes.md

Writers take turns by a lock in the folder of runs. Each file is replaced at once; an entry is written to
docs/changes.md before it leaves AGENTS.md, so that it is always in one of them, and the next writer sees that it has
been moved. All else in both files, a person's own edits among it, is left byte for byte.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from tuneyard.control.agents_md.sections import as_item, as_text, insert_items, items, remove_items, set_items
from tuneyard.control.paths import inside
from tuneyard.control.turns import turn
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import write_atomically
from tuneyard.core.masking import mask_secrets
from tuneyard.core.run_folder import find_run

NOTES = "AGENTS.md"
OLDER_NOTES = "docs/changes.md"
TASKS = "Current tasks"
CHANGES = "Recent changes"
OLDER_CHANGES = "Older changes"
KEPT = 5
"""Entries that stay in AGENTS.md."""

LONGEST = 1000
"""Characters that an entry or a task may have: every agent reads them each time it starts."""

LARGEST = 1_000_000
"""Bytes up to which AGENTS.md is edited."""

NAMED_FILES = 8
"""Files that an entry names; of more it says how many."""

LOCK_SECONDS = 30.0
"""How long a writer waits for the others."""

_TRIES = 20
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Notes:
    """What stands in AGENTS.md."""

    tasks: list[str]
    """Current tasks; empty when all are done."""
    changes: list[str]
    """Recent changes, newest first."""


@dataclass(frozen=True)
class Recorded:
    """What became of an entry."""

    entry: str
    """As it stands in AGENTS.md, without its marker."""
    added: bool
    """False where the very same entry stood there already."""
    moved: list[str]
    """Entries that went to docs/changes.md for it."""


def read_notes(workspace: Workspace) -> Notes:
    """Tasks and changes; both empty where there is no AGENTS.md."""
    data = _read(notes_file(workspace))
    return Notes([as_text(i) for i in items(data, TASKS)], [as_text(i) for i in items(data, CHANGES)])


def record_change(
    workspace: Workspace, summary: str, *, files: Sequence[str] = (), run_ids: Sequence[str] = ()
) -> Recorded:
    """Put an entry, dated today (UTC), on top of the recent changes; the same entry again changes nothing.

    Args:
        workspace: whose AGENTS.md it is.
        summary: what was changed and why; it becomes one line.
        files: files that it speaks of, relative to the workspace; the first eight are named.
        run_ids: runs that it speaks of: ids or unique beginnings.

    Raises:
        RequestError: empty or too long, a file outside the workspace, no such run, or AGENTS.md is not a text file.
        SetupError: AGENTS.md or docs/changes.md cannot be written, or the lock is not to be had.
    """
    entry = as_item(f"{datetime.now(UTC):%Y-%m-%d}: {_checked(summary, 'summary')}{_about(workspace, files, run_ids)}")
    with _turn(workspace) as lock:
        for _ in range(_TRIES):
            try:
                return _record(workspace, entry, lock)
            except _ChangedMeanwhile:
                continue
    raise _never_quiet(workspace)


def set_tasks(workspace: Workspace, tasks: Sequence[str]) -> list[str]:
    """Replace the current tasks, `N/A` for none, and return those that stood there.

    Raises:
        RequestError, SetupError: as `record_change` does.
    """
    new = [as_item(_checked(task, "task")) for task in tasks]
    path = notes_file(workspace)
    with _turn(workspace):
        for _ in range(_TRIES):
            old = _read(path)
            with suppress(_ChangedMeanwhile):
                _replace(path, old, set_items(old or _new_notes(), TASKS, new, before=CHANGES))
                return [as_text(item) for item in items(old, TASKS)]
    raise _never_quiet(workspace)


def notes_file(workspace: Workspace) -> Path:
    """The file that AGENTS.md is, links followed; it may not exist yet.

    Raises:
        RequestError: a link leads outside the workspace.
    """
    return inside(workspace, NOTES)


def entries(data: bytes) -> list[bytes]:
    """The recent changes in the bytes of an AGENTS.md, line endings aside."""
    return [b"\n".join(item.splitlines()) for item in items(data, CHANGES)]


def last_recorded(workspace: Workspace, newest: bytes) -> float:
    """Unix time at which the newest entry was written: what the lock remembers, else AGENTS.md's own time."""
    lock = _lock_file(workspace)
    with suppress(OSError):
        if lock.read_bytes() == _mark(newest):
            return lock.stat().st_mtime
    return notes_file(workspace).stat().st_mtime


class _ChangedMeanwhile(Exception):
    """Somebody who knows nothing of the lock saved the file while it was being edited."""


def _record(workspace: Workspace, entry: bytes, lock: int) -> Recorded:
    path = notes_file(workspace)
    old = _read(path)
    if entry in entries(old):
        return Recorded(as_text(entry), False, [])
    added = insert_items(old or _new_notes(), CHANGES, [entry])
    leaving = items(added, CHANGES)[KEPT:]
    _check_writable(path)
    if leaving:
        _keep(inside(workspace, OLDER_NOTES), leaving)
    _replace(path, old, remove_items(added, CHANGES, first=KEPT))
    os.pwrite(lock, _mark(entry), 0)
    return Recorded(as_text(entry), True, [as_text(item) for item in leaving])


def _keep(path: Path, leaving: list[bytes]) -> None:
    """Put entries on top of docs/changes.md, but for those that a writer who was interrupted has put there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    old = _read(path, largest=None)
    lines = [item.splitlines() for item in leaving]
    top = [item.splitlines() for item in items(old, OLDER_CHANGES)[: len(leaving)]]
    new = next(n for n in range(len(lines) + 1) if top[: len(lines) - n] == lines[n:])
    if new:
        _replace(path, old, insert_items(old or _new_older_notes(), OLDER_CHANGES, leaving[:new]))


def _new_notes() -> bytes:
    return set_items(b"# AGENTS.md\n", TASKS, [])


def _new_older_notes() -> bytes:
    return f'# {OLDER_CHANGES}\n\nWhat stood under "{CHANGES}" in {NOTES} before, newest first.\n'.encode()


def _read(path: Path, largest: int | None = LARGEST) -> bytes:
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            what = "a folder" if stat.S_ISDIR(info.st_mode) else "not a regular file"
            raise RequestError(f"is {what}", where=str(path), way_out="move it away; the notes are a text file")
        if largest and info.st_size > largest:
            raise RequestError(f"has over {largest} bytes", where=str(path), way_out="shorten it; agents read it whole")
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    except PermissionError as error:
        raise SetupError("cannot be read", where=str(path), way_out=f"chmod u+rw {path}") from error
    if b"\0" in data or data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RequestError("is not UTF-8 text", where=str(path), way_out="save it as UTF-8")
    return data


def _replace(path: Path, old: bytes, new: bytes) -> None:
    """Write `new` where `old` still stands, and lose nothing that is saved at the same moment.

    Raises:
        _ChangedMeanwhile: something else stands there, also what was saved between the last look and the move.
    """
    if new == old:
        return
    _check_writable(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        left.unlink()  # of a writer who was killed: this one has the lock

    with ExitStack() as opened:
        replaced: BinaryIO | None = None

        def check() -> None:
            nonlocal replaced
            with suppress(FileNotFoundError):
                replaced = opened.enter_context(open(path, "rb"))
            if (replaced.read() if replaced else b"") != old:
                raise _ChangedMeanwhile

        write_atomically(path, new, check=check)
        late = _whole(replaced) if replaced else old
    if late != old:
        _replace(path, new, late)
        raise _ChangedMeanwhile


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _check_writable(path: Path) -> None:
    """Replacing a file needs no right to write to it, so a read-only one has to be asked."""
    if path.exists() and not (path.stat().st_mode & 0o222 and os.access(path, os.W_OK)):
        raise SetupError("is read-only", where=str(path), way_out=f"chmod u+w {path}")


def _checked(text: str, what: str) -> str:
    line = mask_secrets(" ".join(_ESCAPES.sub("", text).split()))
    if not line:
        raise RequestError(f"the {what} is empty", way_out="say in a line what was changed and why")
    if len(line) > LONGEST:
        raise RequestError(
            f"the {what} has {len(line)} characters; {LONGEST} are the most", way_out="put the details under docs/"
        )
    return line


def _about(workspace: Workspace, files: Sequence[str], run_ids: Sequence[str]) -> str:
    root = Path(os.path.realpath(workspace.path))
    paths = [os.path.relpath(inside(workspace, file), root) for file in files]
    runs = [find_run(workspace.runs, run).id for run in run_ids]
    more = f" and {len(paths) - NAMED_FILES} more" if len(paths) > NAMED_FILES else ""
    parts = [f"files: {', '.join(paths[:NAMED_FILES])}{more}"] if paths else []
    parts += [f"runs: {', '.join(runs)}"] if runs else []
    return f" ({'; '.join(parts)})" if parts else ""


def _never_quiet(workspace: Workspace) -> SetupError:
    return SetupError(
        "is being changed all the time by a program that does not wait for others",
        where=str(workspace.path / NOTES),
        way_out="save it in the editor that has it open, then try again",
    )


def _lock_file(workspace: Workspace) -> Path:
    return workspace.runs / ".notes.lock"


def _mark(entry: bytes) -> bytes:
    return hashlib.sha256(entry).hexdigest().encode()


def _turn(workspace: Workspace) -> AbstractContextManager[int]:
    return turn(_lock_file(workspace), LOCK_SECONDS)
