"""`gsm8k` is lm-eval's own task: the same prompts, responses and scores as its command gives, document by document."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from eval_runs import SHARED, Outcome, Runs, lines, write_lines, write_replay

from tuneyard.eval.lm_eval_tasks import tasks_folder

SHORT = {"max_gen_toks": 8}
"""The tiny model rambles on to any limit, and the time of a test should not go into that."""


def made_up(folder: Path, test: int = 8) -> Path:
    """Word problems in GSM8K's form."""
    rows = [
        {
            "question": f"Ann has {n} pears and buys {n + 2} more. How many pears has she?",
            "answer": f"She has {n} + {n + 2} = <<{n}+{n + 2}={2 * n + 2}>>{2 * n + 2} pears.\n#### {2 * n + 2}",
        }
        for n in range(20 + test)
    ]
    write_lines(folder / "train.jsonl", rows[:20])
    write_lines(folder / "test.jsonl", rows[20:])
    return folder


@pytest.fixture(params=["made up", "real"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "made up":
        return made_up(tmp_path / "gsm8k")
    if not (SHARED / "gsm8k" / "test.jsonl").is_file():
        pytest.skip(f"GSM8K is not in {SHARED / 'gsm8k'}")
    return SHARED / "gsm8k"


def task_file(folder: Path, data: Path) -> Path:
    """lm-eval's own task with local files, as its users write it."""
    file = folder / "theirs.yaml"
    file.write_text(
        f"include: {tasks_folder() / 'gsm8k' / 'gsm8k.yaml'}\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs:\n  data_files:\n    train: {data / 'train.jsonl'}\n    test: {data / 'test.jsonl'}\n"
    )
    return file


def their_samples(folder: Path, program: list[str], *words: str) -> dict[int, dict[str, dict[str, Any]]]:
    """What lm-eval's command logs, in a process without a line of ours: document -> filter -> row."""
    command = [*program, "run", "--output_path", str(folder / "out"), "--log_samples", *words]
    subprocess.run(command, check=True, capture_output=True, timeout=300, cwd=folder)
    (file,) = (folder / "out").rglob("samples_gsm8k_*.jsonl")
    rows: dict[int, dict[str, dict[str, Any]]] = {}
    for row in lines(file):
        rows.setdefault(row["doc_id"], {})[row["filter"]] = row
    return rows


def assert_same(outcome: Outcome, theirs: dict[int, dict[str, dict[str, Any]]], documents: int) -> None:
    assert outcome.code == 0, outcome.result["failure"]
    assert len(outcome.samples) == len(theirs) == documents
    for row in outcome.samples:
        filters = theirs[int(row["id"])]
        assert set(row["answers"]) == set(row["scores"]) == set(filters) == {"strict-match", "flexible-extract"}
        for name, other in filters.items():
            assert row["prompt"] == other["arguments"]["gen_args_0"]["arg_0"]
            assert row["response"] == other["resps"][0][0]
            assert row["answers"][name] == other["filtered_resps"][0]
            assert row["scores"][name] == {"exact_match": float(other["exact_match"])}
            assert row["document_sha256"] == other["doc_hash"]


def replayed(data: Path) -> dict[str, str]:
    """Question -> a response: right for about half, some of them only for the filter that takes any number."""
    answers = {}
    for number, row in enumerate(lines(data / "test.jsonl")):
        gold = row["answer"].rpartition("#### ")[2]
        response = [row["answer"], f"It is {gold}.", row["answer"] + "7", "I cannot say."][number % 4]
        answers[f"Question: {row['question']}\nAnswer:"] = response
    return answers


def test_a_model_gives_what_lm_evals_command_gives(runs: Runs, data: Path, tmp_path: Path) -> None:
    limit = 8 if data.is_relative_to(tmp_path) else 50
    outcome = runs.evaluate("gsm8k", data=str(data), limit=limit, engine={"gen_kwargs": SHORT})
    model = ["--model", "hf", "--model_args", f"pretrained={runs.tiny}", "--device", "cpu", "--batch_size", "8"]
    asked = ["--tasks", str(task_file(tmp_path, data)), "--limit", str(limit), "--gen_kwargs", "max_gen_toks=8"]
    theirs = their_samples(tmp_path, [sys.executable, "-m", "lm_eval"], *model, *asked)
    assert_same(outcome, theirs, limit)
    assert all(row["prompt"].count("Question: ") == 6 for row in outcome.samples)  # five worked examples


def test_a_model_that_is_often_right_scores_as_in_lm_evals_command(runs: Runs, data: Path, tmp_path: Path) -> None:
    limit = 8 if data.is_relative_to(tmp_path) else 50
    lm = write_replay(tmp_path / "replay", replayed(data))
    outcome = runs.evaluate("gsm8k", data=str(data), limit=limit, model=None, lm=lm)
    program = [sys.executable, lm.removesuffix(":lm")]
    asked = ["--model", "replay", "--tasks", str(task_file(tmp_path, data)), "--limit", str(limit)]
    assert_same(outcome, their_samples(tmp_path, program, *asked), limit)
    flexible = outcome.metrics["gsm8k/exact_match,flexible-extract"]
    assert 0.3 <= flexible["value"] <= 0.7 and flexible["n"] == limit and flexible["standard_error"] > 0
    assert outcome.metrics["gsm8k/exact_match,strict-match"]["value"] < flexible["value"]


def test_the_file_that_a_run_leaves_gives_the_same_by_lm_evals_command(runs: Runs, tmp_path: Path) -> None:
    data = made_up(tmp_path / "gsm8k")
    outcome = runs.evaluate("gsm8k", data=str(data), limit=4, num_fewshot=2, engine={"gen_kwargs": SHORT})
    left = outcome.run.artifacts / "lm_eval.yaml"
    theirs = their_samples(tmp_path, [sys.executable, "-m", "lm_eval"], "--config", str(left))
    assert_same(outcome, theirs, 4)


def test_worked_examples_and_the_chat_template_are_passed_on(runs: Runs, tmp_path: Path) -> None:
    data = str(made_up(tmp_path / "gsm8k"))
    plain = runs.evaluate("gsm8k", data=data, limit=2, num_fewshot=0, engine={"gen_kwargs": SHORT})
    assert plain.samples[0]["prompt"].startswith("Question: Ann") and plain.evaluation["tasks"][0]["num_fewshot"] == 0
    turns = {"data": data, "limit": 2, "num_fewshot": 2, "apply_chat_template": True}
    many = runs.evaluate("gsm8k", **turns, engine={"gen_kwargs": SHORT})
    assert many.samples[0]["prompt"].count("<|user|>") == 3
    one = runs.evaluate("gsm8k", **turns, engine={"gen_kwargs": SHORT, "fewshot_as_multiturn": False})
    assert one.samples[0]["prompt"].count("<|user|>") == 1


def test_variants_of_the_task_read_the_same_folder(runs: Runs, tmp_path: Path) -> None:
    data = str(made_up(tmp_path / "gsm8k"))
    outcome = runs.evaluate("gsm8k_cot_zeroshot", data=data, limit=2, engine={"gen_kwargs": SHORT})
    assert outcome.metrics["gsm8k_cot_zeroshot/exact_match,strict-match"]["n"] == 2


def test_a_folder_of_any_name_will_do(runs: Runs, weird_path: Path) -> None:
    outcome = runs.evaluate("gsm8k", data=str(made_up(weird_path)), limit=2, engine={"gen_kwargs": SHORT})
    assert outcome.metrics["gsm8k/exact_match,strict-match"]["n"] == 2


def test_without_hub_and_folder_the_ways_out_are_told_at_once(runs: Runs) -> None:
    start = time.monotonic()
    failure = runs.evaluate("gsm8k").failure
    assert time.monotonic() - start < 10
    assert failure["kind"] == "setup"
    for way in ("data=DIR", "TUNEYARD_GSM8K", "connect to the hub", "openai/gsm8k"):
        assert way in failure["way_out"]


def broken(line: str) -> str:
    return json.dumps({"question": "1+1?", "answer": "#### 2"}) + "\n" + line + "\n"


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        (broken('{"question": "2+'), "test.jsonl:2", 'not valid JSON: \'{"question": "2+\''),
        (broken('{"prompt": "2+2?"}'), "test.jsonl:2", "no `question` and `answer`"),
        ("\n", "test.jsonl", "holds no document"),
        (None, "test.jsonl", "no such file; the folder holds train.jsonl"),
    ],
)
def test_broken_data_is_told_with_its_line(
    runs: Runs, tmp_path: Path, text: str | None, where: str, message: str
) -> None:
    data = made_up(tmp_path / "gsm8k")
    (data / "test.jsonl").unlink() if text is None else (data / "test.jsonl").write_text(text)
    failure = runs.evaluate("gsm8k", data=str(data)).failure
    assert failure["kind"] == "request" and failure["where"].endswith(where) and message in failure["message"]


def test_a_missing_folder_is_refused(runs: Runs, tmp_path: Path) -> None:
    failure = runs.evaluate("gsm8k", data=str(tmp_path / "nowhere")).failure
    assert failure["kind"] == "request" and "no such folder" in failure["message"]
