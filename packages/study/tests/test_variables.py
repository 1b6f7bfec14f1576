"""From what is varied to the combinations."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import RequestError
from tuneyard.study.variables import design_of

NAMES = st.text(alphabet="abcdef", min_size=1, max_size=4).filter(lambda name: name not in ("zip", "random"))
VALUES = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_lists_give_the_full_factorial_the_last_one_fastest(variables: dict[str, list[int]]) -> None:
    design = design_of(variables, "e")
    expected = [dict(zip(variables, values, strict=True)) for values in itertools.product(*variables.values())]
    assert list(design.combinations()) == expected
    assert len(design) == len(expected)
    assert design.keys == tuple(variables)


@given(VALUES, st.data())
def test_zipped_lists_go_together_and_multiply_with_the_rest(values: list[int], data: st.DataObject) -> None:
    others = data.draw(VALUES)
    design = design_of({"zip": {"a": values, "b": [2 * v for v in values]}, "c": others}, "e")
    found = list(design.combinations())
    assert len(found) == len(values) * len(others)
    assert all(each["b"] == 2 * each["a"] for each in found)
    assert {each["c"] for each in found} == set(others)


def test_several_zips_are_a_list_of_them() -> None:
    design = design_of({"zip": [{"a": [1, 2], "b": [3, 4]}, {"c": [5, 6], "d": [7, 8]}]}, "e")
    assert len(design) == 4
    assert next(design.combinations()) == {"a": 1, "b": 3, "c": 5, "d": 7}


@given(st.integers(0, 1000), st.integers(1, 30))
def test_a_random_sample_keeps_to_its_limits_and_to_its_seed(seed: int, budget: int) -> None:
    drawn = {"lr": {"log_uniform": [1e-5, 1e-2]}, "p": {"uniform": [0, 0.5]}, "n": {"integer": [1, 3]}, "o": ["x", "y"]}
    variables = {"random": {"budget": budget, "seed": seed, **drawn}}
    first, second = (list(design_of(variables, "e").combinations()) for _ in range(2))
    assert first == second
    assert len(first) == budget
    for each in first:
        assert 1e-5 <= each["lr"] <= 1e-2
        assert 0 <= each["p"] <= 0.5
        assert each["n"] in (1, 2, 3)
        assert each["o"] in ("x", "y")


def test_log_uniform_spreads_over_the_decades() -> None:
    design = design_of({"random": {"budget": 300, "lr": {"log_uniform": [1e-6, 1e-2]}}}, "e")
    low = sum(each["lr"] < 1e-4 for each in design.combinations())
    assert 100 < low < 200


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"a": []}, "empty"),
    ({"a": 3}, "a list of values"),
    ({"a": [1, 1]}, "stands twice"),
    ({"a": {"log_uniform": [1, 2]}}, "nothing says how often"),
    ({"zip": {"a": [1, 2], "b": [1]}}, "a has 2, b has 1"),
    ({"zip": [1]}, "mapping"),
    ({"zip": {"a": []}}, "at least one"),
    ({"a": [1], "zip": {"a": [1]}}, "varied twice"),
    ({"random": {"a": {"uniform": [0, 1]}}}, "budget"),
    ({"random": {"budget": 0, "a": [1]}}, "budget"),
    ({"random": {"budget": 3}}, "draws nothing"),
    ({"random": {"budget": 3, "a": {"normal": [0, 1]}}}, "unknown way to draw"),
    ({"random": {"budget": 3, "a": {"log_uniform": [0, 1]}}}, "above 0"),
    ({"random": {"budget": 3, "a": {"uniform": [1, 0]}}}, "low, high"),
    ({"random": {"budget": 3, "a": []}}, "empty"),
]


@pytest.mark.parametrize(("variables", "told"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_varied_is_refused_with_the_reason(variables: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError) as caught:
        design_of(variables, "e.yaml")
    assert told in str(caught.value)


def test_true_and_one_are_two_values() -> None:
    assert len(design_of({"a": [1, True]}, "e")) == 2


def test_a_million_combinations_are_not_made_before_they_are_asked_for() -> None:
    design = design_of({f"v{n}": list(range(10)) for n in range(6)}, "e")
    assert len(design) == 1_000_000
    assert next(design.combinations())["v5"] == 0
