"""AGENTS.md stays short, current and whole, whoever writes to it and however they end."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneyard.control.agents_md import notes
from tuneyard.control.agents_md.notes import Notes, read_notes, record_change, set_tasks
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError

WRITER = """
import sys, time
from pathlib import Path
from tuneyard.control.agents_md.notes import record_change
from tuneyard.control.workspace import Workspace
name, seconds = sys.argv[2], float(sys.argv[3])
end, number = time.monotonic() + seconds, 0
while time.monotonic() < end:
    record_change(Workspace(Path(sys.argv[1])), f"entry {name}-{number}.")
    number += 1
    print(number, flush=True)
"""


def today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    folder = tmp_path / "a b'c\"d\nünï"
    folder.mkdir()
    (folder / "pixi.toml").touch()
    return Workspace(folder)


def agents(workspace: Workspace) -> Path:
    return workspace.path / "AGENTS.md"


def older(workspace: Workspace) -> Path:
    return workspace.path / "docs" / "changes.md"


def start_writer(workspace: Workspace, name: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(workspace.path), name, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def written(workspace: Workspace) -> list[str]:
    """The names of all entries in both files."""
    both = agents(workspace).read_text() + (older(workspace).read_text() if older(workspace).exists() else "")
    return re.findall(r"entry (\S+)\.$", both, re.MULTILINE)


def test_a_missing_file_is_made_with_both_sections(workspace: Workspace) -> None:
    done = record_change(workspace, "Add a tool")
    assert done.entry == f"{today()}: Add a tool"
    assert (done.added, done.moved) == (True, [])
    assert agents(workspace).read_text() == (
        f"# AGENTS.md\n\n## Current tasks\n\nN/A\n\n## Recent changes\n\n- {today()}: Add a tool\n"
    )
    assert not older(workspace).exists()


def test_the_newest_stands_first_and_the_sixth_moves_to_the_older_changes(workspace: Workspace) -> None:
    for number in range(8):
        record_change(workspace, f"change {number}")
    assert read_notes(workspace).changes == [f"{today()}: change {n}" for n in (7, 6, 5, 4, 3)]
    rows = [line for line in older(workspace).read_text().splitlines() if line.startswith("- ")]
    assert rows == [f"- {today()}: change {n}" for n in (2, 1, 0)]


def test_files_and_runs_stand_behind_the_summary(workspace: Workspace) -> None:
    run = workspace.runs / "train-x-261120-1830-k3f"
    run.mkdir(parents=True)
    (run / "spec.json").write_text("{}")
    done = record_change(workspace, "Train x", files=["a.py", str(workspace.path / "b" / "c.py")], run_ids=["train-x"])
    assert done.entry == f"{today()}: Train x (files: a.py, b/c.py; runs: train-x-261120-1830-k3f)"
    many = record_change(workspace, "Many", files=[f"{n}.py" for n in range(20)])
    assert many.entry.endswith("6.py, 7.py and 12 more)")


def test_the_same_entry_again_changes_nothing(workspace: Workspace) -> None:
    record_change(workspace, "Add a tool")
    before = agents(workspace).read_bytes(), agents(workspace).stat().st_ino
    assert record_change(workspace, "  Add\na tool ").added is False
    assert (agents(workspace).read_bytes(), agents(workspace).stat().st_ino) == before


def test_tasks_are_replaced_and_none_left_is_said_so(workspace: Workspace) -> None:
    assert set_tasks(workspace, ["one", "two"]) == []
    assert set_tasks(workspace, ["three"]) == ["one", "two"]
    assert read_notes(workspace) == Notes(["three"], [])
    assert set_tasks(workspace, []) == ["three"]
    assert agents(workspace).read_text() == "# AGENTS.md\n\n## Current tasks\n\nN/A\n"


def test_missing_sections_are_made_in_order(workspace: Workspace) -> None:
    agents(workspace).write_text("# Mine\n\nText.\n")
    record_change(workspace, "x")
    set_tasks(workspace, [])
    assert agents(workspace).read_text() == (
        f"# Mine\n\nText.\n\n## Current tasks\n\nN/A\n\n## Recent changes\n\n- {today()}: x\n"
    )


def test_line_endings_the_mark_in_front_and_foreign_bytes_are_kept(workspace: Workspace) -> None:
    start = b"\xef\xbb\xbf# A\r\n\r\ncaf\xe9 \xff\r\n\r\n## Recent changes\r\n\r\n"
    old = b"".join(b"- 2026-01-0%d: e\r\n" % n for n in (5, 4, 3, 2, 1))
    end = b"\r\n## Mine\r\n- keep\r\n"
    agents(workspace).write_bytes(start + old + end)
    record_change(workspace, "x")
    new = f"- {today()}: x\r\n".encode()
    assert agents(workspace).read_bytes() == start + new + old.removesuffix(b"- 2026-01-01: e\r\n") + end
    assert older(workspace).read_bytes().endswith(b"\n\n- 2026-01-01: e\n")


def test_entries_that_a_person_wrote_move_whole(workspace: Workspace) -> None:
    by_hand = "".join(f"- number {n}\n\n  with more\n\n" for n in range(6))
    agents(workspace).write_text(f"## Recent changes\n\n{by_hand}The end.\n")
    assert record_change(workspace, "x").moved == ["number 4 with more", "number 5 with more"]
    assert older(workspace).read_text().endswith("- number 4\n\n  with more\n- number 5\n\n  with more\n")
    assert agents(workspace).read_text().endswith("- number 3\n\n  with more\n\nThe end.\n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.text(max_size=200), st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=8))
def test_whatever_surrounds_the_entries_is_left_byte_for_byte(tmp_path: Path, text: str, summaries: list[str]) -> None:
    workspace = Workspace(tmp_path)
    plain = text.replace("\0", "").replace("#", "").replace("`", "").replace("~", "").replace("<!", "")
    before, behind = f"# A\n{plain}\n## Recent changes\n\n".encode("utf-8", "replace"), b"\n## End\n" + b"\xff- x"
    agents(workspace).write_bytes(before + behind)
    for number, summary in enumerate(summaries):
        record_change(workspace, f"{number}{summary}")
    data = agents(workspace).read_bytes()
    assert data.startswith(before)
    assert data.endswith(behind)
    assert len(data[len(before) : -len(behind)].splitlines()) == min(5, len(summaries))


@pytest.mark.parametrize("seconds", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_twenty_processes_at_once_lose_no_entry(workspace: Workspace, seconds: float) -> None:
    writers = [start_writer(workspace, str(n), seconds) for n in range(20)]
    counts = [int(w.communicate(timeout=60)[0].split()[-1]) for w in writers]
    assert all(w.returncode == 0 for w in writers)
    assert sorted(written(workspace)) == sorted(f"{w}-{n}" for w, count in enumerate(counts) for n in range(count))
    assert len(read_notes(workspace).changes) == 5


def test_writers_that_are_killed_leave_whole_files_and_every_entry_once(workspace: Workspace) -> None:
    agents(workspace).write_text("# A\n\nKept.\n\n## Recent changes\n\n## End\n")
    for round_number in range(12):
        writers = [start_writer(workspace, f"{round_number}-{n}", 30) for n in range(2)]
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        time.sleep(random.uniform(0, 0.05))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        told = [len((w.communicate()[0]).split()) + 1 for w in writers]
        record_change(workspace, f"entry after-{round_number}.")  # completes what the killed ones left half done
        names = written(workspace)
        assert len(names) == len(set(names))
        for number, count in enumerate(told):
            mine = [n for n in names if n.startswith(f"{round_number}-{number}-")]
            # the last entry may have been written and not yet told
            assert count <= len(mine) <= count + 1
        text = agents(workspace).read_text()
        assert text.startswith("# A\n\nKept.\n\n## Recent changes\n\n- ")
        assert text.endswith("\n\n## End\n")
    assert not [name for name in os.listdir(workspace.path) if name.endswith(".tmp")]


def test_an_entry_that_was_moved_by_a_writer_who_died_is_not_moved_twice(workspace: Workspace) -> None:
    for number in range(6):
        record_change(workspace, f"change {number}")
    before = agents(workspace).read_bytes()
    record_change(workspace, "change 6")
    agents(workspace).write_bytes(before)  # as after a crash between the two files
    record_change(workspace, "change 7")
    rows = [line for line in older(workspace).read_text().splitlines() if line.startswith("- ")]
    assert rows == [f"- {today()}: change {n}" for n in (1, 0)]


def test_an_edit_that_a_person_saves_meanwhile_is_kept(workspace: Workspace) -> None:
    agents(workspace).write_text("# A\n\n## Recent changes\n\n## Mine\n")
    stop = threading.Event()
    edits = 0

    def person() -> None:
        nonlocal edits
        while not stop.is_set():
            with open(agents(workspace), "ab") as file:
                file.write(b"typed\n")
            edits += 1
            time.sleep(0.02)

    thread = threading.Thread(target=person)
    thread.start()
    try:
        for number in range(60):
            record_change(workspace, f"entry {number}.")
    finally:
        stop.set()
        thread.join()
    assert len(written(workspace)) == 60
    # one may have been opened before a move and written after the look behind it
    assert agents(workspace).read_text().count("typed\n") >= edits - 1


def test_what_is_saved_just_before_the_move_is_kept(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    file = agents(workspace)
    file.write_text("# A\n\n## Recent changes\n\n## Mine\n")
    late, replace = [b"typed\n"], os.replace

    def typed_at_the_last_moment(source: Path, target: Path) -> None:
        if late:
            with open(target, "ab") as opened:
                opened.write(late.pop(0))
        replace(source, target)

    monkeypatch.setattr("tuneyard.core.files.os.replace", typed_at_the_last_moment)
    record_change(workspace, "an entry")
    text = file.read_text()
    assert not late and text.count("an entry") == 1
    assert text.endswith("## Mine\ntyped\n")


def test_a_read_only_file_is_left_alone(workspace: Workspace) -> None:
    for number in range(5):
        record_change(workspace, f"change {number}")
    agents(workspace).chmod(0o444)
    before = agents(workspace).read_bytes()
    with pytest.raises(SetupError, match="read-only") as caught:
        record_change(workspace, "x")
    assert "chmod u+w" in str(caught.value.way_out)
    with pytest.raises(SetupError, match="read-only"):
        set_tasks(workspace, ["x"])
    assert agents(workspace).read_bytes() == before
    assert not older(workspace).exists()


def test_read_only_older_changes_stop_the_entry_before_anything_is_lost(workspace: Workspace) -> None:
    for number in range(6):
        record_change(workspace, f"change {number}")
    older(workspace).chmod(0o444)
    before = agents(workspace).read_bytes()
    with pytest.raises(SetupError, match=r"changes\.md.*read-only"):
        record_change(workspace, "x")
    assert agents(workspace).read_bytes() == before


def test_a_folder_or_a_pipe_in_its_place_is_refused(workspace: Workspace) -> None:
    agents(workspace).mkdir()
    with pytest.raises(RequestError, match="is a folder"):
        record_change(workspace, "x")
    agents(workspace).rmdir()
    os.mkfifo(agents(workspace))
    with pytest.raises(RequestError, match="not a regular file"):
        set_tasks(workspace, [])


def test_a_file_of_another_encoding_or_far_too_large_is_refused(workspace: Workspace) -> None:
    agents(workspace).write_text("# A\n", encoding="utf-16")
    with pytest.raises(RequestError, match="UTF-8"):
        record_change(workspace, "x")
    agents(workspace).write_bytes(b"x" * 1_000_001)
    with pytest.raises(RequestError, match="1000000"):
        record_change(workspace, "x")


def test_a_link_is_followed_inside_the_workspace_only(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.path / "CLAUDE.md").write_text("# A\n")
    agents(workspace).symlink_to("CLAUDE.md")
    record_change(workspace, "x")
    assert agents(workspace).is_symlink()
    assert f"- {today()}: x" in (workspace.path / "CLAUDE.md").read_text()
    agents(workspace).unlink()
    (tmp_path / "elsewhere.md").write_text("# A\n")
    agents(workspace).symlink_to(tmp_path / "elsewhere.md")
    with pytest.raises(RequestError, match="leads outside the workspace"):
        record_change(workspace, "x")
    assert (tmp_path / "elsewhere.md").read_text() == "# A\n"


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "out/passwd", "a\0b", ""])
def test_files_outside_the_workspace_are_not_named(workspace: Workspace, path: str) -> None:
    (workspace.path / "out").symlink_to("/etc")
    with pytest.raises(RequestError):
        record_change(workspace, "x", files=[path])
    assert not agents(workspace).exists()


def test_a_folder_that_the_settings_allow_may_be_named(workspace: Workspace) -> None:
    workspace.settings_file.write_text("allowed_paths: [/etc]\n")
    assert record_change(workspace, "x", files=["/etc/passwd"]).added


def test_runs_that_are_not_there_are_refused(workspace: Workspace) -> None:
    with pytest.raises(RequestError, match="there is no run"):
        record_change(workspace, "x", run_ids=["train-other-261120-1830-k3f"])


@pytest.mark.parametrize("summary", ["", " \n ", "x" * 1001])
def test_empty_and_endless_summaries_are_refused(workspace: Workspace, summary: str) -> None:
    with pytest.raises(RequestError):
        record_change(workspace, summary)
    with pytest.raises(RequestError):
        set_tasks(workspace, [summary])


def test_secrets_and_control_characters_do_not_get_in(workspace: Workspace) -> None:
    done = record_change(workspace, "Use \x1b[31mhf_abcdefghijklmnopqrstuvwxyz\x1b[0m with\0out \ud800 care")
    assert "hf_" not in done.entry
    assert "\x1b" not in done.entry
    assert read_notes(workspace).changes == [done.entry]
    assert record_change(workspace, "next").added


def test_a_lock_that_is_never_given_back_ends_in_an_error(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "LOCK_SECONDS", 0.1)
    with notes._turn(workspace), pytest.raises(SetupError, match="has held this lock"):
        record_change(workspace, "x")
    assert record_change(workspace, "x").added
