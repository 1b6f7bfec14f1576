"""Asking something that may never answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns, or whatever it raises, if that happens in time.

    It goes on in a thread of its own where it does not: looking a host's name up knows no time limit.

    Raises:
        TimeoutError: no answer within `seconds`.
    """
    box: dict[str, Any] = {}

    def work() -> None:
        try:
            box["value"] = ask()
        except Exception as error:  # carried over to the caller's thread, where it is raised
            box["error"] = error

    thread = threading.Thread(target=work, name="asking", daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in box:
        raise box["error"]
    if "value" not in box:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return box["value"]
