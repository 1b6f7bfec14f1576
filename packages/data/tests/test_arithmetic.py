"""The made-up corpus: the same everywhere, never the same problem on both sides, and scored as it reads."""

import re
import tracemalloc
from collections import Counter
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import RequestError
from tuneyard.data.arithmetic import ANSWER, Split, problems, prompt, score, worked_answer

DIGITS = range(1, 7)


def numbers(problem: dict[str, Any]) -> tuple[int, int]:
    return problem["metadata"]["a"], problem["metadata"]["b"]


def unordered(**arguments: Any) -> set[frozenset[int]]:
    return {frozenset(numbers(problem)) for problem in problems(**arguments)}


def test_a_problem_reads_as_documented() -> None:
    assert prompt(358, 467) == "Add 358 and 467."
    assert worked_answer(358, 467) == "8+7+0=15,5+6+1=12,3+4+1=08 #### 825"


def test_a_carry_out_of_the_last_column_makes_the_answer_longer() -> None:
    assert worked_answer(99, 99) == "9+9+0=18,9+9+1=19 #### 198"


def test_the_first_problems_of_a_seed_never_change() -> None:
    assert [problem["id"] for problem in problems(size=3)] == ["738+785", "915+494", "794+605"]
    assert [problem["id"] for problem in problems(size=3, digits=2, seed=7, split="test")] == [
        "69+19",
        "67+15",
        "88+70",
    ]


def test_a_problem_is_a_plain_record() -> None:
    assert next(problems()) == {
        "id": "738+785",
        "prompt": "Add 738 and 785.",
        "response": "8+5+0=13,3+8+1=12,7+7+1=15 #### 1523",
        "target": "1523",
        "metadata": {"digits": 3, "split": "train", "a": 738, "b": 785},
    }


@pytest.mark.parametrize("digits", DIGITS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_step_and_the_sum_are_right(digits: int, split: Split) -> None:
    for problem in problems(digits=digits, size=200, split=split):
        a, b = numbers(problem)
        assert len(str(a)) == len(str(b)) == digits
        assert problem["target"] == str(a + b)
        steps, answer = problem["response"].split(" #### ")
        assert answer == problem["target"]
        carry = 0
        assert steps.count(",") == digits - 1
        for place, step in enumerate(steps.split(",")):
            match = re.fullmatch(r"(\d)\+(\d)\+(\d)=(\d\d)", step)
            assert match, step
            x, y, carried, column = map(int, match.groups())
            assert (x, y, carried) == (a // 10**place % 10, b // 10**place % 10, carry)
            assert column == x + y + carried
            carry = column // 10


@given(st.integers(1, 18), st.integers(), st.sampled_from(["train", "test"]), st.booleans())
def test_the_gold_answer_scores_1(digits: int, seed: int, split: Split, shuffled_answers: bool) -> None:
    for problem in problems(digits=digits, size=5, seed=seed, split=split, shuffled_answers=shuffled_answers):
        assert score(problem["response"], problem["target"]) == 1.0


@given(st.integers(100, 999), st.integers(100, 999), st.integers(1, 2000))
def test_a_wrong_answer_scores_0(a: int, b: int, other: int) -> None:
    assert score(worked_answer(a, b), str(a + b + other)) == 0.0


@pytest.mark.parametrize(
    "response",
    [
        "",
        "825",
        "#### ",
        "8+7+0=15,5+6+1=12,3+4+1=08",
        "#### 0825",
        "#### 825 or 826",
        "#### 825.",
        "####825",
        "#### -825",
        "#### \u0668\u0662\u0665",
    ],
)
def test_an_answer_that_is_not_in_the_documented_form_scores_0(response: str) -> None:
    assert score(response, "825") == 0.0


def test_white_space_behind_the_answer_is_allowed() -> None:
    assert score("#### 825 \n", "825") == 1.0


def test_the_last_answer_counts_and_one_group_reads_it() -> None:
    assert ANSWER.findall("#### 1 no, #### 825") == ["825"]


def test_the_same_arguments_give_the_same_problems() -> None:
    assert list(problems(size=300, seed=5)) == list(problems(size=300, seed=5))


def test_a_smaller_size_is_the_beginning_of_a_larger() -> None:
    assert list(problems(size=50, seed=5)) == list(islice(problems(size=300, seed=5), 50))


def test_another_seed_gives_other_problems_in_another_order() -> None:
    first, second = ([problem["id"] for problem in problems(size=200, seed=seed)] for seed in (0, 1))
    assert first[:10] != second[:10]
    assert len(set(first) & set(second)) < 10


@given(st.sampled_from([2, 3]), st.integers(), st.integers(), st.integers(1, 400), st.integers(1, 400))
def test_no_seed_or_size_moves_a_problem_across(digits: int, one: int, two: int, size: int, other_size: int) -> None:
    train = unordered(digits=digits, size=size, seed=one)
    test = unordered(digits=digits, size=other_size, seed=two, split="test")
    assert not train & test


def test_together_the_splits_hold_every_problem_once() -> None:
    train = [problem["id"] for problem in problems(digits=2, size=6475)]
    test = [problem["id"] for problem in problems(digits=2, size=8100, split="test")]
    assert Counter(train + test) == Counter(f"{a}+{b}" for a in range(10, 100) for b in range(10, 100))


def test_a_training_size_beyond_all_problems_starts_over_in_another_order() -> None:
    ids = [problem["id"] for problem in problems(digits=1, size=2 * 79 + 1)]
    first, second, third = ids[:79], [name.split("#")[0] for name in ids[79:158]], ids[158]
    assert len(set(ids)) == len(ids)
    assert set(first) == set(second)
    assert first != second
    assert third.endswith("#2")


@pytest.mark.parametrize("shuffled_answers", [False, True])
def test_a_test_size_beyond_all_problems_gives_each_of_them_once(shuffled_answers: bool) -> None:
    ids = [p["id"] for p in problems(digits=1, size=1000, split="test", shuffled_answers=shuffled_answers)]
    assert len(ids) == len(set(ids)) == 21


def test_a_fifth_of_the_problems_is_held_out() -> None:
    assert len(list(problems(digits=2, size=10_000, split="test"))) == pytest.approx(8100 / 5, rel=0.05)


@pytest.mark.parametrize("digits", DIGITS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_shuffled_answer_is_the_worked_answer_of_a_problem_with_another_sum(digits: int, split: Split) -> None:
    true = list(problems(digits=digits, size=300, split=split))
    shuffled = list(problems(digits=digits, size=300, split=split, shuffled_answers=True))
    assert [problem["prompt"] for problem in shuffled] == [problem["prompt"] for problem in true]
    for right, wrong in zip(true, shuffled, strict=True):
        assert score(wrong["response"], right["target"]) == 0.0


def test_the_digits_are_spread_evenly() -> None:
    seen = Counter(digit for problem in problems(size=9000) for digit in str(problem["metadata"]["a"])[1:])
    assert all(count == pytest.approx(1800, rel=0.1) for count in seen.values())
    assert len(seen) == 10


def test_any_size_streams_in_constant_memory() -> None:
    next(problems(size=10**15))
    tracemalloc.start()
    try:
        assert sum(1 for _ in problems(size=10_000)) == 10_000
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_no_problem_comes_when_none_is_asked_for() -> None:
    assert list(problems(size=0)) == []


@pytest.mark.parametrize(
    "arguments", [{"digits": 0}, {"digits": -3}, {"digits": 19}, {"size": -1}, {"split": "validation"}]
)
def test_an_argument_out_of_range_is_refused_at_the_call(arguments: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(arguments))) as caught:
        problems(**arguments)
    assert caught.value.way_out
