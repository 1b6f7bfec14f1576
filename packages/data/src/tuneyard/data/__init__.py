"""Datasets: read, made, written, checked.

    from tuneyard.data import Dataset, Record

    Dataset("datasets/sums").write({"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(1000))

The names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneyard.data.dataset import Dataset
    from tuneyard.data.records import Record
    from tuneyard.data.sources import read_records

__all__ = ["Dataset", "Record", "read_records"]

_HOMES = {"Dataset": "dataset", "Record": "records", "read_records": "sources"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"tuneyard.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
