"""The statistics that reports add to control's: against numbers known otherwise."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.control.significance import bootstrap_grid, holm, mcnemar_p, quantile, sign_flip_p


def test_a_grid_of_one_training_spreads_as_the_mean_of_its_documents_does() -> None:
    values = [float(n % 5 == 0) for n in range(400)]
    means = bootstrap_grid([values])
    error = statistics.pstdev(values) / math.sqrt(400)
    assert statistics.fmean(means) == pytest.approx(0.2, abs=0.003)
    assert statistics.pstdev(means) == pytest.approx(error, rel=0.08)


def test_trainings_that_differ_widen_the_interval_beyond_that_of_the_documents() -> None:
    generator = random.Random(0)
    grids = [[[float(generator.random() < p) for _ in range(300)] for p in ps] for ps in ([0.5] * 3, [0.3, 0.5, 0.7])]
    alike, apart = (quantile(m, 0.975) - quantile(m, 0.025) for m in map(bootstrap_grid, grids))
    assert apart > 1.5 * alike


def test_a_difference_of_two_grids_is_around_the_difference_of_their_means() -> None:
    means = bootstrap_grid([[1.0, 1.0, 0.0, 1.0]] * 2, minus=[[0.0, 1.0, 0.0, 0.0]] * 3)
    assert statistics.fmean(means) == pytest.approx(0.5, abs=0.02)
    assert means == sorted(means)


def test_the_same_documents_for_both_leave_nothing_of_what_they_share() -> None:
    hard = [float(n % 2) for n in range(100)]
    assert set(bootstrap_grid([hard], minus=[hard])) == {0.0}


@given(st.integers(0, 14), st.integers(0, 14))
def test_flipping_signs_of_ones_is_mcnemars_test(worsened: int, improved: int) -> None:
    p = sign_flip_p([-1.0] * worsened + [1.0] * improved + [0.0] * 5)
    assert p == pytest.approx(mcnemar_p(worsened, improved), abs=0.03)


def test_flipping_signs_knows_no_difference_and_a_clear_one() -> None:
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([0.3, 0.4, 0.5] * 20) < 0.001


def test_holms_correction_is_the_published_one() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_corrected_p_is_never_smaller_and_keeps_the_order(ps: list[float]) -> None:
    corrected = holm(ps)
    assert all(new >= old for old, new in zip(ps, corrected, strict=True))
    assert all(new <= 1 for new in corrected)
    order = sorted(range(len(ps)), key=ps.__getitem__)
    assert [corrected[n] for n in order] == sorted(corrected)
