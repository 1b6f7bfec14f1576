"""Why a server ended by itself: the first error that its processes logged, and what helps."""

from __future__ import annotations

import re
import signal

from tuneyard.core.errors import RunError
from tuneyard.core.failures import log_tail
from tuneyard.core.run_folder import Attempt

LINES = 400
"""How far back the error may stand: each process of vLLM prints a traceback when one of them dies."""

_PREFIX = r"^(?:\([^)]*\) )*(?:(?:ERROR|CRITICAL) [^\]]*\] )?"
_ERROR = re.compile(_PREFIX + r"((?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt): .+)$")
_FOLLOWS = ("Engine core initialization failed", "Engine process failed to start", "EngineDeadError", "CancelledError")
"""Errors that only say that there was another."""


def explain(attempt: Attempt, code: int) -> RunError:
    """The error for a server that ended with an exit code (negative: a signal) though nobody asked it to."""
    lines = log_tail(attempt.stderr, LINES) + log_tail(attempt.stdout, LINES)
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    reason = first_error(lines)
    return RunError(f"the server {ended}" + (f": {reason}" if reason else ""))


def first_error(lines: list[str]) -> str | None:
    """The first error in a log that does not merely follow from another."""
    found = [match[1] for line in lines if (match := _ERROR.match(line))]
    return next((error for error in found if not any(word in error for word in _FOLLOWS)), None)
