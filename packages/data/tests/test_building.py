"""Datasets are built from whatever there is, each row once, and what cannot be used is told before anything is made."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneyard import data
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.data import Dataset, Record, pieces
from tuneyard.data.building import Wishes, build
from tuneyard.data.manifest import DatasetEntry
from tuneyard.data.origins import open_input
from tuneyard.data.records import split_of
from tuneyard.data.splitting import split
from tuneyard.data.surveying import sample, survey

ROWS = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(20)]


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def built(source: Path | str, folder: Path, **options: Any) -> DatasetEntry:
    names = ("dedupe", "drop", "tokenizer", "max_tokens", "against")
    wishes = Wishes(**{name: options.pop(name) for name in names if name in options})
    columns, format = options.pop("columns", None), options.get("format")
    return build([open_input(str(source), columns=columns, format=format)], folder, wishes=wishes, **options)


def rows_of(folder: Path, name: str = "train") -> list[dict[str, Any]]:
    file = json.loads((folder / "dataset_info.json").read_text())[name]["file_name"]
    return [json.loads(line) for line in (folder / file).read_text().splitlines()]


def test_what_the_package_offers() -> None:
    assert data.__all__ == ["Dataset", "Record", "read_records"]
    assert all(getattr(data, name) for name in data.__all__)
    with pytest.raises(AttributeError):
        _ = data.Datset  # type: ignore[attr-defined]


def test_a_program_writes_appends_and_replaces(weird_path: Path) -> None:
    sums = Dataset(weird_path / "sums")
    entry = sums.write(dict(row) for row in ROWS)
    assert (entry.rows, entry.format, len(sums)) == (20, "alpaca", 20)
    assert [record.response for record in sums] == [row["answer"] for row in ROWS]
    with pytest.raises(RequestError, match="nothing is written over it"):
        sums.write(ROWS)
    more = sums.append([ROWS[3], Record(prompt="2 + 2?", response="4")])
    assert (more.rows, more.duplicates, [part.rows for part in more.parts]) == (21, 1, [20, 1])
    assert [record.prompt for record in sums][-1] == "2 + 2?"
    assert sums.replace(ROWS[:2]).rows == 2
    files = {path.name for path in sums.folder.iterdir()}
    assert files == {"dataset_info.json", "manifest.json", sums.entry.file}, "what nothing names any more is gone"
    assert hashlib.sha256((sums.folder / sums.entry.file).read_bytes()).hexdigest() == sums.entry.sha256


def test_to_append_to_what_is_not_there_makes_it(tmp_path: Path) -> None:
    loop = Dataset(tmp_path / "d")
    for row in ROWS[:3]:
        loop.append([row])
    assert len(loop) == 3


def test_a_folder_keeps_its_other_datasets_and_the_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    own = lines(tmp_path / "d" / "own.json", [{"instruction": "a", "output": "b"}])
    before = own.read_bytes()
    (tmp_path / "d" / "dataset_info.json").write_text(json.dumps({"own": {"file_name": "own.json"}}))
    Dataset(tmp_path / "d", "sums").append(ROWS)
    information = json.loads((tmp_path / "d" / "dataset_info.json").read_text())
    assert information["own"] == {"file_name": "own.json"}
    assert information["sums"]["columns"] == {"prompt": "instruction", "query": "input", "response": "output"}
    Dataset(tmp_path / "d", "own").append(ROWS)
    assert len(Dataset(tmp_path / "d", "own")) == 21
    assert own.read_bytes() == before, "a file that tuneyard did not write stays"


def test_a_folder_that_is_no_dataset_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.txt").write_text("x")
    for mode in ("new", "append", "replace"):
        with pytest.raises(RequestError, match=r"is there already|no dataset folder"):
            Dataset(tmp_path / "d").write(ROWS, mode=mode)
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("rows", "format"),
    [
        ([{"instruction": "a", "input": "b", "output": "c", "system": "s"}], "alpaca"),
        ([{"Frage": "a", "Antwort": "b"}], "alpaca"),
        ([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}], "sharegpt"),
        ([{"prompt": "a", "chosen": "b", "rejected": "c"}], "preference"),
        ([{"prompt": "a", "response": "b", "label": True}, {"prompt": "a", "response": "c", "label": False}], "kto"),
        ([{"text": "a"}], "text"),
    ],
)
def test_every_format_from_a_program_and_from_a_file_is_the_same(
    tmp_path: Path, rows: list[dict[str, Any]], format: str
) -> None:
    columns = {"prompt": "Frage", "response": "Antwort"} if "Frage" in rows[0] else None
    entry = Dataset(tmp_path / "a").write(rows, columns=columns)
    assert entry.format == format
    built(lines(tmp_path / "rows.jsonl", rows), tmp_path / "b", columns=columns)
    assert list(Dataset(tmp_path / "a")) == list(Dataset(tmp_path / "b"))


def test_conversations_and_prompts_become_each_other(tmp_path: Path) -> None:
    source = lines(tmp_path / "rows.jsonl", ROWS)
    assert built(source, tmp_path / "talks", format="sharegpt").format == "sharegpt"
    assert rows_of(tmp_path / "talks")[0]["conversations"][1] == {"from": "gpt", "value": "1"}
    assert built(tmp_path / "talks", tmp_path / "back", format="alpaca").rows == 20
    assert [row["output"] for row in rows_of(tmp_path / "back")] == [row["answer"] for row in ROWS]
    with pytest.raises(RequestError, match="needs a column for chosen"):
        built(source, tmp_path / "pairs", format="preference")
    with pytest.raises(RequestError, match="is sharegpt, and alpaca rows cannot be added"):
        built(source, tmp_path / "talks", format="alpaca", mode="append")


def test_doubles_go_exact_and_normalised(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Say caf\u00e9  now", "output": "x"},
        {"instruction": "say cafe\u0301 NOW\n", "output": "X"},
        {"output": "x", "instruction": "Say caf\u00e9  now"},
        {"instruction": "Say caf\u00e9  now", "output": "y"},
    ]
    source = lines(tmp_path / "rows.jsonl", rows)
    for dedupe, left in (("no", 4), ("exact", 3), ("normalised", 2)):
        entry = built(source, tmp_path / dedupe, dedupe=dedupe)
        assert (entry.rows, entry.duplicates, entry.dedupe) == (left, 4 - left, dedupe)


def test_a_label_a_rejected_answer_and_a_system_prompt_tell_rows_apart(tmp_path: Path) -> None:
    labelled = [{"prompt": "a", "response": "b", "label": label} for label in (True, False, True)]
    assert Dataset(tmp_path / "kto").write(labelled).rows == 2
    pairs = [{"prompt": "a", "chosen": "b", "rejected": text} for text in ("c", "d", "c")]
    assert Dataset(tmp_path / "pairs").write(pairs).rows == 2
    spoken = [{"prompt": "a", "response": "b", "system": text} for text in ("c", "d", "c")]
    assert Dataset(tmp_path / "systems").write(spoken).rows == 2


def test_every_broken_row_is_told_and_nothing_is_made(tmp_path: Path) -> None:
    rows: list[Any] = [{"instruction": f"q{n}", "output": "a"} for n in range(3000)]
    rows[17], rows[1234], rows[2999] = "{cut", {"instruction": "x", "output": "  "}, {"instruction": "x"}
    source = lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(RequestError) as told:
        built(source, tmp_path / "d")
    assert told.value.message.startswith("3 of 3,000 rows cannot be used:")
    for line, reason in ((18, "not valid JSON"), (1235, "response is empty"), (3000, "there is no column 'output'")):
        assert f"{source}:{line}: {reason}" in told.value.message
    assert "--drop broken" in str(told.value)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]
    entry = built(source, tmp_path / "d", drop=frozenset({"broken"}))
    assert (entry.rows, entry.read, entry.dropped) == (2997, 3000, {"broken": 3})
    assert f"{source}:18" in entry.notes[0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "", "response": "a"}, "prompt is empty"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "nothing can be learned"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]},
            "turn 2 .assistant. is",
        ),
        ({"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}, "the user or a tool"),
        ({"messages": [{"role": "user", "content": "a"}]}, "where an answer must stand"),
        ({"prompt": "a", "response": "\ud800"}, "half of a surrogate pair"),
        ({"prompt": "a", "response": "b", "images": ["/not/there.png"]}, "there is no image"),
        ({"prompt": "a", "response": "b", "images": [b"no image"]}, "is no image"),
        ({"text": " "}, "text is empty"),
        ("a text", "must be a Record or a mapping"),
    ],
)
def test_what_no_model_can_learn_from(tmp_path: Path, row: Any, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        Dataset(tmp_path / "d").write([row])
    assert not (tmp_path / "d").exists()


def png(width: int = 1) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * (width + 1))) + chunk(b"IEND", b"")


def test_images_are_looked_at_and_stay_where_the_folder_goes(tmp_path: Path) -> None:
    (tmp_path / "whole.png").write_bytes(png())
    (tmp_path / "cut.png").write_bytes(png()[:-5])
    row = {"prompt": "a", "response": "b"}
    with pytest.raises(RequestError, match=r"cut\.png cannot be used: it is cut off"):
        Dataset(tmp_path / "d").write([{**row, "images": [str(tmp_path / "cut.png")]}])
    Dataset(tmp_path / "d").write([{**row, "images": [png(2)]}, {**row, "images": [str(tmp_path / "whole.png")]}])
    Dataset(tmp_path / "d").append([{"prompt": "c", "response": "d", "images": [png(3)]}])
    (tmp_path / "d").rename(tmp_path / "e")
    first, second, third = Dataset(tmp_path / "e")
    assert Path(str(third.images[0])).read_bytes() == png(3)
    assert Path(str(first.images[0])).read_bytes() == png(2)
    assert second.images == (str(tmp_path / "whole.png"),)


def test_a_generator_in_a_file(tmp_path: Path) -> None:
    code = tmp_path / "make.py"
    code.write_text("def rows(size=2):\n    for n in range(size):\n        yield {'question': str(n), 'answer': 'a'}\n")
    entry = built(f"{code}:rows", tmp_path / "d")
    assert (entry.rows, entry.source) == (2, {"source": f"{code}:rows"})
    assert entry.source_sha256 == hashlib.sha256(code.read_bytes()).hexdigest()
    more = build([open_input(f"{code}:rows", {"size": 5})], tmp_path / "e")
    assert (more.rows, more.source["arguments"]) == (5, {"size": 5})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "yield {'text': 'a'}\n    raise OSError('gone')",
            r"raised OSError: gone \(make.py, line 3\), after 1 records",
        ),
        ("return 'text'", "must yield records or return a list of them"),
        ("return 3", "must yield records"),
        ("return []", "there is no record"),
        ("return [{'text': 'a'}, {'txt': 'b'}]", "there is no column 'text'"),
        ("yield {'a': 'b'}", "no format fits the columns a"),
        ("yield 5", "must be a Record or a mapping"),
    ],
)
def test_a_generator_that_goes_wrong_leaves_nothing(tmp_path: Path, body: str, reason: str) -> None:
    code = tmp_path / "make.py"
    code.write_text(f"def rows():\n    {body}\n")
    with pytest.raises(RequestError, match=reason):
        built(f"{code}:rows", tmp_path / "d")
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".py" and p.name != "__pycache__"] == []
    with pytest.raises(RequestError, match="it has: rows"):
        built(f"{code}:rws", tmp_path / "d")


def test_an_empty_source_and_a_wrong_column(tmp_path: Path) -> None:
    for content in ("", "\n\n"):
        (tmp_path / "empty.jsonl").write_text(content)
        with pytest.raises(RequestError, match=r"empty|no record"):
            built(tmp_path / "empty.jsonl", tmp_path / "d")
    source = lines(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(RequestError, match="did you mean 'question'"):
        built(source, tmp_path / "d", columns={"prompt": "qestion"})
    with pytest.raises(RequestError, match="did you mean"):
        built(tmp_path / "rows.jsonl", tmp_path / "d", columns={"promt": "question"})
    assert not (tmp_path / "d").exists()


def test_a_full_disk_leaves_what_was_there(full_disk: Path) -> None:
    sums = Dataset(full_disk / "d")
    sums.write(ROWS)
    before = {path.name: path.read_bytes() for path in sums.folder.iterdir()}
    with pytest.raises(SetupError, match="no space"):
        sums.append({"question": f"{n} " + "x" * 100, "answer": os.urandom(50).hex()} for n in range(1000))
    assert {path.name: path.read_bytes() for path in sums.folder.iterdir()} == before
    assert [p.name for p in full_disk.iterdir()] == ["d"]


def test_two_builds_do_not_write_to_one_folder_at_once(tmp_path: Path) -> None:
    sums = Dataset(tmp_path / "d")
    sums.write(ROWS)

    def meanwhile() -> Iterator[dict[str, str]]:
        with pytest.raises(RequestError, match="another build writes"):
            sums.append([{"question": "a", "answer": "b"}])
        yield {"question": "c", "answer": "d"}

    assert sums.append(meanwhile()).rows == 21


def test_contamination_by_the_question_and_by_a_run_of_words(tmp_path: Path) -> None:
    story = "Nina sells twelve red apples and seven green pears at the market every single Saturday morning."
    exam = lines(
        tmp_path / "exam.jsonl",
        [{"id": "e1", "question": story, "answer": "#### 19"}, {"id": "e2", "question": "What is 3+4?", "answer": "7"}],
    )
    rows = [
        {
            "prompt": "A long story: nina SELLS twelve red apples, and seven green pears at the market every day.",
            "response": "x",
        },
        {"prompt": "what is  3+4", "response": "7"},
        {"prompt": "What is 3-4?", "response": "-1"},
        {"prompt": "Tell me of apples and pears at the market.", "response": "y"},
    ]
    entry = Dataset(tmp_path / "d").write(rows, against=str(exam))
    assert entry.contamination is not None
    assert (entry.contamination.rows, entry.contamination.found, entry.contamination.documents) == (2, 2, 2)
    assert entry.contamination.first[1] == "records, record 2 holds e2"
    assert entry.rows == 4
    cleaned = Dataset(tmp_path / "e").write(rows, against=str(exam), drop=["contaminated"])
    assert (cleaned.rows, cleaned.dropped) == (2, {"contaminated": 2})
    with pytest.raises(RequestError, match=r"no row is left: 2 were read; 2 held a document of the evaluation$"):
        Dataset(tmp_path / "f").write(rows[:2], against=str(exam), drop=["contaminated"])


def test_the_held_out_half_of_arithmetic_is_found_and_the_other_is_clean(tmp_path: Path) -> None:
    exam = {"source": "builtin:arithmetic", "digits": 2}
    inputs = [open_input("builtin:arithmetic", {"digits": 2, "size": 300})]
    clean = build(inputs, tmp_path / "train", wishes=Wishes(against=exam)).contamination
    assert clean is not None
    assert (clean.rows, clean.documents) == (0, 1625)
    held_out = open_input({"source": "builtin:arithmetic", "split": "test"}, {"digits": 2, "size": 300})
    found = build([held_out], tmp_path / "test", wishes=Wishes(against=exam)).contamination
    assert found is not None
    assert found.rows == 300


def test_wishes_that_make_no_sense_are_refused_at_once(tmp_path: Path) -> None:
    for wishes in ({"max_tokens": 5}, {"drop": ["long"]}, {"drop": ["contaminated"]}, {"against": str(tmp_path / "x")}):
        with pytest.raises(RequestError):
            Dataset(tmp_path / "d").write(ROWS, **wishes)  # type: ignore[arg-type]


def test_tokens_are_counted_where_there_is_a_library_for_it(tmp_path: Path) -> None:
    sums = Dataset(tmp_path / "d")
    try:
        import tokenizers  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        with pytest.raises(SetupError, match="tokenizers") as told:
            sums.write(ROWS, tokenizer="builtin:tiny")
        assert "-e train" in str(told.value)
        return
    tokens = sums.write(ROWS, tokenizer="builtin:tiny", max_tokens=7).tokens
    assert tokens is not None  # a token a byte, and a line break between question and answer
    assert (tokens.shortest, tokens.median, tokens.longest, tokens.limit) == (8, 9, 10, 7)
    lengths = [len(f"{row['question']}\n{row['answer']}") for row in ROWS]
    assert (tokens.total, tokens.over, tokens.cut) == (sum(lengths), 20, sum(length - 7 for length in lengths))
    short = Dataset(tmp_path / "e").write(ROWS, tokenizer="builtin:tiny", max_tokens=8, drop=["long"])
    assert short.rows == sum(length <= 8 for length in lengths)


def test_a_split_goes_by_the_problem_alone(tmp_path: Path) -> None:
    big = open_input("builtin:arithmetic", {"digits": 2, "size": 600})
    train, test = split(big, tmp_path / "big", held_out=5)
    assert train.rows + test.rows == 600
    assert all(split_of(record, 5) == "test" for record in Dataset(tmp_path / "big", "test"))
    other = open_input("builtin:arithmetic", {"digits": 2, "size": 300, "seed": 9})
    split(other, tmp_path / "other", held_out=5)
    sides = [
        {name: {r.prompt for r in Dataset(tmp_path / folder, name)} for name in ("train", "test")}
        for folder in ("big", "other")
    ]
    assert not (sides[0]["train"] | sides[1]["train"]) & (sides[0]["test"] | sides[1]["test"])
    with pytest.raises(RequestError, match="falls to test"):
        split(open_input("builtin:arithmetic", {"digits": 2, "size": 1}), tmp_path / "one", held_out=10**9)
    assert not (tmp_path / "one").exists()


def test_a_survey_writes_nothing_and_tells_all(tmp_path: Path) -> None:
    source = lines(tmp_path / "rows.jsonl", [*ROWS, ROWS[0], "{", {"question": " ", "answer": "x"}])
    found = survey(open_input(str(source)), Wishes())
    assert (found.read, found.sound, found.facts["duplicates"], len(found.faults)) == (23, 20, 1, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]
    sums = Dataset(tmp_path / "d")
    sums.write(ROWS)
    assert survey(open_input(str(sums.folder)), Wishes()).faults == []
    with open(sums.folder / "train.jsonl", "a") as file:
        file.write('{"instruction": "a", "output": "b"}\n')
    assert "another sha256" in survey(open_input(str(sums.folder)), Wishes()).faults[0]


def test_a_sample_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    source = lines(tmp_path / "rows.jsonl", ROWS)
    chosen = [sample(open_input(str(source)), 5, seed) for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(sample(open_input(str(source)), 500)) == 20


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({"instruction": TEXT, "input": TEXT, "output": TEXT}), min_size=1, max_size=12),
    odd=st.lists(
        st.sampled_from(["", "{", '{"instruction": "a", "output": "b", "history": [["c", "d"]]}', "[]"]), max_size=2
    ),
    dedupe=st.sampled_from(["exact", "normalised", "no"]),
)
def test_the_quick_way_and_the_careful_way_make_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], odd: list[str], dedupe: str
) -> None:
    """Whatever lines a file has, it becomes what its rows would become one by one."""
    folder = tmp_path_factory.mktemp("both")
    source = lines(folder / "rows.jsonl", [*rows, *odd, *rows[:3]])
    outcomes = []
    for name in ("quick", "careful"):
        taken = open_input(str(source)) if name == "quick" else open_input({"source": str(source), "limit": 10**6})
        wishes = Wishes(dedupe=dedupe, drop=frozenset({"broken"}))  # type: ignore[arg-type]
        try:
            entry = build([taken], folder / name, wishes=wishes)
            outcomes.append((entry.rows, entry.duplicates, entry.dropped, list(Dataset(folder / name))))
        except RequestError as error:
            outcomes.append(error.message)
    assert outcomes[0] == outcomes[1]


def test_pieces_of_any_size_give_every_line_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = [{"instruction": f"q{n}", "output": "a" * n} for n in range(40)]
    rows[30] = "broken"
    source = lines(tmp_path / "rows.jsonl", rows)
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes().rstrip(b"\n"))
    for size in (1, 100, 10**6):
        monkeypatch.setattr(pieces, "AT_ONCE", size)
        with pytest.raises(RequestError, match="line 31 reads: broken"):
            built(source, tmp_path / "d")
