"""What a generation puts to its model: every record once, answers taken off, nothing that cannot be answered."""

import json
from pathlib import Path
from typing import Any

import pytest

from tuneyard.core.errors import RequestError
from tuneyard.core.generation import read_inputs
from tuneyard.core.run_folder import RunFolder
from tuneyard.data.prepare import prepare


def run_with(folder: Path, dataset: Any, **changes: Any) -> RunFolder:
    run = RunFolder(folder / "generate-x-261120-1830-abc")
    run.path.mkdir(parents=True, exist_ok=True)
    run.spec.write_text(json.dumps({"kind": "generate", "dataset": dataset, **changes}))
    return run


def written(folder: Path, *rows: dict[str, Any]) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def inputs_of(folder: Path, *rows: dict[str, Any]) -> list[Any]:
    run = run_with(folder, written(folder, *rows))
    prepare(run.path)
    return list(read_inputs(run.inputs))


def test_prompts_alone_are_enough(tmp_path: Path) -> None:
    first, second = inputs_of(tmp_path, {"prompt": "2+2?"}, {"prompt": "3+3?", "id": "b", "target": "6", "level": 1})
    assert (first.number, first.prompt, first.target) == (0, "2+2?", None)
    assert (second.number, second.id, second.target, second.metadata) == (1, "b", "6", {"level": 1})


def test_answers_of_training_data_become_targets(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    answered = [*turns, {"role": "assistant", "content": "Hello."}]
    first, second = inputs_of(tmp_path, {"messages": answered}, {"messages": turns})
    assert first.messages == second.messages == [{"role": "user", "content": "Hi"}]
    assert (first.system, first.target, second.target) == ("Be brief.", "Hello.", None)
    assert [turn["role"] for turn in first.turns()] == ["system", "user"]


def test_the_better_answer_of_a_pair_is_the_target(tmp_path: Path) -> None:
    (asked,) = inputs_of(tmp_path, {"prompt": "2+2?", "chosen": "4", "rejected": "5"})
    assert (asked.prompt, asked.target) == ("2+2?", "4")


def test_history_becomes_a_conversation(tmp_path: Path) -> None:
    row = {"instruction": "And 3?", "input": "", "output": "9", "history": [["2 squared?", "4"]]}
    (asked,) = inputs_of(tmp_path, row)
    assert [turn["content"] for turn in asked.messages] == ["2 squared?", "4", "And 3?"] and asked.target == "9"


def test_images_are_named_by_absolute_paths(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    (asked,) = inputs_of(tmp_path, {"prompt": "What is <image>?", "images": ["cat.png"]})
    assert asked.images == [str(tmp_path / "cat.png")]
    parts = asked.turns_with_images()[0]["content"]
    assert [part["type"] for part in parts] == ["text", "image", "text"]
    assert parts[1]["image"] == str(tmp_path / "cat.png")


def test_a_system_prompt_may_speak_of_the_mark_of_images(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    row = {"prompt": "What is <image>?", "system": "An image stands at <image>.", "images": ["cat.png"]}
    (asked,) = inputs_of(tmp_path, row)
    system, question = asked.turns_with_images()
    assert system["content"] == "An image stands at <image>."
    assert question["content"][1] == {"type": "image", "image": str(tmp_path / "cat.png")}


def test_without_images_their_mark_is_text_like_any(tmp_path: Path) -> None:
    (asked,) = inputs_of(tmp_path, {"prompt": "What does <image> do in SVG?"})
    assert asked.turns() == [{"role": "user", "content": "What does <image> do in SVG?"}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": 7}, "must be text"),
        ({"messages": [{"role": "assistant", "content": "Hello."}]}, "nothing to answer"),
        ({"messages": []}, "nothing to answer"),
        ({"prompt": "What is this?", "images": ["none.png"]}, "no image"),
        ({"prompt": "<image> or <image>?", "images": [__file__]}, "1 images, but 2 places"),
        ({"wrong": "x"}, "no format fits"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_place(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    good = {"messages": [{"role": "user", "content": "Hi"}]} if "messages" in row else {"prompt": "Hi"}
    rows = [row] if "wrong" in row else [good, row]
    run = run_with(tmp_path, written(tmp_path, *rows))
    with pytest.raises(RequestError, match=reason) as refused:
        prepare(run.path)
    assert f"rows.jsonl:{len(rows)}" in str(refused.value)
    assert not run.data.exists()


def test_inputs_that_are_there_are_kept(tmp_path: Path) -> None:
    run = run_with(tmp_path, {"source": "builtin:arithmetic", "size": 5})
    manifest = prepare(run.path)
    assert [(e.name, e.role, e.rows) for e in manifest.datasets] == [("inputs", "input", 5)]
    before = run.inputs.stat().st_mtime_ns
    assert prepare(run.path) == manifest and run.inputs.stat().st_mtime_ns == before


def test_rows_of_a_generation_can_be_asked_again(tmp_path: Path) -> None:
    made = RunFolder(tmp_path / "generate-y-261120-1830-abc")
    made.artifacts.mkdir(parents=True)
    rows = [{"prompt": "a", "response": "b", "error": None}, {"prompt": "c", "response": "d", "error": None}]
    made.responses.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = run_with(tmp_path, {"source": f"run:{made.id}", "path": str(made.path)})
    prepare(run.path)
    assert [(i.prompt, i.target) for i in read_inputs(run.inputs)] == [("a", "b"), ("c", "d")]
