"""Looking at runs stays as quick among 10,000 as the benchmark promises."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.slow
def test_looking_at_runs_costs_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("measure", "runs_listing"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import runs_listing

    for comparison, (name, bound) in zip(runs_listing.measure(pairs=5), runs_listing.BOUNDS.items(), strict=True):
        assert comparison.ratio <= bound, f"{name}: {comparison.row(bound)}"
