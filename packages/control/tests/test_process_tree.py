"""What ends a tree of processes where the system has no /proc, and what a supervisor costs before its worker starts."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tuneyard.control import process_tree
from tuneyard.control.process_tree import end_tree, strays


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: nothing can be read of other processes."""
    monkeypatch.setattr(process_tree, "_process_table", dict)
    monkeypatch.setattr(process_tree, "processes_of", lambda run_id, attempt: [])


def test_without_proc_the_workers_group_is_ended(without_proc: None) -> None:
    worker = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600 & sleep 600"], process_group=0)
    assert strays("run", 1, worker.pid) == [-worker.pid]
    start = time.monotonic()
    assert end_tree("run", 1, worker.pid, child=worker) == []
    assert time.monotonic() - start < 5
    assert worker.wait() == -9


def test_without_proc_and_without_a_group_nothing_is_touched(without_proc: None) -> None:
    assert end_tree("run", 1) == []


def test_what_does_not_end_is_told_when_patience_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "strays", lambda *_: [2**22 + 1])  # above every process id
    assert end_tree("run", 1, patience=0.1) == [2**22 + 1]


def test_a_supervisor_imports_nothing_heavy_before_its_worker_starts() -> None:
    code = "import sys, tuneyard.control.supervisor; print(*{'pydantic', 'yaml', 'asyncio'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
