"""Batch generation by vLLM for real: every input once for every adapter, killed and resumed; and through a server."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, until

from tuneyard.control.servers import Served
from tuneyard.core.processes import kill_run, processes_of
from tuneyard.core.run_folder import RunFolder, find_run

pytestmark = pytest.mark.slow

CONTEXT = 256
SMALL = ("gpus=0", f"engine={{max_model_len: {CONTEXT}, dtype: float32}}")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sums of one digit, and one prompt that is longer than the context."""
    file = tmp_path_factory.mktemp("inputs") / "questions.jsonl"
    rows = [{"prompt": f"Add {n % 10} and {n // 10}.", "target": str(n % 10 + n // 10)} for n in range(100)]
    rows[7]["prompt"] = "x" * 3000
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def started(desk: Desk, *words: str) -> RunFolder:
    done = desk.yard("run", "--kind", "generate", "--detach", "--json", *words)
    assert done.code == 0, done.out + done.err
    return find_run(desk.path / "runs", done.json["id"])


def generated(desk: Desk, *words: str) -> tuple[RunFolder, dict[str, Any], list[dict[str, Any]]]:
    """A generation that succeeded and has left: run, result, rows."""
    done = desk.yard("run", "--kind", "generate", "--json", *words)
    assert done.code == 0, done.out[-3000:] + done.err[-3000:]
    run = find_run(desk.path / "runs", done.json["id"])
    assert until(lambda: not processes_of(run.id), 20)
    return run, result_of(run), rows_of(run.responses)


def result_of(run: RunFolder) -> dict[str, Any]:
    attempt = run.latest()
    result = attempt.read_result() if attempt else None
    assert result is not None
    return result


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_killed_and_resumed_every_adapter_answers_every_input_once(
    desk: Desk, low: str, high: str, questions: Path
) -> None:
    words = (f"dataset={questions}", "model=builtin:tiny", f"adapters=[run:{low},run:{high}]", "max_tokens=100")
    run = started(desk, *words, "batch_size=2", *SMALL)
    part = run.responses_part
    result = run.attempt(1).result
    assert until(lambda: result.exists() or (part.exists() and part.read_bytes().count(b"\n") >= 6), 480)
    assert kill_run(run.id) == []
    assert until(lambda: run.status().ended, 60)
    assert run.status().state == "failed", result_of(run)
    kept = part.read_bytes().count(b"\n")
    assert 6 <= kept < 200
    assert desk.yard("resume", run.id).code == 0
    assert run.status().state == "succeeded", result_of(run)["failure"]
    rows, metrics = rows_of(run.responses), result_of(run)["metrics"]
    assert [(row["input"], row["adapter"]) for row in rows] == [(n, a) for n in range(100) for a in (low, high)]
    failed = [row for row in rows if row["error"]]
    assert [row["input"] for row in failed] == [7, 7] and "context is 256" in failed[0]["error"]
    assert metrics["rows"]["value"] == 200 and metrics["errors"]["value"] == 2
    by_adapter = {name: [row["response"] for row in rows if row["adapter"] == name] for name in (low, high)}
    assert by_adapter[low] != by_adapter[high]


def test_answers_keep_to_a_form_and_come_as_often_as_asked(desk: Desk, questions: Path) -> None:
    form = 'structured={regex: "[0-9]{2}-[ab]"}'
    words = (f"dataset={{source: {questions}, limit: 5}}", "model=builtin:tiny", "max_tokens=12", "temperature=1.0")
    _, result, rows = generated(desk, *words, "n=3", form, *SMALL)
    assert [(row["input"], row["sample"]) for row in rows] == [(n, k) for n in range(5) for k in range(3)]
    assert all(re.fullmatch("[0-9]{2}-[ab]", row["response"]) for row in rows)
    assert len({row["response"] for row in rows}) > 1
    assert result["metrics"]["tokens_per_second"]["value"] > 0


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ('{regex: "([["}', "Unclosed"),
        ("{json_schema: {type: object, properties: {a: {type: strnig}}}}", "strnig"),
        ("{choice: [a], regex: b}", "one of the three"),
        ("{choice: []}", "one of the three"),
    ],
)
def test_a_form_that_cannot_be_compiled_is_refused_before_the_model_is_loaded(
    desk: Desk, questions: Path, form: str, words: str
) -> None:
    done = desk.yard(
        "run",
        "--kind",
        "generate",
        "--json",
        f"dataset={questions}",
        "model=builtin:tiny",
        f"structured={form}",
        *SMALL,
    )
    said = done.out + done.err
    assert done.code in (1, 2) and words in said, said[-2000:]
    assert "Loading safetensors" not in said


def test_a_server_answers_for_each_adapter(desk: Desk, server: Served, low: str, high: str, questions: Path) -> None:
    words = (f"dataset={{source: {questions}, limit: 6}}", f"endpoint=run:{server.run.id}", "max_tokens=8")
    _, _, rows = generated(desk, *words, f"adapters=[run:{low},run:{high}]")
    assert [(row["input"], row["adapter"]) for row in rows] == [(n, a) for n in range(6) for a in (low, high)]
    assert not any(row["error"] for row in rows)
    schema = (
        "{json_schema: {type: object, properties: {a: {type: boolean}}, required: [a], additionalProperties: false}}"
    )
    _, _, rows = generated(desk, *words, f"endpoint_model={low}", f"structured={schema}", "max_tokens=40")
    assert all(isinstance(json.loads(row["response"])["a"], bool) for row in rows)


def evaluated(desk: Desk, *words: str) -> tuple[RunFolder, dict[str, Any]]:
    done = desk.yard("run", "--kind", "eval", "--task", "arithmetic", "--json", "batch_size=16", *words)
    assert done.code == 0, done.out[-3000:] + done.err[-3000:]
    run = find_run(desk.path / "runs", done.json["id"])
    (metric,) = result_of(run)["metrics"].values()
    return run, metric


def test_arithmetic_through_the_server_agrees_with_arithmetic_in_process(desk: Desk, server: Served, low: str) -> None:
    one, here = evaluated(desk, f"model=run:{low}")
    other, there = evaluated(desk, f"endpoint=run:{server.run.id}", f"endpoint_model={low}")
    error = math.hypot(here["standard_error"], there["standard_error"])
    assert here["n"] == there["n"] and abs(here["value"] - there["value"]) <= max(2 * error, 0.01)
    notes = " ".join(json.loads(other.evaluation.read_text())["notes"])
    assert "sent ids, which the tokenizer here made" in notes
    asked = [[row["prompt"] for row in rows_of(run.samples)] for run in (one, other)]
    assert asked[0] == asked[1]
    done = desk.yard("compare", one.id, other.id, "--json")
    assert done.code == 0, done.out + done.err
