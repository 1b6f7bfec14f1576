"""An effective batch is divided over devices so that nothing is lost, or refused with the nearest that can be."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tuneyard.control.resolving.batch import ACCUMULATION, LARGEST_PER_DEVICE, PER_DEVICE, split_batch
from tuneyard.core.errors import RequestError

sizes = st.integers(1, 4096)
devices = st.integers(1, 64)


@pytest.mark.parametrize(
    ("effective", "processes", "engine", "expected"),
    [
        (16, 1, {}, (8, 2)),
        (16, 8, {}, (2, 1)),
        (7, 1, {}, (7, 1)),
        (11, 1, {}, (1, 11)),
        (12, 1, {}, (6, 2)),
        (64, 4, {PER_DEVICE: 2}, (2, 8)),
        (64, 4, {PER_DEVICE: 16}, (16, 1)),
        (64, 4, {PER_DEVICE: 2, ACCUMULATION: 8}, (2, 8)),
    ],
)
def test_known_divisions(effective: int, processes: int, engine: dict[str, int], expected: tuple[int, int]) -> None:
    found = split_batch(effective, processes, engine)
    assert (found[PER_DEVICE], found[ACCUMULATION]) == expected


@given(sizes, devices, st.none() | st.integers(1, 64))
def test_the_parts_make_the_whole_or_the_nearest_sizes_would(
    effective: int, processes: int, per_device: int | None
) -> None:
    engine = {} if per_device is None else {PER_DEVICE: per_device}
    try:
        found = split_batch(effective, processes, engine)
    except RequestError as refused:
        assert effective % ((per_device or 1) * processes)
        for size in map(int, re.findall(r"\d+", refused.way_out or "")):
            assert split_batch(size, processes, engine)
            assert abs(size - effective) < (per_device or 1) * processes
        return
    assert found[PER_DEVICE] * found[ACCUMULATION] * processes == effective
    assert per_device is not None or found[PER_DEVICE] <= LARGEST_PER_DEVICE


@given(sizes, devices)
def test_a_division_can_be_given_back_and_stays_the_same(effective: int, processes: int) -> None:
    assume(effective % processes == 0)
    found = split_batch(effective, processes, {})
    assert split_batch(effective, processes, dict(found)) == found


def test_the_nearest_possible_sizes_are_named() -> None:
    with pytest.raises(RequestError) as refused:
        split_batch(10, 1, {PER_DEVICE: 4})
    assert refused.value.way_out == "the nearest possible: 8 or 12"
    with pytest.raises(RequestError, match=r"nearest possible: 8$"):
        split_batch(3, 8, {})


def test_another_accumulation_contradicts() -> None:
    with pytest.raises(RequestError, match=f"means engine.{ACCUMULATION} 2"):
        split_batch(16, 1, {PER_DEVICE: 8, ACCUMULATION: 4})


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", True])
def test_a_size_per_device_that_is_none_is_refused(size: object) -> None:
    with pytest.raises(RequestError, match="whole number"):
        split_batch(8, 1, {PER_DEVICE: size})
