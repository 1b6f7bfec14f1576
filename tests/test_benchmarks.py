"""The promised ratios, measured anew against the rivals in the same run. Seconds are printed, never asserted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import dataset_build
import dataset_folder
import doctor_health
import doctor_log
import gsm8k
import pytest
import runs_listing
import study_plan
import study_report
import study_slots
import train_overhead
from measure import Comparison

from tuneyard.control.environments import environment_prefix
from tuneyard.control.workspace import find_workspace

pytestmark = [pytest.mark.slow, pytest.mark.alone]

ROOT = Path(__file__).parents[1]


def python_of(name: str) -> str:
    return str(environment_prefix(find_workspace(ROOT), name) / "bin" / "python")


def hold(measure: Callable[[], Sequence[Comparison]], bounds: Sequence[float]) -> None:
    """Measure, and once more where a bound is missed: a machine may have had something else to do for a minute."""
    missed = _missed(measure(), bounds)
    missed = missed and _missed(measure(), bounds)
    assert not missed, missed


def _missed(comparisons: Sequence[Comparison], bounds: Sequence[float]) -> list[Comparison]:
    for comparison, bound in zip(comparisons, bounds, strict=True):
        print(comparison.row(bound), file=sys.stderr)
    return [comparison for comparison, bound in zip(comparisons, bounds, strict=True) if comparison.ratio > bound]


def test_looking_at_ten_thousand_runs_costs_little_more_than_importing_pydantic() -> None:
    hold(runs_listing.measure, [*runs_listing.BOUNDS.values()])


DATASET_BOUND = 2.5 * dataset_folder.BOUND
"""The bound is for a million rows on four idle cores; here it is a fifth of them, where starting takes its share."""


def test_a_dataset_folder_is_written_several_times_as_fast_as_by_datasets(tmp_path: Path) -> None:
    hold(lambda: [dataset_folder.compare(200_000, 3, python_of("train"), tmp_path)], [DATASET_BOUND])


BUILD_BOUND = 1.25 * dataset_build.BOUND
"""The bound is for a million rows; here it is a quarter of them, where starting takes its share."""


def test_a_dataset_is_built_in_about_the_time_of_parsing_and_writing_it(tmp_path: Path) -> None:
    hold(lambda: [dataset_build.compare(250_000, 3, tmp_path)], [BUILD_BOUND])


def test_a_short_training_costs_no_more_than_llamafactorys_own_command() -> None:
    hold(lambda: [train_overhead.measure(pairs=3)], [train_overhead.BOUND])


def test_gsm8k_takes_less_time_than_by_lm_evals_own_command(gsm8k_folder: Path) -> None:
    hold(lambda: [gsm8k.measure(gsm8k_folder, pairs=3)], [gsm8k.BOUND])


def test_a_diagnosis_takes_hardly_longer_than_importing_the_engine() -> None:
    hold(lambda: doctor_health.measure(pairs=3), [doctor_health.BOUND] * len(doctor_health.ENGINES))


def test_a_log_is_searched_faster_than_by_grep_with_the_same_patterns() -> None:
    hold(lambda: [doctor_log.measure(pairs=3)], [doctor_log.BOUND])


def test_planning_ten_thousand_runs_costs_little_more_than_formatting_their_lines() -> None:
    hold(lambda: [study_plan.measure(pairs=5)], [study_plan.BOUND])


def test_a_report_reads_a_thousand_runs_in_little_more_than_the_time_of_parsing_them() -> None:
    hold(lambda: [study_report.measure(pairs=3)], [study_report.BOUND])


def test_a_study_on_two_slots_takes_no_longer_than_llamafactorys_command_twice_at_once() -> None:
    # no round to warm up: the tests before this one have written the bytecode
    hold(lambda: [study_slots.measure(pairs=2, warm_up=0)], [study_slots.BOUND])
