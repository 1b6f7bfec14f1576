"""Errors that say what happened, where, and the way out.

The class decides the exit code: 1 the run failed or was lost, 2 the request is wrong, 3 the set-up is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar


class TuneyardError(Exception):
    """Base of every error that tuneyard raises on purpose."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "failed"

    def __init__(self, message: str, *, where: str | None = None, way_out: str | None = None) -> None:
        """
        Args:
            message: what happened, one sentence.
            where: the file (with line or key) or the object it happened in.
            way_out: what to do about it; a command where there is one.
        """
        super().__init__(message)
        self.message = message
        self.where = where
        self.way_out = way_out

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        mend = f"\n  way out: {self.way_out}" if self.way_out else ""
        return f"{place}{self.message}{mend}"

    def as_dict(self) -> dict[str, Any]:
        """The error as the JSON object that `--json` prints under `error`."""
        return {
            "kind": self.kind,
            "message": self.message,
            "where": self.where,
            "way_out": self.way_out,
            "exit_code": self.exit_code,
        }


class RequestError(TuneyardError):
    """The spec, file, key or argument that was asked for is wrong."""

    exit_code = 2
    kind = "request"


class SetupError(TuneyardError):
    """An environment, tool, disk or network is not as it must be; the way out is the command that mends it."""

    exit_code = 3
    kind = "setup"


class RunError(TuneyardError):
    """A run failed or was lost."""

    exit_code = 1
    kind = "failed"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when nothing is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def unknown(what: str, word: str, known: Iterable[str], *, where: str | None = None) -> RequestError:
    """The error for a name that is not among the known ones, with the nearest of them."""
    names = sorted(known)
    guess = nearest(word, names)
    if guess:
        way_out = f"did you mean {guess!r}?"
    elif len(names) <= 30:
        way_out = "known: " + ", ".join(names)
    else:
        way_out = None
    return RequestError(f"unknown {what} {word!r}", where=where, way_out=way_out)
