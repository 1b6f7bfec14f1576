"""From an ended worker to a Failure: exception, exit code or signal, the last lines of its log, the likely cause."""

from __future__ import annotations

import os
import re
import signal as signals
from pathlib import Path

from tuneyard.core.errors import TuneyardError
from tuneyard.core.masking import mask_secrets
from tuneyard.core.results import Failure
from tuneyard.core.run_folder import Attempt
from tuneyard.core.signatures import likely_cause

TAIL_LINES = 40
"""How many of the last lines of stderr a failure carries."""

_TAIL_BYTES = 64 * 1024
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def log_tail(path: Path, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log: colours and progress bars' rewritten lines taken out, secrets masked.

    Reads at most the last 64 KiB, however long the log or one of its lines is.
    """
    try:
        with open(path, "rb") as file:
            cut = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(cut)
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    if cut:
        text = re.sub(r"^\S{1,256}", "", text)  # half a secret would not be known as one
    plain = mask_secrets(_ANSI.sub("", text))  # in this order: a colour may stand right before a secret
    rows = [row.rpartition("\r")[2] for row in plain.replace("\r\n", "\n").split("\n")]
    return [row[:2000] for row in rows if row.strip()][-lines:]


def _with_log(failure: Failure, attempt: Attempt) -> Failure:
    tail = log_tail(attempt.stderr)
    known = likely_cause("\n".join([*tail, failure.message])) if failure.kind != "cancelled" else None
    logs = [f"attempts/{attempt.number}/{path.name}" for path in (attempt.stdout, attempt.stderr)]
    return failure.model_copy(
        update={
            "log_tail": tail,
            "logs": logs,
            "cause": failure.cause or (known.cause if known else None),
            "way_out": failure.way_out or (known.way_out if known else None),
        }
    )


def failure_from_exception(error: BaseException, attempt: Attempt) -> Failure:
    """The failure of a worker whose work raised `error`."""
    if isinstance(error, TuneyardError):
        failure = Failure(kind=error.kind, message=error.message, where=error.where, way_out=error.way_out)
    else:
        text = mask_secrets(str(error)).strip()
        memory = "OutOfMemory" in type(error).__name__ or isinstance(error, MemoryError)
        failure = Failure(
            kind="out_of_memory" if memory else "failed", message=f"{type(error).__name__}: {text}"[:2000]
        )
    return _with_log(failure, attempt)


def failure_from_exit(code: int, attempt: Attempt, *, out_of_memory: bool = False, what: str = "the worker") -> Failure:
    """The failure of a worker that ended without a result.

    Args:
        code: its exit code; a negative one is the number of the signal that ended it, as `subprocess` says it.
        attempt: where its logs are.
        out_of_memory: whether the kernel killed a process for memory while it ran.
        what: what ended, where it is not the worker itself.
    """
    if code < 0 and out_of_memory:
        name = signals.Signals(-code).name
        failure = Failure(
            kind="out_of_memory",
            message=f"the kernel killed {what} ({name}) because memory ran out",
            signal=name,
            way_out="a smaller batch, a shorter cutoff_len or fewer data workers; `free -h` shows what there is",
        )
    elif code < 0:
        name = signals.Signals(-code).name
        failure = Failure(kind="signal", message=f"{what} was ended by {name}", signal=name)
    else:
        message = f"{what} ended with exit code {code} and left no result"
        failure = Failure(kind="exit_code", message=message, exit_code=code)
    return _with_log(failure, attempt)


def failure_of_kind(kind: str, message: str, attempt: Attempt, way_out: str | None = None) -> Failure:
    """A failure whose reason the supervisor knows: cancelled, time_limit, setup."""
    return _with_log(Failure(kind=kind, message=message, way_out=way_out), attempt)
