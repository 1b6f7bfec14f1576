"""Statistics of paired scores: the interval of a mean difference, and whether two models differ at all.

Written for what a comparison needs, in plain Python: numpy would cost every command more than the arithmetic takes.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

RESAMPLES = 10_000
"""Resamples of a bootstrap."""

MOST_DRAWS = 20_000_000
"""Draws over all resamples; with more documents there are fewer resamples, though never under 1,000."""


def bootstrap_interval(
    differences: Sequence[float], *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the mean of paired differences.

    Args:
        differences: one per document, B minus A; at least one.
        confidence: share of the resampled means that lies inside. Default: 0.95.
        resamples: how many samples are drawn, each as large as the data.
        seed: same data and seed give the same interval.
    """
    generator = random.Random(seed)
    counts = Counter(differences)
    if len(counts) <= 3:
        means = _means_by_counts(counts, resamples, generator)
    else:
        n = len(differences)
        resamples = min(resamples, max(1000, MOST_DRAWS // n))
        means = [math.fsum(generator.choices(differences, k=n)) / n for _ in range(resamples)]
    means.sort()
    outside = (1 - confidence) / 2
    return quantile(means, outside), quantile(means, 1 - outside)


def _means_by_counts(counts: Counter[float], resamples: int, generator: random.Random) -> list[float]:
    """Means of resamples of data with few distinct values, as scores of 0 or 1 have (their differences are -1, 0, 1).

    How often each value is drawn follows a multinomial distribution, which is a chain of binomial ones: the same
    distribution as drawing every document, at a hundredth of the cost.
    """
    n = counts.total()
    sampler = cache(binomial_quantiles)
    means = []
    for _ in range(resamples):
        left, weight, total = n, n, 0.0
        for value, count in counts.items():
            # the weights are whole numbers, so that the last value, which takes all that is left, has exactly 1
            drawn = left if count == weight else sampler(left, count / weight)(generator.random())
            total += value * drawn
            left, weight = left - drawn, weight - count
        means.append(total / n)
    return means


def binomial_quantiles(n: int, p: float) -> Callable[[float], int]:
    """The inverse of the binomial distribution function: a uniform number in [0, 1) to a count in 0..n."""
    odds = math.log(p) - math.log1p(-p)
    ways = math.lgamma(n + 1)
    probabilities = [
        math.exp(ways - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * odds + n * math.log1p(-p))
        for k in range(n + 1)
    ]
    below, total = [], 0.0
    for probability in probabilities:
        total += probability
        below.append(total)
    return lambda uniform: min(bisect_left(below, uniform), n)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of sorted values lie, by linear interpolation between neighbours."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def mcnemar_p(worsened: int, improved: int) -> float:
    """The exact two-sided p of McNemar's test: how likely so uneven a change is if neither model is better.

    Args:
        worsened: documents that only A answered rightly.
        improved: documents that only B answered rightly.
    """
    n, k = worsened + improved, min(worsened, improved)
    term = tail = 1  # C(n, 0); whole numbers, so that no tail is too small to be added
    for i in range(k):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, _divided(2 * tail, n))


def _divided(number: int, exponent: int) -> float:
    """number / 2**exponent for whole numbers of any size."""
    shift = max(0, number.bit_length() - 64)
    return math.ldexp(number >> shift, shift - exponent)


GRID_RESAMPLES = 2000
"""Resamples of a grid of seeds and documents."""


def bootstrap_grid(
    grid: Sequence[Sequence[float]],
    *,
    minus: Sequence[Sequence[float]] | None = None,
    resamples: int = GRID_RESAMPLES,
    seed: int = 0,
) -> list[float]:
    """Means of resamples of a grid, sorted: rows (trainings that differ in their seed) and documents are both drawn.

    Args:
        grid: one row per training, one column per document, the same documents in every row; at least one of each.
        minus: a second grid over the same documents, whose mean is taken off; its rows are drawn for themselves.
        resamples: how many, fewer where there are very many documents, though never under 500.
        seed: same data and seed give the same means.
    """
    generator = random.Random(seed)
    documents = range(len(grid[0]))
    means = []
    for _ in range(min(resamples, max(500, MOST_DRAWS // len(documents)))):
        drawn = generator.choices(documents, k=len(documents))
        means.append(_mean_of(grid, drawn, generator) - _mean_of(minus or (), drawn, generator))
    means.sort()
    return means


def _mean_of(grid: Sequence[Sequence[float]], documents: Sequence[int], generator: random.Random) -> float:
    """Mean over the documents of as many rows as there are, drawn; each row that is drawn is added up once."""
    if not grid:
        return 0.0
    rows = Counter(generator.choices(range(len(grid)), k=len(grid)))
    total = sum(times * sum(map(grid[row].__getitem__, documents)) for row, times in rows.items())
    return total / (len(grid) * len(documents))


def sign_flip_p(differences: Sequence[float], *, flips: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p of the paired randomisation test: how often a mean as far from 0 comes of signs tossed by a coin.

    Args:
        differences: one per document; at least one.
        flips: tosses of all signs. The least p is 1 / (flips + 1).
        seed: same data and seed give the same p.
    """
    generator = random.Random(seed)
    sizes = Counter(round(abs(difference), 12) for difference in differences if difference)
    observed = abs(math.fsum(differences)) - 1e-9
    if not sizes:
        return 1.0
    flips = min(flips, max(1000, MOST_DRAWS // len(sizes)))
    as_far = 0
    for _ in range(flips):
        total = sum(size * (2 * generator.getrandbits(m).bit_count() - m) for size, m in sizes.items())
        as_far += abs(total) >= observed
    return (as_far + 1) / (flips + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected for being several, by Holm's step-down method, in the order they were given."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, ps[place] * (len(ps) - rank)))
        corrected[place] = highest
    return corrected
