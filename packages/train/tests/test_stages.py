"""Every stage and way of fine-tuning trains for real, and leaves what others can load."""

from __future__ import annotations

import json

import pytest
from training_runs import Runs, events, train

pytestmark = pytest.mark.slow

STAGES = [
    ("sft", "alpaca", {"finetuning_type": "full"}),
    ("sft", "talk", {"finetuning_type": "lora"}),
    ("sft", "alpaca", {"finetuning_type": "lora", "use_dora": True}),
    ("sft", "alpaca", {"finetuning_type": "freeze", "freeze_trainable_layers": 1}),
    ("sft", "alpaca", {"finetuning_type": "oft"}),
    ("pt", "text", {"finetuning_type": "full", "cutoff_len": 64}),
    ("dpo", "pairs", {"finetuning_type": "lora"}),
    ("dpo", "pairs", {"finetuning_type": "full", "pref_loss": "orpo"}),
    ("dpo", "pairs", {"finetuning_type": "lora", "pref_loss": "simpo"}),
    ("kto", "kto", {"finetuning_type": "lora"}),
    ("rm", "pairs", {"finetuning_type": "lora"}),
    ("rm", "pairs", {"finetuning_type": "full"}),
]


def _label(case: tuple[str, str, dict]) -> str:
    return "-".join([case[0], *map(str, case[2].values())])


@pytest.mark.parametrize(("stage", "data", "engine"), STAGES, ids=map(_label, STAGES))
def test_a_stage_trains_and_leaves_metrics_and_artifacts(runs: Runs, stage: str, data: str, engine: dict) -> None:
    run = runs.new({"stage": stage, **engine}, data)
    job = train(run)
    assert job.metrics["train_loss"].value > 0
    kind = "adapter" if engine["finetuning_type"] in ("lora", "oft") else "model"
    assert {a.name for a in job.artifacts()} == {kind, "fingerprint", "loss_plot", "llamafactory_yaml", "trainer_log"}
    files = {p.name for p in (run.artifacts / kind).iterdir()}
    assert {"tokenizer.json", "chat_template.jinja"} <= files
    assert not any(name.startswith(("checkpoint", "trainer", "optimizer")) for name in files)
    assert [e["step"] for e in events(run, "progress")] == [0, 1, 2, 3, 4]
    assert [e["step"] for e in events(run, "checkpoint")] == [4]
    assert json.loads(run.fingerprint.read_text())["chat"] is (stage != "pt")
