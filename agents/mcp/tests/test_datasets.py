"""An agent makes its own data: rows in a call, a generator in the workspace; what is wrong with them it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
from raw_client import TRAIN, Client

from tuneyard.control.workspace import Workspace

ROWS = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(20)]


def rows_of(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "train.jsonl").read_text().splitlines()]


def test_records_in_a_call_become_a_folder_that_the_next_call_trains_on(desk: Workspace, client: Client) -> None:
    built = client.call("build_dataset", records=[*ROWS, ROWS[0]], out="datasets/sums")
    assert (built["rows"], built["duplicates"], built["format"]) == (20, 1, "alpaca")
    assert built["folder"] == str(desk.path / "datasets" / "sums")
    assert rows_of(built["folder"])[0] == {"instruction": "0 + 1?", "output": "1"}
    assert built["next"] == [
        f'train(fields={{"dataset": {{"source": {json.dumps(built["folder"], ensure_ascii=False)}, "name": "train"}}}})'
    ]
    fields = {**TRAIN, "dataset": {"source": built["folder"], "name": "train"}}
    run = client.call("train", fields=fields)["runs"][0]["id"]
    assert client.wait(run)["state"] == "succeeded"


def test_a_folder_that_is_there_changes_only_where_that_is_asked_for(client: Client) -> None:
    call = {"records": ROWS, "out": "datasets/sums"}
    client.call("build_dataset", **call)
    assert "nothing is written over it" in client.error("build_dataset", **call)
    more = client.call(
        "build_dataset", records=[{"question": "2 + 2?", "answer": "4"}, ROWS[3]], out="datasets/sums", mode="append"
    )
    assert (more["rows"], more["duplicates"]) == (21, 1)
    less = client.call("build_dataset", records=ROWS[:2], out="datasets/sums", mode="replace")
    assert less["rows"] == 2


def test_the_code_of_a_source_is_run_apart_and_lies_in_the_workspace(
    desk: Workspace, connect: Callable[..., Client], tmp_path: Path
) -> None:
    client = connect()
    code = (
        "def rows(count):\n    for n in range(count):\n        print('noise')\n        yield {'q': f'{n}?', 'a': 'x'}\n"
    )
    (desk.path / "make.py").write_text(code)
    (tmp_path / "make.py").write_text(code)
    asked = {"arguments": {"count": 7}, "columns": {"prompt": "q", "response": "a"}, "out": "made"}
    assert client.call("build_dataset", source="make.py:rows", **asked)["rows"] == 7
    outside = client.error("build_dataset", source=f"{tmp_path}/make.py:rows", **{**asked, "out": "more"})
    assert "outside the workspace" in outside
    assert "outside the workspace" in client.error("build_dataset", records=ROWS, out=str(tmp_path / "out"))
    (desk.path / "make.py").write_text("def rows():\n    yield {'text': 'a'}\n    raise KeyError('lost')\n")
    told = client.error("build_dataset", source="make.py:rows", out="more")
    assert "raised KeyError: 'lost' (make.py, line 3), after 1 records" in told
    assert not (desk.path / "more").exists()


def test_what_is_wrong_with_records_is_told_row_by_row(desk: Workspace, connect: Callable[..., Client]) -> None:
    client = connect()
    broken = [*ROWS, {"question": "", "answer": "1"}, {"question": "x", "answer": 2}]
    told = client.error("build_dataset", records=broken, out="sums")
    assert "2 of 22 rows cannot be used" in told
    assert "stdin:21: prompt is empty" in told
    assert "stdin:22: 'answer' must be text, not a number" in told
    assert client.call("build_dataset", records=broken, out="sums", drop=["broken"])["dropped"] == {"broken": 2}
    assert "did you mean" in client.error("build_dataset", records=ROWS, out="x", columns={"prompt": "qestion"})
    assert "one of them" in client.error("build_dataset", out="x")
    assert "at most 200" in client.error("build_dataset", records=[{"text": "x"}] * 201, out="x")
    assert not (desk.path / "x").exists()


def test_contamination_and_the_answers_form(connect: Callable[..., Client]) -> None:
    client = connect()
    rows = [{"prompt": "Add 12 and 34.", "response": "46"}, {"prompt": "Add 12 and 35.", "response": "47"}]
    held_out = {"source": "builtin:arithmetic", "digits": 2}
    schema = {tool["name"]: tool for tool in client.ask("tools/list")["tools"]}["build_dataset"]["outputSchema"]
    for form, most in (("concise", 1500), ("detailed", 20_000)):
        arguments = {"records": rows, "out": f"d-{form}", "against": held_out, "response_format": form}
        result = client.ask("tools/call", name="build_dataset", arguments=arguments)
        assert not result.get("isError"), result
        jsonschema.validate(result["structuredContent"], schema)
        assert len(result["content"][0]["text"]) <= most
        assert result["structuredContent"]["contamination"]["documents"] > 1000


def test_records_given_to_train_are_its_dataset(desk: Workspace, connect: Callable[..., Client]) -> None:
    client = connect()
    fields = {name: value for name, value in TRAIN.items() if name != "dataset"}
    records = [{"Frage": "1?", "Antwort": "2"}]
    columns = {"prompt": "Frage", "response": "Antwort"}
    started = client.call("train", fields=fields, records=records, columns=columns)
    run = started["runs"][0]["id"]
    assert client.wait(run)["state"] == "succeeded"
    rows = (desk.runs / run / "data" / "train.jsonl").read_text()
    assert json.loads(rows) == {"instruction": "1?", "output": "2"}
    again = client.call("train", fields=fields, records=records, columns=columns, dry_run=True)
    [folder] = (desk.path / "datasets").iterdir()
    assert folder.name in again["plan"], "the same rows are the same dataset"
    assert "one of them" in client.error("train", fields=TRAIN, records=records)
