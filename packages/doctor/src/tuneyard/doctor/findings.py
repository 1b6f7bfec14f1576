"""What the doctor says: findings, each with its evidence and a way out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["broken", "risky", "note"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be, or that a person should know."""

    id: str
    """Stable name, for programs: `torchvision-mismatch`."""
    severity: Severity
    """broken: it will not work. risky: it may fail, or score something else. note: good to know."""
    message: str
    """What is wrong, one sentence."""
    environment: str | None = None
    """The environment it was found in; None: the machine, or several environments together."""
    evidence: str | None = None
    """What was measured, and where."""
    way_out: str | None = None
    """What mends it: a command where there is one."""
    link: str | None = None
    """Address of an upstream thread about it."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
