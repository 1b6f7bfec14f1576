"""Telling what is declared must be quicker than asking a solver once."""

from __future__ import annotations

import sys

import doctor_compare
import pytest

from tuneyard.core.errors import TuneyardError
from tuneyard.doctor.compatibility.uv import find_solver

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture
def reachable_index() -> None:
    """The index of the user's own settings."""
    try:
        found = find_solver(doctor_compare.ROOT).solve(["packaging"], dependencies=False)
    except TuneyardError:
        pytest.skip("the package index cannot be reached")
    assert found.ok


@pytest.mark.usefixtures("reachable_index")
def test_all_stacks_are_compared_before_one_is_solved_for() -> None:
    for comparison, bound in zip(doctor_compare.measure(pairs=3), doctor_compare.BOUNDS.values(), strict=True):
        print(comparison.row(bound), file=sys.stderr)
        assert comparison.ratio <= bound, comparison
