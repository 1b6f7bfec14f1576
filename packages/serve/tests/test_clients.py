"""Commands that people have already, pointed at the server: lm-eval's own, as its documentation writes it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from desk import ROOT, Desk

from tuneyard.control.environments import environment_prefix
from tuneyard.control.servers import Served
from tuneyard.control.workspace import find_workspace
from tuneyard.core.run_folder import find_run

pytestmark = pytest.mark.slow

LM_EVAL = environment_prefix(find_workspace(ROOT), "eval") / "bin" / "lm_eval"

SUMS = [(1, 2), (3, 4), (5, 2), (2, 2), (4, 1), (6, 3)]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tasks of lm-eval over the same sums: one that writes the answer, one that chooses it."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"question": f"Add {a} and {b}.", "right": str(a + b), "choices": [str(a + b), "0"]} for a, b in SUMS]
    data = folder / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
    }
    writes = {
        **common,
        "task": "written_sums",
        "output_type": "generate_until",
        "doc_to_target": "{{right}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "temperature": 0, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    chooses = {
        **common,
        "task": "chosen_sums",
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": 0,
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    for task in (writes, chooses):
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))
    return folder


def lm_eval(tasks: Path, name: str, *words: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The scores and the samples, in the order of the documents, that the command leaves."""
    out = tasks / f"out-{name}"
    command = [LM_EVAL, *words, "--include_path", tasks, "--tasks", name, "--output_path", out, "--log_samples"]
    done = subprocess.run(
        list(map(str, command)), cwd=tasks, env={**os.environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = out.rglob("results_*.json")
    (samples,) = out.rglob(f"samples_{name}_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(results.read_text())["results"][name], sorted(rows, key=lambda row: row["doc_id"])


def evaluated(desk: Desk, server: Served, model: str, task: Path, *words: str) -> tuple[list[dict[str, Any]], float]:
    """The samples and the score of our own evaluation through the same server."""
    given = (f"tasks=[{task}]", f"endpoint=run:{server.run.id}", f"endpoint_model={model}", *words)
    done = desk.yard("run", "--kind", "eval", "--json", *given)
    assert done.code == 0, done.out[-3000:] + done.err[-3000:]
    run = find_run(desk.path / "runs", done.json["id"])
    attempt = run.latest()
    result = attempt.read_result() if attempt else None
    assert result is not None
    (metric,) = result["metrics"].values()
    return [json.loads(line) for line in run.samples.read_text().splitlines()], metric["value"]


def test_lm_eval_chats_with_the_server_as_any_client_does(
    desk: Desk, server: Served, client: openai.OpenAI, low: str, tasks: Path
) -> None:
    model_args = f"model={low},base_url={server.url}/chat/completions,num_concurrent=4"
    words = ("--model", "local-chat-completions", "--model_args", model_args, "--apply_chat_template")
    scores, samples = lm_eval(tasks, "written_sums", *words)
    assert len(samples) == len(SUMS) and 0 <= scores["exact_match,none"] <= 1
    responses = [row["resps"][0][0] for row in samples]
    assert responses == [said(client, low, row["doc"]["question"]) for row in samples]
    ours, score = evaluated(desk, server, low, tasks / "written_sums.yaml", "batch_size=4")
    assert [row["response"] for row in ours] == responses
    assert score == scores["exact_match,none"]


def said(client: openai.OpenAI, model: str, question: str) -> str:
    turns: list[Any] = [{"role": "user", "content": question}]
    answer = client.chat.completions.create(model=model, messages=turns, temperature=0, max_tokens=8, stop=["\n"])
    return answer.choices[0].message.content or ""


def test_lm_eval_reads_log_likelihoods_of_the_server(
    desk: Desk, server: Served, low: str, tiny: Path, tasks: Path
) -> None:
    model_args = f"model={low},base_url={server.url}/completions,num_concurrent=8,tokenizer={tiny},max_length=512"
    scores, samples = lm_eval(tasks, "chosen_sums", "--model", "local-completions", "--model_args", model_args)
    assert len(samples) == len(SUMS) and 0 <= scores["acc,none"] <= 1
    theirs = [[float(choice[0][0]) for choice in row["resps"]] for row in samples]
    assert all(value < 0 for row in theirs for value in row)
    ours, score = evaluated(desk, server, low, tasks / "chosen_sums.yaml", "apply_chat_template=false")
    seen = [[choice["log_likelihood"] for choice in json.loads(row["response"])] for row in ours]
    assert seen == [pytest.approx(row, abs=0.05) for row in theirs]
    assert score == scores["acc,none"]
