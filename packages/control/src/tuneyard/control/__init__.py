"""Start and watch runs from Python, as the command `yard` does.

    from tuneyard.control import evaluate, train

    run = train("examples/arithmetic/train.yaml", **{"engine.max_steps": 200})
    run.wait()
    print(run.artifacts["model"])

The names are imported when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneyard.control.run import Run, evaluate, generate, runs, serve, train

__all__ = ["Run", "evaluate", "generate", "runs", "serve", "train"]

_HOME = "tuneyard.control.run"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME), name)


def __dir__() -> list[str]:
    return __all__
