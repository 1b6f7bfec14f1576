"""Resolving a spec for a job that begins later and elsewhere: its devices are not here, its model may not be yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Later:
    """What may be counted on when the job begins."""

    gpus: int = 0
    """GPUs on each node where a spec does not say how many."""
    awaited: frozenset[str] = frozenset()
    """Ids of training runs that will have succeeded by then."""


_later: ContextVar[Later | None] = ContextVar("later", default=None)


@contextmanager
def scheduled(later: Later) -> Iterator[None]:
    """Inside the block, specs are resolved for a job that a scheduler will start."""
    token = _later.set(later)
    try:
        yield
    finally:
        _later.reset(token)


def later() -> Later | None:
    """What may be counted on, where specs are resolved for a scheduler; else None."""
    return _later.get()
