"""Datasets as a spec names them: found, read, filtered, converted; and what is said where that cannot be."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tuneyard.core.errors import RequestError
from tuneyard.core.references import DatasetSource
from tuneyard.data.sources import open_source, read_records

ROWS = [{"instruction": f"Say {n}.", "input": "", "output": str(n)} for n in range(20)]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompts(source: str | Path, **asked: Any) -> list[str | None]:
    return [record.prompt for record in read_records(DatasetSource(source=str(source), **asked))]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.jsonl")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(
        "def even(record):\n    return int(record.response) % 2 == 0\n"
        "def none(record):\n    return False\n"
        "def breaks(record):\n    return record.metadata['nothing']\n"
        "def ask(row):\n    n = int(row['output'])\n"
        "    return {'prompt': f'{n}?', 'response': str(n), 'target': str(n)} if n > 15 else None\n"
        "def wrong(row):\n    return {'promt': 'a'}\n"
        "def number(row):\n    return 3\n"
    )
    return path


def test_a_file(rows: Path) -> None:
    assert prompts(rows) == [row["instruction"] for row in ROWS]


def test_a_path_of_any_name(weird_path: Path) -> None:
    assert len(prompts(write(weird_path / "a file.jsonl"))) == 20
    assert len(prompts(weird_path)) == 20


def test_a_folder_of_files_in_order_with_its_splits(tmp_path: Path) -> None:
    for name, number in {"b-train-2": 2, "a-train-1": 1, "test": 3, ".hidden": 4, "deep/dev": 5}.items():
        write(tmp_path / f"{name}.jsonl", [{"prompt": str(number), "response": ""}])
    (tmp_path / "README.md").write_text("# no data")
    assert prompts(tmp_path) == ["1", "2"]
    assert prompts(tmp_path, split="test") == ["3"]
    assert prompts(tmp_path, split="validation") == ["5"]
    with pytest.raises(RequestError, match="no split 'dve'") as caught:
        prompts(tmp_path, split="dve")
    assert caught.value.way_out == "its splits: test, train, validation"


def test_files_that_tell_of_no_split_are_all_for_training(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", [{"prompt": "1", "response": ""}])
    write(tmp_path / "two.jsonl", [{"prompt": "2", "response": ""}])
    assert prompts(tmp_path) == ["1", "2"]
    with pytest.raises(RequestError, match="no split 'test'"):
        prompts(tmp_path, split="test")


def test_a_part_of_a_numbered_series_does_not_pass_for_the_whole(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00003.jsonl")
    write(tmp_path / "train-00002-of-00003.jsonl")
    with pytest.raises(RequestError, match="1 of 3 files train-… are missing, the first of them number 00001"):
        prompts(tmp_path)


def test_splits_of_hub_names_are_taken_whole(tmp_path: Path) -> None:
    write(tmp_path / "train_sft-00000-of-00001.jsonl", [{"prompt": "sft", "response": ""}])
    write(tmp_path / "train_gen-00000-of-00001.jsonl", [{"prompt": "gen", "response": ""}])
    assert prompts(tmp_path, split="train_sft") == ["sft"]


def test_a_described_dataset_is_read_as_it_is_described(tmp_path: Path) -> None:
    entry = {
        "file_name": "d.json",
        "columns": {"prompt": "q", "response": "a", "system": "s"},
        "num_samples": 5,
        "split": "train[:50%]",
    }
    (tmp_path / "d.json").write_text(json.dumps([{"q": "1", "a": "2", "s": "3"}]))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"d": entry, "e": {"file_name": "e.json"}}))
    source = open_source(DatasetSource(source=str(tmp_path), name="d"))
    assert source.projection is not None
    assert source.projection.settings == {"num_samples": 5, "split": "train[:50%]"}
    limited = open_source(DatasetSource(source=str(tmp_path), name="d", limit=1))
    (record,) = limited.records()
    assert (record.prompt, record.response, record.system) == ("1", "2", "3")
    assert limited.settings == source.projection.settings


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("idnetity", ["unknown dataset 'idnetity'", "did you mean 'identity'"]),
        (None, ["2 datasets are described here", "alpaca, identity"]),
        ("alpaca", ["the file of dataset 'alpaca' is missing", "alpaca.json"]),
    ],
)
def test_entries_that_are_not_there(tmp_path: Path, name: str | None, words: list[str]) -> None:
    entries = {"identity": {"file_name": "identity.json"}, "alpaca": {"file_name": "alpaca.json"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(entries))
    with pytest.raises(RequestError) as caught:
        open_source(DatasetSource(source=str(tmp_path), name=name))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"script_url": "x"}, ["script_url", "file_name"]),
        ({"file_name": "d.jsonl", "formatting": "sharegtp"}, ["unknown formatting 'sharegtp'"]),
        ({"file_name": "d.jsonl", "columns": {"promt": "a"}}, ["'promt'", "did you mean 'prompt'"]),
        ({"file_name": "d.jsonl", "formatting": "sharegpt", "columns": {"tools": "a"}}, ["no messages"]),
        ({"file_name": "d.jsonl", "formatting": "sharegpt", "tags": {"role_tag": "a"}}, ["content_tag"]),
    ],
)
def test_entries_that_cannot_be_read(tmp_path: Path, entry: dict[str, Any], words: list[str]) -> None:
    write(tmp_path / "d.jsonl")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"d": entry}))
    with pytest.raises(RequestError) as caught:
        open_source(DatasetSource(source=str(tmp_path)))
    for word in words:
        assert word in str(caught.value)


def test_the_dataset_info_that_datasets_writes_is_no_description(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": {"a": {"dtype": "string"}}, "splits": {}}))
    assert len(prompts(tmp_path)) == 20


def test_what_a_run_made(tmp_path: Path) -> None:
    run = tmp_path / "eval-x-261120-1830-abc"
    sample = {"task": "t", "id": "0", "prompt": "q", "response": "a", "target": "a", "scores": {"none": {"acc": 1.0}}}
    write(run / "artifacts" / "samples.jsonl", [sample])
    (run / "spec.json").write_text("{}")
    for asked in (DatasetSource(source=f"run:{run.name}", path=str(run)), DatasetSource(source="run:eval-x")):
        (record,) = read_records(asked, runs=tmp_path)
        assert (record.prompt, record.response, record.target) == ("q", "a", "a")
        assert record.metadata["scores"] == {"none": {"acc": 1.0}}
    (run / "artifacts" / "samples.jsonl").unlink()
    with pytest.raises(RequestError, match="left no samples"):
        open_source(DatasetSource(source=f"run:{run.name}", path=str(run)))


def test_a_limit_keeps_the_first_records(rows: Path) -> None:
    assert prompts(rows, limit=3) == ["Say 0.", "Say 1.", "Say 2."]


def test_a_filter_keeps_records_and_the_limit_counts_those(rows: Path, code: Path) -> None:
    assert prompts(rows, filter=f"{code}:even", limit=3) == ["Say 0.", "Say 2.", "Say 4."]


def test_a_converter_makes_records_of_raw_rows_or_drops_them(rows: Path, code: Path) -> None:
    records = list(read_records(DatasetSource(source=str(rows), converter=f"{code}:ask")))
    assert [record.target for record in records] == ["16", "17", "18", "19"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"filter": "none"}, ["no record is left", "20 were read", "own.py:none dropped 20"]),
        ({"filter": "none", "converter": "ask"}, ["own.py:ask dropped 16", "own.py:none dropped 4"]),
        ({"filter": "breaks"}, ["rows.jsonl:1", "own.py:breaks raised KeyError: 'nothing'", "Say 0."]),
        ({"converter": "wrong"}, ["rows.jsonl:1", "'promt'", "did you mean 'prompt'"]),
        ({"converter": "number"}, ["rows.jsonl:1", "must return a dict, a Record or None, not 3"]),
        ({"filter": "nothing"}, ["function 'nothing' not found", "even"]),
    ],
)
def test_a_persons_code_that_keeps_nothing_or_fails(
    rows: Path, code: Path, asked: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(RequestError) as caught:
        prompts(rows, **{key: f"{code}:{name}" for key, name in asked.items()})
    for word in words:
        assert word in str(caught.value)


def test_a_reference_that_names_no_function(rows: Path) -> None:
    with pytest.raises(RequestError, match=r"path/file\.py:function"):
        prompts(rows, filter="own.py")


@pytest.mark.parametrize("content", ["", "\n\n", "[]", "a,b\n"])
def test_an_empty_dataset(tmp_path: Path, content: str) -> None:
    suffix = {"[]": "json", "a,b\n": "csv"}.get(content, "jsonl")
    (tmp_path / f"rows.{suffix}").write_text(content)
    with pytest.raises(RequestError, match="empty") as caught:
        prompts(tmp_path / f"rows.{suffix}")
    assert str(tmp_path) in str(caught.value.where)


def test_a_row_that_cannot_be_used_is_told_with_its_line(rows: Path) -> None:
    rows.write_text(rows.read_text() + '{"instruction": "Say 20.", "output": null}\n')
    with pytest.raises(RequestError) as caught:
        prompts(rows, limit=100)
    assert caught.value.where == f"{rows}:21"
    assert "must be text, not null" in caught.value.message
    assert '"Say 20."' in caught.value.message


def test_another_sha256_than_expected(rows: Path) -> None:
    right = hashlib.sha256(rows.read_bytes()).hexdigest()
    assert len(prompts(rows, sha256=right.upper())) == 20
    with pytest.raises(RequestError, match=f"its sha256 is {right}, not 0000"):
        prompts(rows, sha256="0" * 64)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"source": "/nowhere/rows.jsonl"}, ["no such file or folder"]),
        ({"source": "builtin:arithmetik"}, ["'arithmetik'", "did you mean 'arithmetic'"]),
        ({"source": "builtin:arithmetic", "digit": 3}, ["unknown argument 'digit'", "did you mean 'digits'"]),
        ({"source": "builtin:arithmetic", "digits": "3"}, ["digits must be of type int, not '3'"]),
        ({"source": "builtin:arithmetic", "digits": True}, ["digits must be of type int"]),
        ({"source": "builtin:arithmetic", "digits": 99}, ["digits is 99", "1 to 18"]),
        ({"source": "builtin:arithmetic", "split": "tset"}, ["did you mean 'test'"]),
        ({"source": "builtin:arithmetic", "columns": {"prompt": "a"}}, ["`columns` has no meaning"]),
        ({"source": "builtin:gsm8k", "path": "/nowhere"}, ["no such folder", "TUNEYARD_GSM8K"]),
        ({"source": "run:x"}, ["the folder of runs is not known"]),
    ],
)
def test_references_that_name_nothing(asked: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        list(open_source(DatasetSource.model_validate(asked)).records())
    for word in words:
        assert word in str(caught.value)


def test_a_name_or_split_that_a_single_file_does_not_have(rows: Path) -> None:
    with pytest.raises(RequestError, match="`name` names an entry"):
        prompts(rows, name="x")
    with pytest.raises(RequestError, match="no split 'test' in a single file"):
        prompts(rows, split="test")


def test_arithmetic_by_its_arguments() -> None:
    source = DatasetSource.model_validate({"source": "builtin:arithmetic", "digits": 2, "size": 7, "seed": 3})
    records = list(read_records(source))
    assert len(records) == 7
    assert all(record.metadata["digits"] == 2 for record in records)
    assert records != list(read_records(source.model_copy(update={"arguments": {**source.arguments, "seed": 4}})))
    test = source.model_copy(update={"split": "test"})
    assert all(record.metadata["split"] == "test" for record in read_records(test))
