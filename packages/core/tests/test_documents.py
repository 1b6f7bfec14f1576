"""Documents are read strictly, and every refusal names the place and the way out."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.documents import Document, parse_yaml, read_document, validate
from tuneyard.core.errors import RequestError


class Inner(Document):
    rank: int = 1


class Outer(Document):
    schema_version: int = 1
    name: str
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-4", 3e-4), ("1e5", 1e5), ("-2.5E+3", -2500.0), ("5", 5), ("1.", 1.0), (".5", 0.5), (".inf", math.inf)],
)
def test_a_number_is_a_number_whatever_its_spelling(text: str, value: float) -> None:
    assert parse_yaml(f"key: {text}", "x.yaml") == {"key": value}
    assert type(parse_yaml(text, "x.yaml")) is type(value)


@pytest.mark.parametrize("text", ["1.2.3", "e5", "3e", "v1", "-x", "0x1g"])
def test_what_only_looks_like_a_number_stays_text(text: str) -> None:
    assert parse_yaml(f"key: '{text}'", "x.yaml") == parse_yaml(f"key: {text}", "x.yaml") == {"key": text}


@given(st.floats(allow_nan=False))
def test_every_float_that_python_prints_is_read_back(number: float) -> None:
    assert parse_yaml(repr(number).replace("inf", ".inf"), "x.yaml") == number


# PyYAML writes NEL and its kin as what it cannot read, so control characters are left out; it writes "1e5" unquoted,
# since to PyYAML it is no number, so no text begins like one.
texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20).filter(
    lambda text: not text[:1].isdigit() and text[:1] not in ("+", "-", ".")
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda v: st.lists(v, max_size=4) | st.dictionaries(texts, v, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_what_yaml_writes_is_read_back(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True), "x.yaml") == value


def test_a_duplicate_key_is_refused_with_its_line() -> None:
    with pytest.raises(RequestError, match="duplicate key 'lr'") as caught:
        parse_yaml("a: 1\nb:\n  lr: 1\n  lr: 2\n", "spec.yaml")
    assert caught.value.where == "spec.yaml:4"


def test_a_merge_key_is_no_duplicate() -> None:
    assert parse_yaml("base: &b {a: 1}\nx:\n  <<: *b\n  c: 2\n", "x.yaml")["x"] == {"a": 1, "c": 2}


def test_a_tab_is_named_as_such() -> None:
    with pytest.raises(RequestError, match="a tab is used for indentation") as caught:
        parse_yaml("a:\n\tb: 1\n", "spec.yaml")
    assert caught.value.where == "spec.yaml:2"


def test_a_missing_file_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("name: x")
    with pytest.raises(RequestError) as caught:
        read_document(tmp_path / "trian.yaml", Outer)
    assert str(tmp_path / "train.yaml") in (caught.value.way_out or "")
    assert caught.value.exit_code == 2


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(RequestError, match="unknown key 'nmae'") as caught:
        validate(Outer, {"nmae": "x"}, "spec.yaml")
    assert caught.value.way_out == "did you mean 'name'?"


def test_an_unknown_key_further_down_is_compared_with_the_keys_there() -> None:
    with pytest.raises(RequestError, match=r"unknown key 'inner\.rnak'") as caught:
        validate(Outer, {"name": "x", "inner": {"rnak": 2}}, "spec.yaml")
    assert caught.value.way_out == "did you mean 'rank'?"


def test_a_newer_document_is_refused_before_its_keys_are_looked_at() -> None:
    with pytest.raises(RequestError, match="schema_version 99") as caught:
        validate(Outer, {"schema_version": 99, "from_the_future": 1}, "spec.yaml")
    assert "update tuneyard" in (caught.value.way_out or "")


def test_a_wrong_type_is_told_with_the_value_that_was_given() -> None:
    with pytest.raises(RequestError, match=r"inner\.rank: .*got 'eight'"):
        validate(Outer, {"name": "x", "inner": {"rank": "eight"}}, "spec.yaml")


def test_text_that_is_not_utf_8_is_refused_with_the_byte(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"name: \xff")
    with pytest.raises(RequestError, match=r"not UTF-8 text \(byte 6\)"):
        read_document(tmp_path / "x.yaml", Outer)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes("name: ü".encode("utf-8-sig"))
    assert read_document(tmp_path / "x.yaml", Outer).name == "ü"
