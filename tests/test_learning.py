"""A newcomer's first two commands, for real: a model learns to add, and is measured on problems it has never seen."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Yard

from tuneyard.core.run_folder import RunFolder

pytestmark = pytest.mark.slow


def exact_match(result: dict[str, Any]) -> dict[str, Any]:
    [(_, metric)] = [(n, m) for n, m in result["metrics"].items() if n.startswith("arithmetic/exact_match")]
    return metric


@pytest.fixture(scope="module")
def trained(yard: Yard) -> tuple[RunFolder, dict[str, Any]]:
    return yard.run("--kind", "train")


def test_the_default_training_learns(trained: tuple[RunFolder, dict[str, Any]]) -> None:
    run, result = trained
    events = [json.loads(line) for line in run.attempt(1).events.read_text().splitlines()]
    losses = [e["loss"] for e in events if e["event"] == "progress" and "loss" in e]
    assert losses[-1] < losses[0] / 10
    assert {a["name"] for a in result["artifacts"]} >= {"model", "loss_plot", "llamafactory_yaml"}
    assert (run.artifacts / "loss.png").read_bytes().startswith(b"\x89PNG")
    print(f"\ndefault training: {result['seconds']:.0f} s, loss {losses[0]:.3f} -> {losses[-1]:.4f}")


def test_the_trained_model_adds_numbers_it_has_never_seen(
    yard: Yard, trained: tuple[RunFolder, dict[str, Any]]
) -> None:
    run, _ = trained
    evaluation, result = yard.run("--kind", "eval", "--task", "arithmetic")
    assert evaluation.read_spec()["model"]["run"] == run.id  # the newest trained model, without being named
    metric = exact_match(result)
    assert metric["n"] >= 500
    assert metric["value"] >= 0.95
    print(f"\nheld-out exact match: {metric['value']:.4f} ± {metric['standard_error']:.4f} on {metric['n']}")


def test_the_untrained_model_cannot_add(yard: Yard) -> None:
    _, result = yard.run("--kind", "eval", "--task", "arithmetic", "model=builtin:tiny")
    assert exact_match(result)["value"] < 0.05


def test_shuffled_answers_teach_nothing(yard: Yard) -> None:
    run, _ = yard.run("--kind", "train", "dataset.0.arguments.shuffled_answers=true", "name=shuffled")
    _, result = yard.run("--kind", "eval", "--task", "arithmetic", f"model=run:{run.id}")
    assert exact_match(result)["value"] < 0.1


def test_another_seed_and_digit_count_learn_too(yard: Yard) -> None:
    run, _ = yard.run("--kind", "train", "seed=7", "dataset.0.arguments.digits=2", "name=two-digits")
    _, result = yard.run("--kind", "eval", "--task", "arithmetic", f"model=run:{run.id}")
    assert exact_match(result)["value"] >= 0.95
