"""Intervals and p-values agree with published numbers, with brute force, and with themselves."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.control.significance import binomial_quantiles, bootstrap_interval, mcnemar_p, quantile


@pytest.mark.parametrize(
    ("worsened", "improved", "p"),
    [
        # Two-sided binomial tests at 1/2, as tables of the sign test print them.
        (0, 0, 1.0),
        (0, 5, 0.0625),
        (0, 6, 0.03125),
        (1, 9, 0.021484375),
        (2, 8, 0.109375),
        (5, 5, 1.0),
        (4, 11, 0.118469238281250),
        (121, 59, 4.434448048037e-06),  # the textbook table 101, 121, 59, 33
    ],
)
def test_mcnemar_agrees_with_tables_of_the_sign_test(worsened: int, improved: int, p: float) -> None:
    assert mcnemar_p(worsened, improved) == pytest.approx(p, rel=1e-3)
    assert mcnemar_p(improved, worsened) == mcnemar_p(worsened, improved)


@given(st.integers(0, 9), st.integers(0, 9))
def test_mcnemar_is_the_share_of_coin_tosses_at_least_as_uneven(worsened: int, improved: int) -> None:
    n = worsened + improved
    uneven = abs(worsened - improved)
    tosses = sum(abs(n - 2 * sum(t)) >= uneven for t in itertools.product((0, 1), repeat=min(n, 12)) if n <= 12)
    if n <= 12:
        assert mcnemar_p(worsened, improved) == pytest.approx(tosses / 2**n)


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_is_a_probability_whatever_the_counts(worsened: int, improved: int) -> None:
    assert 0 <= mcnemar_p(worsened, improved) <= 1


def test_mcnemar_tells_the_smallest_probabilities_apart() -> None:
    assert mcnemar_p(0, 500) == pytest.approx(2.0**-499)


@pytest.mark.parametrize(("n", "p"), [(1, 0.5), (7, 0.2), (40, 0.97), (1319, 0.03)])
def test_binomial_quantiles_have_the_binomial_mean_and_variance(n: int, p: float) -> None:
    draw = binomial_quantiles(n, p)
    steps = 20_000
    counts = [draw((i + 0.5) / steps) for i in range(steps)]
    assert statistics.mean(counts) == pytest.approx(n * p, abs=0.01 * math.sqrt(n))
    assert statistics.pvariance(counts) == pytest.approx(n * p * (1 - p), rel=0.02)


def exact_interval(differences: list[int]) -> tuple[float, float]:
    """The bootstrap interval over all equally likely resamples, not over random ones."""
    n = len(differences)
    means = sorted(sum(sample) / n for sample in itertools.product(differences, repeat=n))
    return quantile(means, 0.025), quantile(means, 0.975)


@pytest.mark.parametrize("differences", [[1, 0, 0, 0, -1, 1], [1, 1, 0, 0, 0, 0], [-1, -1, -1, 0, 1]])
def test_the_interval_of_scores_of_0_and_1_is_that_of_all_resamples(differences: list[int]) -> None:
    low, high = bootstrap_interval(differences, resamples=40_000)
    exact_low, exact_high = exact_interval(differences)
    assert low == pytest.approx(exact_low, abs=1e-9)
    assert high == pytest.approx(exact_high, abs=1e-9)


def test_both_ways_of_resampling_agree() -> None:
    generator = random.Random(1)
    plain = [generator.choice([-1, 0, 0, 0, 1, 1]) for _ in range(300)]
    nearly = [value + generator.uniform(-1e-9, 1e-9) for value in plain]  # many values: the general way
    assert bootstrap_interval(plain) == pytest.approx(bootstrap_interval(nearly, seed=7), abs=0.012)


def test_the_interval_is_that_of_the_normal_distribution_for_many_documents() -> None:
    generator = random.Random(2)
    values = [generator.gauss(0.1, 1.0) for _ in range(1319)]
    low, high = bootstrap_interval(values)
    middle, half = statistics.mean(values), 1.96 * statistics.stdev(values) / math.sqrt(len(values))
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=0.004)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60))
def test_the_interval_lies_within_the_data_and_is_the_same_every_time(differences: list[float]) -> None:
    low, high = bootstrap_interval(differences, resamples=200)
    assert min(differences) <= low <= high <= max(differences)
    assert (low, high) == bootstrap_interval(differences, resamples=200)


def test_no_difference_has_no_width() -> None:
    assert bootstrap_interval([0.0] * 50) == (0.0, 0.0)


def test_scores_of_0_and_1_cost_a_fraction_of_any_others() -> None:
    def cost(distinct: int) -> float:
        generator = random.Random(3)
        values = [float(generator.randrange(distinct)) for _ in range(1319)]
        start = time.process_time()
        bootstrap_interval(values)
        return time.process_time() - start

    assert cost(3) < cost(1319) / 3
