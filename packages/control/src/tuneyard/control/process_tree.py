"""A supervisor's process tree: nothing in it outlives the supervisor, however either of them ends.

    guard                 waits, holds a copy of the lease; ends what is left when the supervisor is gone
     └─ supervisor        adopts whatever loses its parent (Linux: "subreaper")
         └─ worker …      in a process group of its own

Both find strays twice: by their descent, and by the run's id in their variables. Without /proc and subreaper (macOS)
only the worker's own process group is found.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from tuneyard.core.processes import RUN_ID_VARIABLE, processes_of, signal_all

SUPERVISES_VARIABLE = "TUNEYARD_SUPERVISES"
"""Marks a supervisor: one that a worker's own code started is not part of that worker's run."""

_PR_SET_CHILD_SUBREAPER = 36
_MESSAGE = struct.Struct("q")


class Guarded:
    """The supervisor's end of the line to its guard."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def entrust(self, group: int = 0, descriptors: Sequence[int] = ()) -> None:
        """Tell the guard the process group that works now (0: none), and descriptors to hold until all has ended."""
        with suppress(BrokenPipeError):  # the guard was killed: the worker's own watch remains
            socket.send_fds(self._line, [_MESSAGE.pack(group)], list(descriptors))


def run_guarded(
    supervise: Callable[[Guarded], int],
    run_id: str,
    attempt: int,
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> NoReturn:
    """Fork: the child supervises, this process stays behind as its guard and exits with the child's code.

    Args:
        supervise: the child's work.
        run_id: the run whose tree is guarded.
        attempt: number of the attempt.
        signals: passed on to the child, which has handlers for them.
    """
    ours, theirs = socket.socketpair()
    become_subreaper()
    child = os.fork()
    if child == 0:
        ours.close()
        _supervise_and_exit(supervise, theirs)
    theirs.close()
    for number in signals:
        signal.signal(number, lambda number, frame: _forward(child, number))
    group = _hold_until_the_end(ours)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    end_tree(run_id, attempt, group)
    os._exit(code if code >= 0 else 1)


def _supervise_and_exit(supervise: Callable[[Guarded], int], line: socket.socket) -> NoReturn:
    code = 1
    try:
        become_subreaper()
        code = supervise(Guarded(line))
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # not through the guard's stack


def _forward(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _hold_until_the_end(line: socket.socket) -> int:
    """Wait until the supervisor is gone; the descriptors it entrusted stay open in this process until it exits.

    Returns the process group that worked last.
    """
    group = 0
    while True:
        message, _, _, _ = socket.recv_fds(line, _MESSAGE.size, 64)
        if len(message) < _MESSAGE.size:
            return group
        group = _MESSAGE.unpack(message)[0]


def become_subreaper() -> bool:
    """Adopt every process below this one that loses its parent; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    return ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def collect(child: subprocess.Popen[bytes] | None = None) -> None:
    """Collect the processes that have ended: the adopted ones at once, `child` by way of its own `poll`."""
    if child is not None:
        child.poll()
    while hasattr(os, "waitid"):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or (child is not None and ended.si_pid == child.pid and child.returncode is None):
            return
        os.waitpid(ended.si_pid, 0)


def end_tree(
    run_id: str,
    attempt: int,
    group: int = 0,
    *,
    child: subprocess.Popen[bytes] | None = None,
    grace: float = 0.0,
    patience: float = 10.0,
) -> list[int]:
    """Kill every process of an attempt that is left, and those they start meanwhile.

    Args:
        run_id: the run.
        attempt: number of the attempt.
        group: process group of its worker; used only where there is no /proc.
        child: this process's own child among them, whose exit code is wanted.
        grace: seconds in which they may still end by themselves.
        patience: seconds after which it gives up on processes that the system will not end.

    Returns the ids of those that are still there.
    """
    start = time.monotonic()
    pause = 0.005
    while left := strays(run_id, attempt, group):
        age = time.monotonic() - start
        if age > grace + patience:
            break
        if age >= grace:
            signal_all(left, signal.SIGKILL)
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)
        collect(child)
    return left


def strays(run_id: str, attempt: int, group: int = 0) -> list[int]:
    """Ids of an attempt's processes: below this process, or carrying its id. Without /proc: `-group` while it lives."""
    table = _process_table()
    if not table:
        return [-group] if _group_lives(group) else []
    found = {pid for pid in _descendants(table, run_id) if table[pid].alive}
    return sorted((found | set(processes_of(run_id, attempt))) - {os.getpid()})


class _Process:
    def __init__(self, stat: bytes) -> None:
        state, parent, *_ = stat.rpartition(b")")[2].split()
        self.alive = state not in (b"Z", b"X")
        self.parent = int(parent)


def _process_table() -> dict[int, _Process]:
    table = {}
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return {}
    for name in names:
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            table[int(name)] = _Process(file.read())
    return table


def _descendants(table: dict[int, _Process], run_id: str) -> set[int]:
    """Everything below this process, without what belongs to another run that a worker started."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found: set[int] = set()
    waiting = list(children.get(os.getpid(), []))
    while waiting:
        pid = waiting.pop()
        if not _of_another_run(pid, run_id):
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def _of_another_run(pid: int, run_id: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return False
    names = (RUN_ID_VARIABLE, SUPERVISES_VARIABLE)
    marks = [v for v in variables if v.startswith(tuple(f"{name}=".encode() for name in names))]
    return any(mark.partition(b"=")[2] != run_id.encode() for mark in marks)


def _group_lives(group: int) -> bool:
    if group <= 0:
        return False
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
