"""A run's processes: found by the variable that every one of them inherits, and ended together."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

RUN_ID_VARIABLE = "TUNEYARD_RUN_ID"
"""Set in the worker's environment, and so in that of every process below it."""

ATTEMPT_VARIABLE = "TUNEYARD_ATTEMPT"
"""Number of the attempt that the supervisor started."""

PIPE_VARIABLE = "TUNEYARD_SUPERVISOR_PIPE"
"""Descriptor of the pipe whose other end only the supervisor holds: at its end, the supervisor is gone."""

STOPPED_EXIT = 128 + signal.SIGTERM
"""Exit code of a worker that was asked to end, and did."""


def processes_of(run_id: str, attempt: int | None = None) -> list[int]:
    """Ids of the processes that carry a run's id, the caller left out. Linux only; empty elsewhere.

    Args:
        run_id: the run.
        attempt: only those of this attempt. Default: of any.
    """
    wanted = {f"{RUN_ID_VARIABLE}={run_id}".encode()}
    if attempt is not None:
        wanted.add(f"{ATTEMPT_VARIABLE}={attempt}".encode())
    own = os.getpid()
    found = []
    try:
        names = os.listdir("/proc")
    except FileNotFoundError:
        return []
    for name in names:
        if name.isdigit() and int(name) != own and wanted.issubset(_environment(name)):
            found.append(int(name))
    return found


def _environment(pid: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read().split(b"\0")
        if _is_zombie(pid):
            return []
    except OSError:
        return []
    return environment


def _is_zombie(pid: str) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")


def signal_all(pids: list[int], number: int) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_run(run_id: str, attempt: int | None = None, *, patience: float = 10.0) -> list[int]:
    """Kill every process that carries a run's id (and, where given, the attempt), and those they start meanwhile.

    Returns the ids of those that are still there after `patience` seconds; empty when all are gone.
    """
    deadline = time.monotonic() + patience
    while True:
        pids = processes_of(run_id, attempt)
        if not pids or time.monotonic() > deadline:
            return pids
        signal_all(pids, signal.SIGKILL)
        time.sleep(0.02)
