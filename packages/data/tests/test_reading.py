"""Rows come out of every kind of file as they went in; a broken line is told with its number and text."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneyard.core.errors import RequestError
from tuneyard.data import reading
from tuneyard.data.json_text import JsonText
from tuneyard.data.reading import read_rows

texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
rows_of_any_kind = st.lists(st.dictionaries(texts, values, max_size=4), max_size=6)


def read(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(path)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@given(rows=rows_of_any_kind, ascii=st.booleans(), ending=st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_jsonl(folder: Path, rows: list[dict[str, Any]], ascii: bool, ending: str) -> None:
    path = folder / "rows.jsonl"
    path.write_bytes("".join(json.dumps(row, ensure_ascii=ascii) + ending for row in rows).encode())
    assert read(path) == rows


@given(
    rows=rows_of_any_kind, indent=st.sampled_from([None, 0, 2]), size=st.integers(1, 40), ascii=st.booleans(),
)  # fmt: skip
def test_json_lists_however_little_is_read_at_once(
    folder: Path, rows: list[dict[str, Any]], indent: int | None, size: int, ascii: bool
) -> None:
    path = folder / "rows.json"
    for whole in (rows, {"version": 1.25, "data": rows, "about": {"data": [1]}}):
        path.write_text(json.dumps(whole, indent=indent, ensure_ascii=ascii), encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "READ_BYTES", size)
            assert read(path) == rows


@given(rows=rows_of_any_kind.filter(len), size=st.integers(1, 40))
def test_a_json_file_may_hold_an_object_a_line(folder: Path, rows: list[dict[str, Any]], size: int) -> None:
    rows = [{key: value for key, value in row.items() if key != "data"} for row in rows]
    path = folder / "rows.json"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "READ_BYTES", size)
        assert read(path) == rows


@given(st.integers(-(10**40), 10**40) | st.floats(allow_nan=False), st.integers(1, 10))
def test_a_number_is_not_cut_where_reading_pauses(folder: Path, number: float, size: int) -> None:
    (folder / "number.json").write_text(json.dumps(number))
    with open(folder / "number.json") as file:
        assert JsonText(file, size).value() == number


@given(rows=st.lists(st.lists(texts.filter(lambda t: "\0" not in t), min_size=2, max_size=2), max_size=6))
@settings(max_examples=50)
def test_csv(folder: Path, rows: list[list[str]]) -> None:
    path = folder / "rows.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["a", "b, c"], *rows])
    assert read(path) == [{"a": a, "b, c": b} for a, b in rows]


@given(rows=st.lists(st.fixed_dictionaries({"a": texts, "b": st.lists(texts)}), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_parquet_and_arrow(folder: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows)
    pq.write_table(table, folder / "rows.parquet")
    with pa.OSFile(str(folder / "stream.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    with pa.OSFile(str(folder / "file.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    for name in ("rows.parquet", "stream.arrow", "file.arrow"):
        assert read(folder / name) == rows


def test_tsv_text_and_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\ty\n1\t2,3\n")
    assert read(tmp_path / "a.tsv") == [{"x": "1", "y": "2,3"}]
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    assert list(read_rows(tmp_path / "a.txt")) == [(1, {"text": "one"}), (3, {"text": "two"})]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert read(tmp_path / "a.jsonl.gz") == [{"a": 1}]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    for name, text in {"a.jsonl": '{"a": "1"}', "a.json": '[{"a": "1"}]', "a.csv": "a\n1\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert read(tmp_path / name) == [{"a": "1"}]


@pytest.mark.parametrize(
    ("name", "content", "line", "says"),
    [
        ("a.jsonl", b'{"a": 1}\n\n{"a": \n', 3, '{"a":'),
        ("a.jsonl", b'{"a": 1}\n[1, 2]\n', 2, "[1, 2]"),
        ("a.jsonl", b'{"a": "\xff"}\n', 1, '{"a": "\\xff"}'),
        ("a.jsonl", b'{"a": "\\ud800"}\n', 1, "ud800"),
        ("a.json", b'[\n{"a": 1},\n{"a": oops}\n]', 3, '{"a": oops}'),
        ("a.json", b'[{"a": 1},\n {"a": 2}', 2, '{"a": 2}'),
        ("a.json", b'[{"a": 1}]\nmore', 2, "more"),
        ("a.json", b'[{"a": 1},\n"text"]', 2, '"text"'),
        ("a.json", b'{"a": 1}\n{"a": 2,,}\n', 2, '{"a": 2,,}'),
        ("a.json", b'"text"', 1, "not a JSON object"),
        ("a.csv", b'a,b\n1,2\n"3\n4",5,6\n', 3, "3 cells, where the header has 2"),
        ("a.csv", b'a,b\n1,2\n"3"x,4\n', 3, "not valid CSV"),
        ("a.csv", b"a,a\n", 1, "two columns have the name 'a'"),
    ],
)
def test_a_broken_line_is_told_with_its_number_and_text(
    tmp_path: Path, name: str, content: bytes, line: int, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError) as caught:
        read(tmp_path / name)
    assert caught.value.where == f"{tmp_path / name}:{line}"
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.parquet", b"PAR1", "not valid Parquet"),
        ("a.arrow", b"ARROW1", "not valid Arrow"),
        ("a.jsonl.gz", b"\x1f\x8b\x08", "not compressed by gzip"),
        ("a.csv", b"a\n\xff\n", "not UTF-8"),
        ("a.pdf", b"", "not read: .pdf"),
        ("a", b"", "no suffix"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=says) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value.where)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        read(tmp_path / "a.jsonl")


def test_a_long_line_is_shown_cut_off_and_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{" + "\t\x1b" + "x" * 10_000 + "\n")
    with pytest.raises(RequestError) as caught:
        read(tmp_path / "a.jsonl")
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()
