"""Signatures of known failures, and how a log is read for them.

`likely_cause` is the one answer to "why did it fail": for failed runs and for `yard doctor --log`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tuneyard.core.signatures import builds, evaluation, gpu, hub, machine, models, serving, training
from tuneyard.core.signatures.reading import Event, Explanation, explain_lines
from tuneyard.core.signatures.signature import Signature

__all__ = ["SIGNATURES", "Event", "Explanation", "Signature", "explain", "likely_cause"]

SIGNATURES: tuple[Signature, ...] = (
    *builds.SIGNATURES,
    *models.SIGNATURES,
    *training.SIGNATURES,
    *evaluation.SIGNATURES,
    *serving.SIGNATURES,
    *hub.SIGNATURES,
    *machine.SIGNATURES,
    *gpu.SIGNATURES,
)
"""Every signature. Where two stand in one line the first is taken, so the particular come before the general."""


def explain(lines: Iterable[tuple[int, str]]) -> Explanation:
    """Why a log ends as it does, from its numbered lines (see `tuneyard.core.signatures.reading`)."""
    return explain_lines(lines, SIGNATURES)


def likely_cause(text: str) -> Signature | None:
    """The signature of the failure that ended `text`, else one that makes its result doubtful, else None.

    The last exception wins over the noise before it: when nobody knows that one, the answer is None.
    """
    found = explain(enumerate(re.split(r"\r\n|[\r\n]", text), 1))
    if found.failure:
        return found.failure.signature
    return found.spoilt[-1].signature if found.spoilt else None
