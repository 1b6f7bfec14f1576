"""Resolving a spec for a job that begins later and elsewhere: its devices are not here, its model may not be yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


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


def where_it_runs(slurm: Mapping[str, Any] | None) -> AbstractContextManager[None]:
    """Inside, specs are resolved for a job with these options of sbatch's; None: for this machine, as outside."""
    if slurm is None:
        return nullcontext()
    from tuneyard.control.slurm.script import gpus_of

    return scheduled(Later(gpus=gpus_of(slurm)))


def later() -> Later | None:
    """What may be counted on, where specs are resolved for a scheduler; else None."""
    return _later.get()
