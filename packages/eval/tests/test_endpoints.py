"""Evaluation through a server: the same prompts, the same answers, and a plain word where it cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest
from eval_runs import Outcome, Runs, lines, of_file, run_here, write_choice, write_quiz
from generations import free_port, served

from tuneyard.eval import tokens
from tuneyard.eval.model import Source

ARITHMETIC = {"task": "arithmetic", "arguments": {"size": 12}}

SUMS = """\
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import generate


@task
def sums():
    data = [Sample(f"{n}+1=", target=str(n + 1)) for n in range(4)]
    return Task(data, solver=generate(), scorer=match())
"""


def responses(outcome: Outcome) -> list[str]:
    return [row["response"] for row in outcome.samples]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "asked"


@pytest.fixture(scope="module")
def server(tiny: Path, log: Path):
    with served(model=tiny, context=256, log=log) as url:
        yield url


def test_arithmetic_through_a_server_is_arithmetic_in_process(runs: Runs, server: str, log: Path) -> None:
    here = runs.evaluate(ARITHMETIC, batch_size=4)
    there = runs.evaluate(ARITHMETIC, batch_size=4, endpoint=server)
    assert responses(there) == responses(here) and there.metrics == here.metrics
    assert there.evaluation["tasks"] == here.evaluation["tasks"]  # documents, prompts, filters: they compare
    assert "sent ids, which the tokenizer here made" in there.notes and "'small'" in there.notes
    assert all(isinstance(line["prompt"][0][0], int) for line in lines(log))


def test_log_likelihoods_are_those_of_the_model(runs: Runs, server: str, tmp_path: Path) -> None:
    choice = of_file(write_choice(tmp_path))
    here, there = runs.evaluate(choice), runs.evaluate(choice, endpoint=server)
    assert there.metrics == here.metrics
    for one, other in zip(here.samples, there.samples, strict=True):
        expected, found = json.loads(one["response"]), json.loads(other["response"])
        assert [r["greedy"] for r in found] == [r["greedy"] for r in expected]
        assert [r["log_likelihood"] for r in found] == pytest.approx([r["log_likelihood"] for r in expected], abs=1e-4)


def test_an_unknown_model_is_asked_by_conversations(runs: Runs, server: str) -> None:
    outcome = runs.evaluate(ARITHMETIC, model=None, endpoint=server)
    assert outcome.metrics["arithmetic/exact_match"]["n"] == 12
    assert outcome.samples[0]["prompt"].startswith('[{"role": "user"')
    assert "not known here" in outcome.notes and outcome.evaluation["model"].endswith(server)
    assert outcome.evaluation["tasks"][0]["chat_template"] is True


def test_plain_text_is_sent_where_no_template_is_wanted(runs: Runs, server: str, log: Path) -> None:
    runs.evaluate(ARITHMETIC, model=None, endpoint=server, apply_chat_template=False, limit=2)
    assert "Add " in str(lines(log)[-1]["prompt"])


def test_log_likelihoods_of_an_unknown_model_are_refused(runs: Runs, server: str, tmp_path: Path) -> None:
    outcome = runs.evaluate(of_file(write_choice(tmp_path)), model=None, endpoint=server)
    assert "not known here" in outcome.failure["message"] and "model=run:ID" in outcome.failure["way_out"]


def test_settings_of_a_loaded_model_are_refused(runs: Runs, server: str) -> None:
    outcome = runs.evaluate(ARITHMETIC, endpoint=server, engine={"attn_implementation": "eager"})
    assert "the server has loaded its own" in outcome.failure["message"]


def test_a_server_that_dies_ends_the_run_and_resume_goes_on(
    runs: Runs, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneyard.eval.lm_eval_arguments.RETRIES", 2)
    quiz, port, log = of_file(write_quiz(tmp_path, rows=12)), free_port(), tmp_path / "asked"
    with served(port, model=tiny, die_after=6, log=log) as url:
        run = runs.new(quiz, endpoint=url, batch_size=2)
        outcome = run_here(run)
    assert f"yard resume {run.id}" in outcome.failure["way_out"]
    run.new_attempt()
    with served(port, model=tiny, log=log):
        resumed = run_here(run)
    assert "responses were taken over" in resumed.notes
    assert responses(resumed) == responses(runs.evaluate(quiz))


def test_inspect_asks_a_server_by_conversations(runs: Runs, server: str, tmp_path: Path, log: Path) -> None:
    file = tmp_path / "sums.py"
    file.write_text(SUMS)
    outcome = runs.evaluate(of_file(file), endpoint=server, engine={"max_tokens": 8})
    assert outcome.metrics["sums/accuracy,match"]["n"] == 4 and len(outcome.samples) == 4
    asked = lines(log)[-1]
    assert asked["temperature"] == 0 and asked["messages"][-1]["content"].endswith("+1=")


def test_inspect_goes_on_at_a_server_that_is_back(
    runs: Runs, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneyard.eval.inspect_arguments.RETRIES", 1)
    (file := tmp_path / "sums.py").write_text(SUMS)
    port, log = free_port(), tmp_path / "asked"
    with served(port, model=tiny, die_after=2, log=log) as url:
        run = runs.new(of_file(file), endpoint=url, engine={"max_tokens": 8, "max_samples": 1})
        outcome = run_here(run)
    assert f"yard resume {run.id}" in outcome.failure["way_out"]
    run.new_attempt()
    with served(port, model=tiny, log=log) as url:
        resumed = run_here(run)
        whole = runs.evaluate(of_file(file), endpoint=url, engine={"max_tokens": 8})
    assert "2 responses were taken over" in resumed.notes
    assert responses(resumed) == responses(whole) and resumed.metrics == whole.metrics


@pytest.mark.parametrize("change", [None, {"text_ids": [1, 2, 3]}])
def test_inspect_compares_the_servers_tokens_with_trainings(
    runs: Runs, server: str, tiny: Path, tmp_path: Path, change: dict[str, Any] | None
) -> None:
    file = tmp_path / "sums.py"
    file.write_text(SUMS)
    training = tokens.fingerprint_of(tokens.load(Source(str(tiny), None, None, None)))
    trained = runs.trained(training.model_copy(update={"worker": "train", "chat": True, **(change or {})}))
    model = {"reference": f"run:{trained.id}", "path": str(tiny), "run": trained.id}
    outcome = runs.evaluate(of_file(file), endpoint=server, engine={"max_tokens": 8}, model=model)
    if change is None:
        assert "the server tokenizes as training did" in outcome.notes
    else:
        assert "tokenizes the model differently" in outcome.failure["message"]
