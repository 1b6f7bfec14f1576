"""What a signature is: lines of a log that give away why a run failed, with the way out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Effect = Literal["ends", "follows", "spoils", "warns"]


@dataclass(frozen=True)
class Signature:
    """One known failure."""

    id: str
    """Stable name, used by programs."""
    pattern: re.Pattern[str]
    """What stands in one line of the log."""
    cause: str
    """The likely cause, one sentence."""
    way_out: str
    """What to do about it: a command where there is one."""
    thread: str
    """Address of the upstream thread that shows these lines."""
    effect: Effect = "ends"
    """ends: it ends the run. follows: it often only follows from another failure, which then is the cause.
    spoils: the run goes on and its result is worth nothing. warns: the run goes on and may mean something else."""


def signature(id: str, pattern: str, *, cause: str, way_out: str, thread: str, effect: Effect = "ends") -> Signature:
    """A signature, its pattern compiled; `thread` is what follows https://github.com/."""
    return Signature(id, re.compile(pattern), cause, way_out, f"https://github.com/{thread}", effect)
