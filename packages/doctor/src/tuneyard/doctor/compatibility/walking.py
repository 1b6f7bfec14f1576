"""Walking back on purpose: the newest release that fits, where a solver that is left alone jumps to an ancient one.

A solver settles one package after the other and, once it has to give way, may pass over every release that would have
fitted with another choice elsewhere. So it is asked again with bounds, window by window from the newest downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from packaging.version import Version

from tuneyard.doctor.compatibility.uv import Resolution

MOST_RAISES = 4
"""How often a window that resolves is asked for something newer still."""


def windows(version: str) -> Iterator[tuple[str, str]]:
    """(at least, below) from just under a version down to the oldest: narrow at first, then wider and wider."""
    known = Version(version)
    major, high = known.major, known.minor
    if known.micro:
        yield f"{major}.{high}", known.public
    yield from ((f"{major}.{low}", f"{major}.{above}") for low, above in _widening(high))
    yield from ((str(low), str(above)) for low, above in _widening(major))


def _widening(high: int) -> Iterator[tuple[int, int]]:
    size = 1
    while high > 0:
        low = max(0, high - size)
        yield low, high
        high, size = low, size * 2


def newest_below(name: str, version: str, ask: Callable[[str], Resolution]) -> Resolution | None:
    """The solve with the newest release of `name` under `version` that is found to fit; None: none does.

    Args:
        name: the package.
        version: known not to fit.
        ask: solves with one more requirement.
    """
    for low, high in windows(version):
        answer = ask(f"{name}>={low},<{high}")
        if answer.versions and name in answer.versions:
            return _raised(name, high, answer, ask)
    return None


def _raised(name: str, high: str, answer: Resolution, ask: Callable[[str], Resolution]) -> Resolution:
    for _ in range(MOST_RAISES):
        assert answer.versions is not None
        newer = ask(f"{name}>{answer.versions[name].version.partition('+')[0]},<{high}")
        if not newer.versions:
            return answer
        answer = newer
    return answer
