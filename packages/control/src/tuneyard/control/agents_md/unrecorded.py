"""What changed since the newest entry in AGENTS.md, as git tells it: for a check, and for a draft of the next one."""

from __future__ import annotations

import os
import stat
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneyard.control.agents_md.notes import NOTES, OLDER_NOTES, entries, last_recorded, notes_file
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import SetupError

GIT_SECONDS = 60.0
DRAFT_LENGTH = 500
"""Characters after which a draft only counts what is left."""

_COUNTED_BYTES = 1_000_000
_NAMES = 4


@dataclass(frozen=True)
class FileChange:
    """One file that differs."""

    path: str
    """Relative to the workspace."""
    added: int | None
    """Lines; None for a binary or very large file."""
    removed: int | None
    new: bool
    """Whether it was not there before."""

    @property
    def is_code(self) -> bool:
        """Whether a change of it wants an entry: all but Markdown and what is below docs/."""
        return not (self.path.endswith(".md") or self.path.startswith("docs/"))


def unrecorded(workspace: Workspace) -> list[FileChange]:
    """The files that changed after the newest entry was written, committed or not; the notes themselves left out.

    An entry that is committed covers all up to its commit, on the line of first parents; one that is not committed yet
    covers what was saved before it.

    Raises:
        SetupError: the workspace is no git checkout, git is missing, or the history is cut off before the entry.
    """
    git = _Git(workspace.path)
    git.check()
    notes = os.path.relpath(notes_file(workspace), os.path.realpath(workspace.path))
    standing = entries(_bytes(workspace))
    committed = entries(git.file("HEAD", notes))
    fresh = [entry for entry in standing if entry not in committed]
    if not fresh:
        return [c for c in git.changes(_base(git, notes)) if not _of_runs(workspace, c)]
    moment = last_recorded(workspace, standing[0])
    newer = (c for c in git.changes(git.head()) if _saved(workspace.path / c.path) > moment)
    return [c for c in newer if not _of_runs(workspace, c)]


def _of_runs(workspace: Workspace, change: FileChange) -> bool:
    return (workspace.path / change.path).is_relative_to(workspace.runs)


def draft(changes: Sequence[FileChange]) -> str:
    """A summary of the changes by package: files, new ones marked, and lines; empty for none."""
    groups: dict[str, list[FileChange]] = defaultdict(list)
    for change in changes:
        groups[_group(change.path)].append(change)
    largest = sorted(groups.items(), key=lambda g: (-_lines(g[1]), g[0]))
    described = [_describe(name, members) for name, members in largest]
    shown = len(described)
    while shown > 1 and len("; ".join(described[:shown])) > DRAFT_LENGTH:
        shown -= 1
    rest = sum(len(members) for _, members in largest[shown:])
    return "; ".join([*described[:shown], f"{_count(rest)} elsewhere"] if rest else described)


def _describe(name: str, changes: list[FileChange]) -> str:
    counts = f"+{sum(c.added or 0 for c in changes)} -{sum(c.removed or 0 for c in changes)}"
    if [c.path for c in changes] == [name]:
        return f"{_short(name)}: {counts}"
    first = sorted(changes, key=lambda c: (-_lines([c]), c.path))[:_NAMES]
    names = ", ".join(f"{_short(os.path.basename(c.path))}{' (new)' if c.new else ''}" for c in first)
    more = f" and {len(changes) - _NAMES} more" if len(changes) > _NAMES else ""
    return f"{_short(name)}: {names}{more} ({_count(len(changes))}, {counts})"


def _short(name: str) -> str:
    return name if len(name) <= 48 else name[:45] + "..."


def _count(n: int) -> str:
    return f"{n} file{'' if n == 1 else 's'}"


def _group(path: str) -> str:
    """The package a file belongs to, else its top folder, else the file itself."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] in ("packages", "agents") else parts[0]


def _lines(changes: Iterable[FileChange]) -> int:
    return sum((c.added or 0) + (c.removed or 0) for c in changes)


def _saved(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0  # nothing tells when a file went


def _bytes(workspace: Workspace) -> bytes:
    try:
        return notes_file(workspace).read_bytes()
    except FileNotFoundError:
        return b""


def _base(git: _Git, notes: str) -> str:
    """The commit that wrote the newest entry; the empty tree where none ever did."""
    if git.head() == git.empty():
        return git.empty()
    for commit in git("log", "--first-parent", "--format=%H", "--", notes).decode().split():
        before = set(entries(git.file(f"{commit}^", notes)))
        if set(entries(git.file(commit, notes))) - before:
            if git.cut_off(commit):
                break
            return commit
    if git("rev-parse", "--is-shallow-repository").strip() == b"true":
        raise SetupError(
            "the history ends before the newest entry was written",
            where=str(git.root),
            way_out="git fetch --unshallow (in CI: fetch the whole history)",
        )
    return git.empty()


class _Git:
    """The git commands that reading takes, in one folder; none of them runs a program that the checkout names."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *arguments: str) -> bytes:
        done = self._run(*arguments)
        if done.returncode:
            raise SetupError(
                f"`git {arguments[0]}` failed: {done.stderr.decode('utf-8', 'replace').strip()[:500]}",
                where=str(self.root),
            )
        return done.stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = ["git", "-c", "core.fsmonitor=false", "-C", str(self.root), *arguments]
        variables = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        try:
            return subprocess.run(
                command,
                env=variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=GIT_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise SetupError("git is not installed", way_out="install git; it tells what changed") from error
        except subprocess.TimeoutExpired as error:
            raise SetupError(f"git gave no answer within {GIT_SECONDS:.0f} s", where=str(self.root)) from error

    def check(self) -> None:
        done = self._run("rev-parse", "--is-inside-work-tree")
        if done.stdout.strip() != b"true":
            raise SetupError("is no git checkout", where=str(self.root), way_out="git init, then commit what there is")

    def file(self, commit: str, path: str) -> bytes:
        """A file as it was in a commit; empty where it was not."""
        done = self._run("show", "--no-textconv", f"{commit}:./{path}")
        return b"" if done.returncode else done.stdout

    def head(self) -> str:
        done = self._run("rev-parse", "--verify", "--quiet", "HEAD")
        return self.empty() if done.returncode else done.stdout.decode().strip()

    def empty(self) -> str:
        """The name of a tree without files."""
        return self("hash-object", "-t", "tree", "--stdin").decode().strip()

    def cut_off(self, commit: str) -> bool:
        """Whether a shallow clone has left out the parents of a commit."""
        raw = self("cat-file", "commit", commit).partition(b"\n\n")[0]
        return b"\nparent " in raw and self._run("rev-parse", "--verify", "--quiet", f"{commit}^").returncode != 0

    def changes(self, base: str) -> list[FileChange]:
        """What in the folder differs from `base`, files that git does not follow yet among it."""
        compare = ("diff", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--relative")
        rows = [row.split("\t", 2) for row in _names(self(*compare, "--numstat", base))]
        made = set(_names(self(*compare, "--name-only", "--diff-filter=A", base)))
        known = [FileChange(path, _number(added), _number(removed), path in made) for added, removed, path in rows]
        others = _names(self("ls-files", "--others", "--exclude-standard", "-z"))
        new = [FileChange(path, _line_count(self.root / path), 0, True) for path in others]
        found = sorted((*known, *new), key=lambda change: change.path)
        return [change for change in found if change.path not in (NOTES, OLDER_NOTES)]


def _names(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


def _line_count(path: Path) -> int | None:
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > _COUNTED_BYTES:
            return None
        return path.read_bytes().count(b"\n")
    except OSError:
        return None
