"""Rows of lm-eval become rows of samples.jsonl: one per document, plain JSON, nothing lost."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.evaluation import Sample
from tuneyard.eval import samples

NUMBERS = st.one_of(
    st.integers(-1000, 1000),
    st.booleans(),
    st.floats(allow_nan=False),
    st.integers(-1000, 1000).map(np.int64),
    st.floats(width=32, allow_nan=False).map(np.float32),
    st.booleans().map(np.bool_),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.text(), NUMBERS, st.lists(NUMBERS).map(np.array)),
    lambda inner: st.one_of(st.lists(inner), st.tuples(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


def logged(document: int, filter_name: str, response: Any, score: Any, **more: Any) -> dict[str, Any]:
    return {
        "doc_id": document,
        "doc": {"question": "?"},
        "target": "42",
        "arguments": [("prompt", {"until": []})],
        "resps": [[response]],
        "filtered_resps": [response],
        "filter": filter_name,
        "metrics": ["exact_match"],
        "doc_hash": f"{document:x}",
        "exact_match": score,
        **more,
    }


@given(VALUES)
def test_whatever_a_library_holds_becomes_json(value: Any) -> None:
    json.dumps(samples.plain(value))


@given(NUMBERS)
def test_numbers_keep_their_value(value: Any) -> None:
    assert samples.as_number(value) == float(value)


@given(st.dictionaries(st.integers(0, 50), st.text(), min_size=1), st.sets(st.text(min_size=1), min_size=1, max_size=3))
def test_filters_of_a_document_are_put_into_one_row(responses: dict[int, str], filters: set[str]) -> None:
    rows = [logged(n, name, text, np.float64(n % 2)) for name in filters for n, text in responses.items()]
    found = list(samples.rows("quiz", rows))
    assert [int(row.id) for row in found] == sorted(responses)
    for row in found:
        number = int(row.id)
        assert row.response == responses[number] and row.prompt == "prompt"
        assert row.answers == dict.fromkeys(filters, responses[number])
        assert row.scores == {name: {"exact_match": float(number % 2)} for name in filters}


def test_log_likelihoods_stand_in_the_response_as_json() -> None:
    row = logged(0, "none", None, np.float64(1.0))
    row |= {"arguments": [("Q", " yes"), ("Q", " no")], "resps": [[(np.float32(-1.5), True)], [(-2.0, np.False_)]]}
    (found,) = samples.rows("choice", [{**row, "filtered_resps": [(-1.5, True), (-2.0, False)]}])
    assert json.loads(found.response) == [
        {"continuation": " yes", "log_likelihood": -1.5, "greedy": True},
        {"continuation": " no", "log_likelihood": -2.0, "greedy": False},
    ]


def test_several_responses_to_one_prompt_stand_in_one_row() -> None:
    row = logged(0, "none", "a", 1.0) | {"resps": [["a", "b"]], "filtered_resps": ["a"]}
    (found,) = samples.rows("quiz", [row])
    assert json.loads(found.response) == ["a", "b"] and found.answers == {"none": "a"}


def test_what_is_no_number_is_no_score() -> None:
    row = logged(0, "none", "a", (3.0, 4)) | {"metrics": ["exact_match", "acc"], "acc": np.float64(0.5)}
    (found,) = samples.rows("quiz", [row])
    assert found.scores == {"none": {"acc": 0.5}}


def test_a_score_that_json_cannot_say_is_left_out() -> None:
    (row,) = samples.rows("quiz", [logged(0, "none", "a", np.float64("nan"))])
    assert row.scores == {"none": {}}
    value = samples.as_number(np.float64("inf"))
    assert value is not None and math.isinf(value)


@given(st.lists(st.text(max_size=5), max_size=5), st.lists(st.text(max_size=5), max_size=5))
def test_only_the_same_parts_in_the_same_order_have_the_same_hash(a: list[str], b: list[str]) -> None:
    assert (samples.sha256_over(a) == samples.sha256_over(b)) == (a == b)


def test_rows_are_read_again_as_they_were_written(tmp_path: Path) -> None:
    rows = list(samples.rows("quiz", [logged(n, "none", f"line\n{n} ≠ \x00", 1.0) for n in range(3)]))
    seen = samples.write(tmp_path / "samples.jsonl", rows)
    again = [Sample.model_validate_json(line) for line in (tmp_path / "samples.jsonl").read_bytes().splitlines()]
    assert again == rows and seen == {"quiz": [(f"{n:x}", "prompt") for n in range(3)]}
