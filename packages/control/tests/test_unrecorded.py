"""What git says has changed since the newest entry in AGENTS.md."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tuneyard.control.agents_md.notes import LONGEST, record_change, set_tasks
from tuneyard.control.agents_md.unrecorded import FileChange, draft, unrecorded
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import SetupError

IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-C", str(folder), *arguments]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **IDENTITY})


def commit(workspace: Workspace, message: str = "x") -> None:
    git(workspace.path, "add", "-A")
    git(workspace.path, "commit", "-q", "-m", message)


def write(workspace: Workspace, name: str, text: str = "x\n") -> None:
    path = workspace.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def later(workspace: Workspace, name: str, text: str = "y\n") -> None:
    """Write a file at a moment that the clock of the file system can tell from what was before."""
    time.sleep(0.02)
    write(workspace, name, text)


def changed(workspace: Workspace) -> list[str]:
    return sorted(change.path for change in unrecorded(workspace))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    folder = tmp_path / "a b'c\"d\nünï"
    folder.mkdir()
    git(tmp_path, "init", "-q", "-b", "main", str(folder))
    made = Workspace(folder)
    write(made, "pixi.toml", "")
    write(made, ".gitignore", "runs/\nignored/\n")
    return made


def test_a_repository_without_a_commit_or_an_entry_has_everything_unrecorded(workspace: Workspace) -> None:
    assert changed(workspace) == [".gitignore", "pixi.toml"]
    commit(workspace)
    assert changed(workspace) == [".gitignore", "pixi.toml"]


def test_an_entry_covers_what_was_saved_before_it(workspace: Workspace) -> None:
    commit(workspace)
    write(workspace, "a.py")
    assert "a.py" in changed(workspace)
    record_change(workspace, "Add a")
    assert changed(workspace) == []
    later(workspace, "a.py")
    later(workspace, "b c\n.py")
    assert changed(workspace) == ["a.py", "b c\n.py"]


def test_new_tasks_are_no_entry(workspace: Workspace) -> None:
    commit(workspace)
    record_change(workspace, "Begin")
    later(workspace, "a.py")
    set_tasks(workspace, ["more"])
    assert changed(workspace) == ["a.py"]


def test_a_committed_entry_covers_all_up_to_its_commit(workspace: Workspace) -> None:
    write(workspace, "a.py")
    commit(workspace)
    record_change(workspace, "Add a")
    write(workspace, "b.py")
    commit(workspace)
    assert changed(workspace) == []
    write(workspace, "c.py")
    commit(workspace)
    write(workspace, "d.py")
    (workspace.path / "a.py").unlink()
    assert changed(workspace) == ["a.py", "c.py", "d.py"]


def test_the_notes_themselves_and_ignored_files_do_not_count(workspace: Workspace) -> None:
    record_change(workspace, "Begin")
    commit(workspace)
    for number in range(6):
        record_change(workspace, f"change {number}")
    write(workspace, "ignored/x.py")
    assert (workspace.path / "docs" / "changes.md").exists()
    assert changed(workspace) == []


def test_documents_are_no_code(workspace: Workspace) -> None:
    record_change(workspace, "Begin")
    commit(workspace)
    for name in ("docs/a.png", "README.md", "pixi.toml"):
        write(workspace, name, "changed")
    assert {c.path: c.is_code for c in unrecorded(workspace)} == {
        "README.md": False,
        "docs/a.png": False,
        "pixi.toml": True,
    }


def test_a_merge_that_brings_entries_covers_what_it_brings(workspace: Workspace) -> None:
    record_change(workspace, "Begin")
    commit(workspace)
    git(workspace.path, "checkout", "-q", "-b", "side")
    write(workspace, "side.py")
    record_change(workspace, "Side")
    commit(workspace)
    git(workspace.path, "checkout", "-q", "main")
    write(workspace, "main.py")
    commit(workspace)
    assert changed(workspace) == ["main.py"]
    git(workspace.path, "merge", "-q", "--no-edit", "side")
    assert changed(workspace) == []


def test_a_workspace_below_the_top_of_the_repository_sees_only_itself(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main", str(tmp_path))
    inner = Workspace(tmp_path / "inner")
    write(inner, "pixi.toml", "")
    record_change(inner, "Begin")
    (tmp_path / "outer.py").touch()
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    (tmp_path / "outer.py").write_text("changed")
    (tmp_path / "new.py").touch()
    write(inner, "mine.py")
    write(inner, "pixi.toml", "x")
    assert changed(inner) == ["mine.py", "pixi.toml"]


def test_a_history_that_is_cut_off_is_said_so(workspace: Workspace, tmp_path: Path) -> None:
    write(workspace, "a.py")
    record_change(workspace, "Add a")
    commit(workspace)
    write(workspace, "b.py")
    commit(workspace)
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{workspace.path}", str(tmp_path / "clone"))
    with pytest.raises(SetupError, match="history ends") as caught:
        unrecorded(Workspace(tmp_path / "clone"))
    assert "unshallow" in str(caught.value.way_out)


def test_no_repository_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no git checkout"):
        unrecorded(Workspace(tmp_path))


def test_no_program_that_the_checkout_names_is_run(workspace: Workspace) -> None:
    record_change(workspace, "Begin")
    write(workspace, ".gitattributes", "*.py diff=evil\n")
    write(workspace, "a.py")
    commit(workspace)
    trace = workspace.path / "ignored" / "trace"
    trace.parent.mkdir()
    for key in ("diff.external", "diff.evil.textconv", "diff.evil.command", "core.fsmonitor"):
        git(workspace.path, "config", key, f"touch '{trace}'; false")
    write(workspace, "a.py", "y\n")
    assert changed(workspace) == ["a.py"]
    assert not trace.exists()


def test_the_draft_tells_packages_files_and_lines(workspace: Workspace) -> None:
    write(workspace, "packages/core/src/tuneyard/core/files.py", "1\n2\n3\n")
    write(workspace, "docs/guide.md", "1\n")
    record_change(workspace, "Begin")
    commit(workspace)
    write(workspace, "packages/core/src/tuneyard/core/files.py", "1\n2\n4\n5\n")
    write(workspace, "packages/core/tests/test_files.py", "1\n" * 5)
    write(workspace, "docs/guide.md", "2\n")
    write(workspace, "pixi.toml", "[workspace]\n")
    assert draft(unrecorded(workspace)) == (
        "core: test_files.py (new), files.py (2 files, +7 -1); docs: guide.md (1 file, +1 -1); pixi.toml: +1 -0"
    )


def test_a_draft_of_many_files_is_short_enough_to_record() -> None:
    changes = [FileChange(f"packages/p{n % 40}/{'x' * 20}{n}.py", n, 0, True) for n in range(1000)]
    text = draft(changes)
    assert len(text) < LONGEST
    assert re.search(r"\(25 files, \+\d+ -0\); \d+ files elsewhere$", text)
    assert len(draft([FileChange("x" * 255, 1, 0, True)] * 3)) < LONGEST
    assert draft([]) == ""
