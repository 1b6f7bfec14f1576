"""`arithmetic`: the held-out half of the corpus, its digits read from the training run, scored by the corpus itself."""

from pathlib import Path

import pytest
from eval_runs import Runs, write_replay

from tuneyard.core.references import ModelRef
from tuneyard.data import arithmetic
from tuneyard.eval import tokens

SUMS = {"task": "arithmetic", "arguments": {"digits": 2, "size": 30}}


def answers(digits: int, size: int, *, wrong_every: int = 0) -> dict[str, str]:
    """Prompt -> the worked answer; every so many, one that ends in another sum."""
    rows = list(arithmetic.problems(digits=digits, size=size, split="test"))
    wrong = {n for n in range(len(rows)) if wrong_every and n % wrong_every == 0}
    return {row["prompt"]: row["response"] + ("0" if n in wrong else "") for n, row in enumerate(rows)}


def test_the_gold_answers_score_one(runs: Runs, tmp_path: Path) -> None:
    outcome = runs.evaluate(SUMS, model=None, lm=write_replay(tmp_path, answers(2, 30)))
    assert outcome.metrics["arithmetic/exact_match"] == {"value": 1.0, "standard_error": 0.0, "n": 30}
    assert all(row["scores"] == {"none": {"exact_match": 1.0}} for row in outcome.samples)


def test_wrong_answers_lower_the_score_by_their_number(runs: Runs, tmp_path: Path) -> None:
    outcome = runs.evaluate(SUMS, model=None, lm=write_replay(tmp_path, answers(2, 30, wrong_every=3)))
    metric = outcome.metrics["arithmetic/exact_match"]
    assert metric["value"] == pytest.approx(20 / 30)
    assert metric["standard_error"] == pytest.approx((20 / 30 * 10 / 30 / 29) ** 0.5)
    assert sum(row["scores"]["none"]["exact_match"] for row in outcome.samples) == 20


def test_an_untrained_model_scores_nothing_and_tells_how_far_it_is(runs: Runs) -> None:
    outcome = runs.evaluate("arithmetic", limit=12)
    assert outcome.metrics["arithmetic/exact_match"]["value"] == 0.0
    row = outcome.samples[0]
    assert row["prompt"].startswith("Add ") and row["response"] and row["target"].isdigit()
    assert outcome.events("progress")[-1]["step"] == outcome.events("progress")[-1]["total"] == 12
    assert 1 <= len(outcome.events("sample")) <= 3
    assert "the model has no run" in outcome.notes


def test_by_default_at_least_500_held_out_documents_are_asked(runs: Runs, tmp_path: Path) -> None:
    outcome = runs.evaluate("arithmetic", model=None, lm=write_replay(tmp_path, answers(3, 500)))
    assert outcome.metrics["arithmetic/exact_match"]["n"] == 500
    trained_on = {row["prompt"] for row in arithmetic.problems(digits=3, size=20_000)}
    assert not trained_on & {row["prompt"] for row in outcome.samples}


def of_corpus(**arguments: int) -> list[dict[str, object]]:
    return [{"source": "builtin:arithmetic", "arguments": arguments}]


def test_digits_are_those_that_the_model_was_trained_on(runs: Runs, tiny: Path) -> None:
    run = runs.trained(dataset=of_corpus(digits=4, size=10))
    outcome = runs.evaluate("arithmetic", limit=3, model={"reference": "x", "path": str(tiny), "run": run.id})
    assert all(len(row["prompt"].removeprefix("Add ").split(" and ")[0]) == 4 for row in outcome.samples)
    assert f"4 digits, as {run.id} was trained on" in outcome.notes


def test_the_tasks_own_arguments_win(runs: Runs, tiny: Path) -> None:
    run = runs.trained(dataset=of_corpus(digits=4))
    model = {"reference": "x", "path": str(tiny), "run": run.id}
    outcome = runs.evaluate({"task": "arithmetic", "arguments": {"digits": 1, "size": 5}}, limit=2, model=model)
    assert all(len(row["prompt"]) == len("Add 1 and 2.") for row in outcome.samples)


def test_an_unknown_argument_is_refused_with_the_nearest(runs: Runs) -> None:
    failure = runs.evaluate({"task": "arithmetic", "arguments": {"digit": 2}}).failure
    assert failure["kind"] == "request" and "'digits'" in failure["way_out"]


@pytest.mark.parametrize("chat", [True, False])
def test_prompts_go_through_the_template_exactly_when_training_did(runs: Runs, tiny: Path, chat: bool) -> None:
    fingerprint = tokens.fingerprint_of(tokens.load(ModelRef(reference=str(tiny), path=str(tiny))))
    run = runs.trained(fingerprint.model_copy(update={"chat": chat, "worker": "train"}))
    outcome = runs.evaluate("arithmetic", limit=2, model={"reference": "x", "path": str(tiny), "run": run.id})
    prompt = outcome.samples[0]["prompt"]
    assert (prompt.startswith("<|user|>Add ") and prompt.endswith("<|end|><|assistant|>")) is chat
    assert outcome.evaluation["tasks"][0]["chat_template"] is chat
    assert ("applied, as training did" in outcome.notes) is chat


def test_the_spec_decides_over_training(runs: Runs) -> None:
    outcome = runs.evaluate("arithmetic", limit=2, apply_chat_template=True)
    assert outcome.samples[0]["prompt"].startswith("<|user|>Add ")
    assert "applied, as the spec says" in outcome.notes
