"""attempts/N/supervisor.json: who has the attempt, whether he lives, and how far he is."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from typing import Any

from tuneyard.core.run_folder import SUPERVISOR_BYTES, Attempt, boot_id, host


class Record:
    """The file, open and locked from its creation to the end of this process.

    It always has the same size and is rewritten by one write in place: replacing it would drop the lock, and a disk
    that has become full still takes it.
    """

    def __init__(self, attempt: Attempt, descriptor: int) -> None:
        self._attempt = attempt
        self._descriptor = descriptor
        self._written = False
        self._values: dict[str, Any] = {
            "host": host(),
            "boot_id": boot_id(),
            "pid": os.getpid(),
            "argv": sys.orig_argv,
            "started": time.time(),
            "lease": None,
        }

    def phase(self, name: str, **values: Any) -> None:
        """Enter a phase: preparing, waiting, running. Raises as `write` does."""
        self.write(phase=name, phase_since=time.time(), waiting_for=None, **values)

    def write(self, **values: Any) -> None:
        """Set values and write all of them, with a fresh heartbeat.

        Raises:
            OSError: the first time only. A disk that cannot be written later is no reason to end a run.
        """
        self._values.update(values, heartbeat=time.time())
        try:
            os.pwrite(self._descriptor, self._encode().ljust(SUPERVISOR_BYTES - 1) + b"\n", 0)
        except OSError:
            if not self._written:
                raise
        self._written = True

    @property
    def waiting_for(self) -> str | None:
        """What the attempt waits for, as it was last written."""
        return self._values.get("waiting_for")

    def close(self) -> None:
        """Unlock it: the attempt has ended."""
        os.close(self._descriptor)

    def _encode(self) -> bytes:
        data = json.dumps(self._values).encode()  # ASCII: a path may hold bytes that are no UTF-8
        if len(data) < SUPERVISOR_BYTES:
            return data
        return json.dumps({**self._values, "argv": [], "last_words": None}).encode()


def claim(attempt: Attempt) -> Record | None:
    """Take an attempt: whoever makes its supervisor.json has it. None where another was quicker."""
    try:
        descriptor = os.open(attempt.supervisor, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return Record(attempt, descriptor)
