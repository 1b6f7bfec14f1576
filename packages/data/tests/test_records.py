"""Records are light, and a problem stays on its side of the split."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import RequestError
from tuneyard.data.records import Record, problem_of, record_from, split_of


def test_a_record_cannot_be_changed_and_has_no_dictionary_of_its_own() -> None:
    record = Record(prompt="a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.prompt = "b"  # type: ignore[misc]
    assert not hasattr(record, "__dict__")


@given(st.text(), st.text(), st.text(), st.integers(2, 20))
def test_the_split_depends_on_the_problem_alone(prompt: str, answer: str, other: str, held_out: int) -> None:
    alone = Record(prompt=prompt, response=answer, id="1", metadata={"a": 1})
    talk = Record(
        messages=({"role": "user", "content": prompt}, {"role": "assistant", "content": other}), system="x"
    )  # fmt: skip
    assert split_of(alone, held_out) == split_of(talk, held_out)
    assert split_of(Record(prompt=f" {prompt}\n"), held_out) == split_of(alone, held_out)


def test_about_one_problem_in_ten_is_held_out() -> None:
    held = sum(split_of(Record(prompt=f"What is {n}?")) == "test" for n in range(10_000))
    assert 850 < held < 1150


def test_a_text_is_its_own_problem() -> None:
    assert problem_of(Record(text="a  b\n")) == "a b"


def test_fields_of_a_persons_code_become_a_record() -> None:
    fields = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "system": None}
    assert record_from(fields).turns() == fields["messages"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"promt": "a"}, ["'promt'", "did you mean 'prompt'"]),
        ({"prompt": 3}, ["prompt must be str, not int"]),
        ({"label": "yes"}, ["label must be bool"]),
        ({"messages": ["a"]}, ["a message needs role and content"]),
        ({"messages": [{"role": "human", "content": "a"}]}, ["'human'", "assistant, system, tool, user"]),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, object], words: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        record_from(fields)
    for word in words:
        assert word in str(caught.value)
