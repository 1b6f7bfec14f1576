"""Running a probe: a small program that the environment's own interpreter executes, under a limit and without trust.

Whatever happens in it (a crash, a hang, floods of output, forks) happens to a child process and is told, never raised.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from tuneyard.core.masking import mask_secrets
from tuneyard.core.processes import RUN_ID_VARIABLE, kill_run, processes_of

PROBES = Path(__file__).parent / "probes"
"""Programs of other interpreters: executed, never imported."""

TAIL_BYTES = 32 * 1024
"""How much of what a probe prints is kept: the end."""

REPORT_BYTES = 32 * 1024 * 1024
"""How much a probe may report; what lies beyond is dropped."""

START_SECONDS = 60.0
"""How long an interpreter may take to its first report, however short the limit: its files may lie on a slow disk."""

LINGER_SECONDS = 0.5
"""How long helpers of an ended probe may take to end by themselves before they count as left behind."""


@dataclass
class Probed:
    """What came of a probe."""

    reports: list[dict[str, Any]] = field(default_factory=list)
    """What it reported, in order."""
    code: int | None = None
    """Exit code; negative for a signal; None where the limit ended it."""
    log: str = ""
    """The end of what it printed, secrets masked."""
    printed: int = 0
    """Bytes that it printed."""
    left: int = 0
    """How many processes it left behind; they have been ended."""
    seconds: float = 0.0
    refused: str | None = None
    """Why the system would not start the interpreter; None where it did."""

    def ending(self) -> str:
        """How it ended, in words: `was ended by SIGSEGV`."""
        if self.code is None:
            return "gave no sign within the limit"
        if self.code < 0:
            return f"was ended by {signal_name(-self.code)}"
        return f"ended with exit code {self.code}"


def signal_name(number: int) -> str:
    """`SIGSEGV` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def probe(
    python: Path | str,
    program: str,
    *arguments: str,
    variables: Mapping[str, str],
    limit: float,
    cwd: Path | None = None,
    stop: Event | None = None,
) -> Probed:
    """Have an interpreter execute one of the probes.

    Args:
        python: the interpreter.
        program: file name in `probes/`.
        arguments: of the probe, after the descriptor it reports to.
        variables: its environment variables.
        limit: seconds that it may be silent; each report begins them anew.
        cwd: where it runs.
        stop: ends the probe as soon as it is set.
    """
    token = f"doctor-{secrets.token_hex(8)}"
    reading, writing = os.pipe()
    command = [str(python), str(PROBES / program), str(writing), *arguments]
    try:
        process = subprocess.Popen(
            command,
            env={**variables, RUN_ID_VARIABLE: token},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        os.close(reading)
        return Probed(refused=getattr(error, "strerror", None) or str(error))
    finally:
        os.close(writing)
    return _followed(process, reading, token, limit, stop or Event())


def _followed(process: subprocess.Popen[bytes], reading: int, token: str, limit: float, stop: Event) -> Probed:
    assert process.stdout is not None
    started = time.monotonic()
    streams = _Streams(reading, process.stdout.fileno())
    try:
        code = streams.follow(process, limit, stop)
        left = 0 if code is None else _left_behind(token)
    finally:
        _end(process)
        kill_run(token)
        streams.rest()
        process.stdout.close()
        os.close(reading)
    log = mask_secrets(streams.tail.decode("utf-8", "replace"))
    return Probed(streams.reports(), code, log, streams.printed, left, round(time.monotonic() - started, 3))


def _left_behind(token: str) -> int:
    """How many processes outlive the probe. Some helpers, such as trackers of shared memory, end a moment later."""
    deadline = time.monotonic() + LINGER_SECONDS
    while (left := processes_of(token)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(left)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:  # else its number may be another's by now
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Streams:
    """The two pipes of a probe: reports, of which all is kept, and what it prints, of which the end is."""

    def __init__(self, report: int, output: int) -> None:
        self.printed = 0
        self.tail = b""
        self._report = report
        self._reported = bytearray()
        self._selector = selectors.DefaultSelector()
        for descriptor in (report, output):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ)

    def follow(self, process: subprocess.Popen[bytes], limit: float, stop: Event) -> int | None:
        """Read until the process ends (its exit code), or reports nothing for `limit` seconds or is to stop (None)."""
        deadline = time.monotonic() + max(limit, START_SECONDS)
        while (code := process.poll()) is None:
            if self._read(0.05):
                deadline = time.monotonic() + limit
            if time.monotonic() > deadline or stop.is_set():
                return None
        return code

    def rest(self) -> None:
        """Read what is still in the pipes; never waits."""
        deadline = time.monotonic() + 1.0
        while self._selector.get_map() and self._selector.select(0) and time.monotonic() < deadline:
            self._read(0)
        self._selector.close()

    def _read(self, seconds: float) -> bool:
        """Read once what is there; whether a report was among it."""
        if not self._selector.get_map():
            time.sleep(min(seconds, 0.01))
            return False
        reported = False
        for key, _ in self._selector.select(seconds):
            data = os.read(key.fd, 1 << 18)
            if not data:
                self._selector.unregister(key.fd)
            elif key.fd == self._report:
                reported = True
                if len(self._reported) < REPORT_BYTES:
                    self._reported += data
            else:
                self.printed += len(data)
                self.tail = (self.tail + data)[-TAIL_BYTES:]
        return reported

    def reports(self) -> list[dict[str, Any]]:
        """Every whole line of JSON among the reports."""
        found = []
        for line in bytes(self._reported).splitlines():
            try:
                value = json.loads(line)
            except ValueError:  # half of a line, or what a library wrote to the wrong descriptor
                continue
            if isinstance(value, dict):
                found.append(value)
        return found
