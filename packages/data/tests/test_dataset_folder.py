"""Dataset folders hold what was given, hashed and described; nothing is left of one that could not be finished."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneyard.core.documents import read_document
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.references import DatasetSource
from tuneyard.data import blocks
from tuneyard.data.dataset_folder import DatasetFolder, write_dataset
from tuneyard.data.manifest import DataManifest, DatasetEntry
from tuneyard.data.reading import read_rows
from tuneyard.data.records import Record
from tuneyard.data.sources import open_source, read_records


def add(folder: Path, source: Path, processes: int = 1, **asked: Any) -> DatasetEntry:
    with DatasetFolder(folder, processes=processes) as out:
        return out.add("train", open_source(DatasetSource(source=str(source), **asked)))


def rows_of(folder: Path, entry: DatasetEntry) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(folder / entry.file)]


def information(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "dataset_info.json").read_bytes())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_records_of_a_program(weird_path: Path) -> None:
    records = [Record(prompt=f"{n}?", response=str(n), id=str(n), target=str(n), metadata={"n": n}) for n in range(5)]
    folder = weird_path / "new" / "d"
    entry = write_dataset(folder, iter(records), name="numbers", role="eval")
    assert read_document(folder / "manifest.json", DataManifest).datasets == [entry]
    assert (entry.name, entry.role, entry.rows, entry.read, entry.format) == ("numbers", "eval", 5, 5, "alpaca")
    assert entry.sha256 == hashlib.sha256((folder / entry.file).read_bytes()).hexdigest()
    assert entry.bytes == (folder / entry.file).stat().st_size
    assert list(read_records(DatasetSource(source=str(folder), name="numbers", limit=9))) == records


def test_a_file_that_needs_no_change_is_taken_as_it_is(tmp_path: Path, source: Path) -> None:
    source.write_text('{"instruction": "a",  "output": "b"}\n{"instruction": "c", "output": "d"}')
    entry = add(tmp_path / "d", source)
    assert (tmp_path / "d" / entry.file).read_text() == source.read_text() + "\n"
    assert entry.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    source.write_text(source.read_text() + "\n")
    entry = add(tmp_path / "e", source)
    assert entry.sha256 == entry.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    source.write_text("later")
    assert (tmp_path / "e" / entry.file).read_text().startswith('{"instruction"'), "a copy, not another name"


@pytest.mark.parametrize(
    "second",
    [
        '{"output": "d", "instruction": "c"}',
        '{"instruction": "c", "output": "d", "url": "x"}',
        '{"instruction": "c", "output": "lost", "output": "d"}',
        '{"instruction" : "c", "output" : "d"}',
        '\t{"instruction": "c", "output": "d"}\r',
        '\n\n{"instruction": "c", "output": "d"}\n  ',
    ],
)
def test_rows_that_need_a_change_get_the_columns_of_the_others(tmp_path: Path, source: Path, second: str) -> None:
    source.write_text('{"instruction": "a", "output": "b"}\n' + second + "\n")
    entry = add(tmp_path / "d", source)
    assert rows_of(tmp_path / "d", entry) == [
        {"instruction": "a", "output": "b"},
        {"instruction": "c", "output": "d"},
    ]
    assert entry.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()


def test_a_column_that_only_some_rows_have_stands_in_all(tmp_path: Path, source: Path) -> None:
    rich = {"instruction": "c", "input": "d", "output": "e", "system": "f", "history": [["g", "h"]]}
    source.write_text('{"instruction": "a", "output": "b"}\n' + json.dumps(rich) + "\n")
    entry = add(tmp_path / "d", source)
    empty = {"input": "", "system": "", "history": []}
    assert rows_of(tmp_path / "d", entry) == [{"instruction": "a", "output": "b", **empty}, rich]
    assert entry.sha256 == hashlib.sha256((tmp_path / "d" / entry.file).read_bytes()).hexdigest()
    columns = {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "system": "system",
        "history": "history",
    }
    assert information(tmp_path / "d")["train"]["columns"] == columns


texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["2024-01-01", '":', '"output"', "\\"])
alpaca = st.fixed_dictionaries(
    {"instruction": texts, "output": texts},
    optional={
        "input": texts | st.none(),
        "system": texts,
        "history": st.lists(st.lists(texts, min_size=2, max_size=2)),
    },
)


@given(rows=st.lists(alpaca, min_size=1, max_size=30), piece=st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_rows_mean_the_same_however_they_are_cut_into_blocks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], piece: int
) -> None:
    folder = tmp_path_factory.mktemp("blocks")
    source = folder / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "PIECE", piece)
        entry = add(folder / "d", source)
    expected = list(read_records(DatasetSource(source=str(source), limit=100)))
    written = list(read_records(DatasetSource(source=str(folder / "d"), limit=100)))
    assert [(r.turns(), r.system) for r in written] == [(r.turns(), r.system) for r in expected]
    assert entry.rows == len(rows)
    assert len({frozenset(row) for row in rows_of(folder / "d", entry)}) == 1, "every row has the same columns"


def big(path: Path, rows: int) -> None:
    with open(path, "w") as file:
        for number in range(rows):
            extra = ', "url": "x"' if number % 20_000 == 19_999 else ""
            file.write(f'{{"instruction": "{number} {"x" * 300}", "input": "", "output": "y"{extra}}}\n')


def test_several_processes_write_what_one_writes(tmp_path: Path, source: Path) -> None:
    big(source, 100_000)
    assert source.stat().st_size > 1 * blocks.WORTH_A_PROCESS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "WORTH_A_PROCESS", 8 << 20)
        many = add(tmp_path / "many", source, processes=3)
    one = add(tmp_path / "one", source)
    assert many == one
    assert (tmp_path / "many" / many.file).read_bytes() == (tmp_path / "one" / one.file).read_bytes()
    assert many.rows == 100_000


@pytest.mark.parametrize("processes", [1, 3])
def test_a_broken_line_far_inside_is_told_with_its_number_and_nothing_is_left(
    tmp_path: Path, source: Path, processes: int
) -> None:
    big(source, 60_000)
    with open(source, "a") as file:
        file.write('\n{"instruction": "Say 6.", "output": \n{"instruction": 6}\n')
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RequestError) as caught:
        patch.setattr(blocks, "WORTH_A_PROCESS", 8 << 20)
        add(tmp_path / "d", source, processes)
    assert caught.value.where == f"{source}:60002"
    assert '"Say 6."' in caught.value.message
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"instruction": "a"}', "there is no column 'output'"),
        ('{"instruction": "a", "output": null}', "'output' must be text, not null"),
        ('{"instruction": "a", "output": "b", "history": [["c"]]}', "pairs of texts"),
        ('{"instruction": "a", "output": "b", "tools": "no"}', "must be JSON"),
        ('{"instruction": "a", "output": "b", "images": ["no.png"]}', "names a file that is not there"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(tmp_path: Path, source: Path, line: str, says: str) -> None:
    source.write_text('{"instruction": "a", "output": "b"}\n' + line + "\n")
    with pytest.raises(RequestError, match=says) as caught:
        add(tmp_path / "d", source)
    assert caught.value.where == f"{source}:2"
    assert not (tmp_path / "d").exists()


def test_a_named_column_that_no_row_has(tmp_path: Path, source: Path) -> None:
    source.write_text('{"instruction": "a", "output": "b"}\n')
    with pytest.raises(RequestError, match="system is in 'sytem', which no row has"):
        add(tmp_path / "d", source, columns={"system": "sytem"})


def test_what_llamafactory_would_leave_out_is_left_out_and_told(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": None}]
    (own / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (own / "dataset_info.json").write_text('{"d": {"file_name": "d.jsonl"}}')
    entry = add(tmp_path / "d", own)
    assert (entry.rows, entry.left_out, entry.read) == (1, 1, 2)
    (note,) = entry.notes
    assert note.startswith(f"1 of 2 rows left out, as LLaMA-Factory would; the first is {own / 'd.jsonl'}:2: 'output'")
    (own / "d.jsonl").write_text('{"instruction": "c", "output": null}\n')
    with pytest.raises(RequestError, match=r"leave out every row; the first is .*d.jsonl:1: 'output' must be text"):
        add(tmp_path / "e", own)


def test_what_llamafactory_would_leave_out_is_left_out_by_a_filter_or_limit_too(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    good = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    talks = [good[:1], good, good[1:], good, good]
    (own / "d.jsonl").write_text("".join(json.dumps({"conversations": talk}) + "\n" for talk in talks))
    (own / "dataset_info.json").write_text('{"d": {"file_name": "d.jsonl", "formatting": "sharegpt"}}')
    entry = add(tmp_path / "d", own, limit=4)
    assert (entry.rows, entry.left_out, entry.read) == (2, 2, 4)
    assert "d.jsonl:1: the conversation ends with user" in entry.notes[0]
    entry = add(tmp_path / "e", own)
    assert (entry.rows, entry.left_out, entry.read) == (3, 2, 5)


def test_several_datasets_in_one_folder(tmp_path: Path, source: Path) -> None:
    source.write_text('{"instruction": "a", "output": "b"}\n')
    with DatasetFolder(tmp_path / "d") as out:
        for name in ("train", "train-2"):
            out.add(name, open_source(DatasetSource(source=str(source))))
        with pytest.raises(RequestError, match="'train' is there already"):
            out.add("train", open_source(DatasetSource(source=str(source))))
    assert sorted(information(tmp_path / "d")) == ["train", "train-2"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a,b", ".x"])
def test_names_that_no_dataset_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="cannot be the name"):
        write_dataset(tmp_path / "d", [Record(prompt="a", response="b")], name=name)


def test_a_folder_with_something_in_it_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(RequestError, match="nothing is written over it"):
        write_dataset(tmp_path, [Record(prompt="a", response="b")])
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
    with pytest.raises(RequestError, match="nothing is written over it"):
        write_dataset(tmp_path / "kept", [Record(prompt="a", response="b")])


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([], "there is no record"),
        ([Record()], "holds nothing to train on"),
        ([Record(prompt="a", response="b"), Record(text="c")], "no turn"),
        ([Record(prompt="a", chosen="b", rejected="c"), Record(prompt="a", response="b")], "no chosen"),
        ([Record(prompt="a", response="", label=True)], "KTO"),
    ],
)
def test_records_that_cannot_be_written(tmp_path: Path, records: list[Record], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        write_dataset(tmp_path / "d", records)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("kind", ["as it is", "made"])
def test_a_full_disk_is_told_and_nothing_is_left(full_disk: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"instruction": "a", "output": "b"}\n' * 10_000)
    with pytest.raises(SetupError, match="no space left") as caught:
        if kind == "as it is":
            add(full_disk / "d", source)
        else:
            write_dataset(full_disk / "d", (Record(prompt="a", response="b") for _ in range(10_000)))
    assert caught.value.exit_code == 3
    assert list(full_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_rows_are_written_anew(full_disk: Path) -> None:
    def uneven() -> Iterator[Record]:
        for number in range(500):
            yield Record(prompt="a" * 40, response="b", system="s" if number == 499 else None)

    with pytest.raises(SetupError, match="no space left"):
        write_dataset(full_disk / "d", uneven())
    assert list(full_disk.iterdir()) == []


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    import tracemalloc

    def peak(count: int) -> int:
        tracemalloc.start()
        write_dataset(tmp_path / str(count), (Record(prompt=f"{n} " * 20, response="x" * 200) for n in range(count)))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(80_000) < 1.3 * peak(40_000)
