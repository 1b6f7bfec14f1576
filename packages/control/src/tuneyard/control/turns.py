"""Taking turns: a lock that processes of one machine wait for, and that the system gives back when its holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tuneyard.core.errors import SetupError
from tuneyard.core.files import explain_os_error

POLL_SECONDS = 0.005


@contextmanager
def turn(path: Path, seconds: float) -> Iterator[int]:
    """Hold the lock on a file, which is made where it is missing; yields its descriptor.

    Args:
        path: the lock file; its folder is made too.
        seconds: how long to wait for whoever holds it.

    Raises:
        SetupError: nobody gave it back in time, or the place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        with suppress(PermissionError):
            os.fchmod(descriptor, 0o666)  # whoever shares the folder shares the lock
        _wait_for(descriptor, path, seconds)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, path: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SetupError(
                    f"another process has held this lock for {seconds:.0f} s",
                    where=str(path),
                    way_out=f"see who has it: fuser {path}",
                ) from None
            time.sleep(POLL_SECONDS)
