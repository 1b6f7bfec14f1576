"""LLaMA-Factory itself reads every folder that is written, and every row of it, as it was meant."""

import importlib.machinery
import importlib.util
import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneyard.core.references import DatasetSource
from tuneyard.data import Dataset
from tuneyard.data.building import build
from tuneyard.data.dataset_folder import DatasetFolder, write_dataset
from tuneyard.data.origins import open_input
from tuneyard.data.records import Record
from tuneyard.data.sources import open_source
from tuneyard.data.tiny import write_tiny

if importlib.util.find_spec("llamafactory") is None:
    pytest.skip("LLaMA-Factory is not installed here", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def torchaudio() -> None:
    """LLaMA-Factory imports torchaudio whenever it is imported, although only audio needs it."""
    if "torchaudio" not in sys.modules and importlib.util.find_spec("torchaudio") is None:
        stand_in = types.ModuleType("torchaudio")
        stand_in.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = stand_in


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """The rows of a dataset as LLaMA-Factory hands them to its stages."""

    def load(folder: Path, name: str = "train") -> list[dict[str, Any]]:
        loader = importlib.import_module("llamafactory.data.loader")
        parser = importlib.import_module("llamafactory.data.parser")
        model = SimpleNamespace(cache_dir=str(tmp_path / "cache"), hf_hub_token=None)
        data = SimpleNamespace(
            dataset_dir=str(folder),
            media_dir=str(folder),
            streaming=False,
            max_samples=None,
            preprocessing_num_workers=None,
            overwrite_cache=True,
        )
        training = SimpleNamespace(local_process_index=0, dataloader_num_workers=0)
        (attributes,) = parser.get_dataset_list([name], str(folder))
        return list(loader._load_single_dataset(attributes, model, data, training))

    return load


def turns(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in row["_prompt"] + row["_response"]]


def written(folder: Path, *rows: dict[str, Any], **asked: Any) -> Path:
    """A dataset folder made from a JSONL file of rows."""
    source = folder.parent / f"{folder.name} source.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with DatasetFolder(folder) as out:
        out.add("train", open_source(DatasetSource(source=str(source), **asked)))
    return folder


def test_alpaca_rows_with_all_that_may_be_in_them(tmp_path: Path, read: Any) -> None:
    rows = [
        {"instruction": "a", "output": "b"},
        {"instruction": "c", "input": "d", "output": "e", "system": "s", "history": [["f", "g"]], "more": 1},
    ]
    first, second = read(written(tmp_path / "d", *rows))
    assert turns(first) == [("user", "a"), ("assistant", "b")]
    assert turns(second) == [("user", "f"), ("assistant", "g"), ("user", "c\nd"), ("assistant", "e")]
    assert (first["_system"], second["_system"]) == ("", "s")


def test_columns_of_any_name(tmp_path: Path, read: Any) -> None:
    folder = written(tmp_path / "d", {"Frage": "a", "Antwort": "b"}, columns={"prompt": "Frage", "response": "Antwort"})
    assert [turns(row) for row in read(folder)] == [[("user", "a"), ("assistant", "b")]]


def test_conversations_with_tools(tmp_path: Path, read: Any) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": None, "tool_calls": [call, call]},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "2"},
    ]
    plain = [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    with DatasetFolder(tmp_path / "d") as out:
        for name, rows in {
            "train": [{"messages": messages, "tools": tools}],
            "plain": [{"conversations": plain}],
        }.items():
            source = tmp_path / f"{name}.json"
            source.write_text(json.dumps(rows))
            out.add(name, open_source(DatasetSource(source=str(source))))
    (row,) = read(tmp_path / "d")
    assert row["_system"] == "s"
    assert json.loads(row["_tools"]) == tools
    roles = [role for role, _ in turns(row)]
    assert roles == ["user", "function", "observation", "assistant"]
    assert json.loads(turns(row)[1][1]) == [{"name": "add", "arguments": {"a": 1}}] * 2
    assert turns(read(tmp_path / "d", "plain")[0]) == [("user", "x"), ("assistant", "y")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"},
         "rejected": {"from": "gpt", "value": "bad"}},
        {"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
         "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]},
    ],
)  # fmt: skip
def test_preferences_in_each_way_they_are_written(tmp_path: Path, read: Any, row: dict[str, Any]) -> None:
    (loaded,) = read(written(tmp_path / "d", row))
    assert turns(loaded) == [("user", "q"), ("assistant", "good"), ("assistant", "bad")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": "a"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    ],
)
def test_labelled_answers(tmp_path: Path, read: Any, row: dict[str, Any]) -> None:
    good, bad = read(written(tmp_path / "d", {**row, "label": True}, {**row, "label": False}))
    assert turns(good) == [("user", "q"), ("assistant", "a"), ("assistant", "")]
    assert turns(bad) == [("user", "q"), ("assistant", ""), ("assistant", "a")]


def test_text_for_pre_training(tmp_path: Path, read: Any) -> None:
    (row,) = read(written(tmp_path / "d", {"text": "a\nb", "url": "x"}))
    assert turns(row) == [("user", "a\nb")]


def test_records_of_a_program_with_id_target_and_metadata(tmp_path: Path, read: Any) -> None:
    records = [
        Record(id="1", prompt="a", response="b", target="b", metadata={"x": 1}),
        Record(prompt="c", response="d", metadata={"y": [1, "z"]}),
    ]
    write_dataset(tmp_path / "d", records)
    assert [turns(row) for row in read(tmp_path / "d")] == [
        [("user", "a"), ("assistant", "b")],
        [("user", "c"), ("assistant", "d")],
    ]


@pytest.mark.parametrize("answer", ["2024-01-01", "2024-01-01 10:00", "2024-01-01T10:00:00Z"])
def test_answers_that_are_dates_stay_texts(tmp_path: Path, read: Any, answer: str) -> None:
    folder = written(tmp_path / "d", *[{"instruction": f"When? {n}", "output": answer} for n in range(3)])
    assert [row["_response"][0]["content"] for row in read(folder)] == [answer] * 3


def test_a_date_alone_in_the_last_piece_that_is_read_stays_a_text(tmp_path: Path, read: Any) -> None:
    long = {"instruction": "x" * 10_000, "output": "y"}
    fill_a_piece = (10 << 20) // len(json.dumps(long) + "\n") + 1
    folder = written(tmp_path / "d", *[long] * fill_a_piece, {"instruction": "2024-01-01", "output": "z"})
    rows = read(folder)
    assert turns(rows[-1]) == [("user", "2024-01-01"), ("assistant", "z")]
    assert turns(rows[0]) == [("user", long["instruction"]), ("assistant", "y")]


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_history_or_system_prompt_that_only_one_of_many_rows_has(tmp_path: Path, read: Any, place: str) -> None:
    plain = {"instruction": "x" * 10_000, "input": "", "output": "y"}
    rich = {**plain, "system": "s", "history": [["a", "b"]]}
    many = [plain] * (12_000_000 // 10_000)
    rows = read(written(tmp_path / "d", *([rich, *many] if place == "first" else [*many, rich])))
    one = rows[0 if place == "first" else -1]
    assert one["_system"] == "s"
    assert turns(one)[:2] == [("user", "a"), ("assistant", "b")]
    assert len(rows) == len(many) + 1
    assert all(turns(row) == [("user", plain["instruction"]), ("assistant", "y")] for row in rows[1:-1])


def test_images_by_path_and_by_bytes(tmp_path: Path, read: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd"
        "8db00000000049454e44ae426082"
    )
    (tmp_path / "a.png").write_bytes(image)
    messages = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "Red."}]
    folder = written(
        tmp_path / "d", {"messages": messages, "images": ["a.png"]}, {"messages": messages, "images": "a.png"}
    )
    rows = read(folder)
    assert [row["_images"] for row in rows] == [[str(tmp_path / "a.png")]] * 2
    table = pa.table({"question": ["What?"], "answer": ["Red."], "image": [{"bytes": image, "path": None}]})
    pq.write_table(table, tmp_path / "vl.parquet")
    with DatasetFolder(tmp_path / "e") as out:
        out.add("train", open_source(DatasetSource(source=str(tmp_path / "vl.parquet"))))
    (row,) = read(tmp_path / "e")
    assert Path(row["_images"][0]).read_bytes() == image
    assert turns(row)[0] == ("user", "<image>What?")


def test_a_described_dataset_keeps_its_columns_and_tags(tmp_path: Path, read: Any) -> None:
    own = tmp_path / "own"
    own.mkdir()
    talk = [{"wer": "ich", "was": "Guten Tag"}, {"wer": "du", "was": "Tag"}]
    odd = [*talk, {"wer": "ich", "was": "und nun?"}]
    (own / "talk.json").write_text(json.dumps([{"talk": talk, "x": 1}, {"talk": odd}, {"talk": talk, "sys": "s"}]))
    description = {
        "file_name": "talk.json",
        "formatting": "sharegpt",
        "columns": {"messages": "talk", "system": "sys"},
        "tags": {"role_tag": "wer", "content_tag": "was", "user_tag": "ich", "assistant_tag": "du"},
    }
    (own / "dataset_info.json").write_text(json.dumps({"talk": description, "other": {"file_name": "other.json"}}))
    with DatasetFolder(tmp_path / "d") as out:
        entry = out.add("train", open_source(DatasetSource(source=str(own), name="talk")))
    ours = read(tmp_path / "d")
    theirs = [row for row in read(own, "talk") if row["_response"]]
    assert [(turns(r), r["_system"]) for r in ours] == [(turns(r), r["_system"] or "") for r in theirs]
    assert (entry.rows, entry.left_out, entry.read) == (2, 1, 3)
    information = json.loads((tmp_path / "d" / "dataset_info.json").read_text())
    assert information["train"]["tags"] == description["tags"]
    assert information["train"]["columns"] == description["columns"]


def test_folders_of_any_name(weird_path: Path, read: Any) -> None:
    folder = written(weird_path / "d", {"instruction": "a", "output": "b"})
    assert [turns(row) for row in read(folder)] == [[("user", "a"), ("assistant", "b")]]


@pytest.mark.parametrize(("source", "stage"), [("builtin:arithmetic", "sft"), ("gsm8k", "sft")])
def test_built_in_corpora(tmp_path: Path, read: Any, source: str, stage: str) -> None:
    if source == "gsm8k":
        (tmp_path / "gsm8k").mkdir()
        row = {"question": "1+1?", "answer": "It is <<1+1=2>>2.\n#### 2"}
        (tmp_path / "gsm8k" / "train.jsonl").write_text(json.dumps(row) + "\n")
        asked = DatasetSource(source="builtin:gsm8k", path=str(tmp_path / "gsm8k"))
    else:
        asked = DatasetSource(source=source, arguments={"size": 20})
    opened = open_source(asked)
    with DatasetFolder(tmp_path / "d") as out:
        out.add("train", opened)
    expected = [[("user", r.prompt), ("assistant", r.response)] for r in open_source(asked).records()]
    assert [turns(row) for row in read(tmp_path / "d")] == expected


STAGES = {
    "sft": [
        {"conversations": [
            {"from": "human", "value": "1+1?"},
            {"from": "function_call", "value": '<think>\nhm\n</think>\n{"name": "add", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "two"},
        ], "tools": '[{"name": "add", "description": "adds", "parameters": {}}]'},
        {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "two"}]},
    ],
    "rm": [{"prompt": f"q{n}", "chosen": "two", "rejected": "three"} for n in range(2)],
    "kto": [{"prompt": f"q{n}", "response": "two", "label": n == 0} for n in range(2)],
    "pt": [{"text": "one two"}, {"text": "two"}],
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_every_row_comes_through_the_tokenization_of_its_stage(tmp_path: Path, stage: str) -> None:
    from_data = importlib.import_module("llamafactory.data")
    parse = importlib.import_module("llamafactory.hparams").get_train_args
    model, data, training, finetuning, _ = parse({
        "model_name_or_path": str(write_tiny(tmp_path / "tiny")),
        "cache_dir": str(tmp_path / "cache"),
        "stage": stage,
        "do_train": True,
        "dataset": "train",
        "dataset_dir": str(written(tmp_path / "d", *STAGES[stage])),
        "template": "qwen",
        "output_dir": str(tmp_path / "out"),
        "report_to": "none",
        "packing": False,
    })  # fmt: skip
    tokenizer = importlib.import_module("llamafactory.model").load_tokenizer(model)["tokenizer"]
    template = from_data.get_template_and_fix_tokenizer(tokenizer, data)
    rows = from_data.get_dataset(template, model, data, training, finetuning.stage, tokenizer)["train_dataset"]
    assert len(rows) == 2
    ids = "chosen_input_ids" if stage == "rm" else "input_ids"
    assert all("two" in tokenizer.decode(row[ids]) for row in rows)


CONVERSATION = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([{"Frage": "q", "Antwort": "a"}, {"Frage": "r", "Antwort": "b"}], {"prompt": "Frage", "response": "Antwort"}),
        ([{"problem": "q", "solution": "a"}, {"problem": "r", "solution": "b", "id": "7"}], {}),
        ([{"messages": CONVERSATION}, {"messages": [{"role": "system", "content": "s"}, *CONVERSATION]}], {}),
    ],
)
def test_what_a_program_builds_appends_and_replaces(
    tmp_path: Path, read: Any, rows: list[dict[str, Any]], columns: dict[str, str]
) -> None:
    built = Dataset(tmp_path / "d", "own")
    built.write(rows[:1], columns=columns)
    assert [turns(row) for row in read(tmp_path / "d", "own")] == [[("user", "q"), ("assistant", "a")]]
    built.append(rows[1:], columns=columns, dedupe="no")
    assert len(read(tmp_path / "d", "own")) == 2
    Dataset(tmp_path / "d", "other").append([{"question": "x", "input": "y", "answer": "z"}])
    assert [turns(row) for row in read(tmp_path / "d", "other")] == [[("user", "x\ny"), ("assistant", "z")]]
    built.replace(rows[1:], columns=columns)
    assert len(read(tmp_path / "d", "own")) == 1


def test_a_built_file_keeps_names_that_it_had_already(tmp_path: Path, read: Any) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"instruction": "q", "output": "a"}\n{"instruction": "r", "input": "s", "output": "b"}\n')
    build([open_input(str(source))], tmp_path / "d")
    assert [turns(row)[0] for row in read(tmp_path / "d")] == [("user", "q"), ("user", "r\ns")]
