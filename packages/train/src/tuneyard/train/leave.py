"""What a training that has ended well leaves in the run folder: artifacts, metrics, the fingerprint of its tokens."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from tuneyard.core.files import read_json, write_json
from tuneyard.core.specs import TrainSpec
from tuneyard.core.worker import Job
from tuneyard.train import export
from tuneyard.train.arguments import adapters_of
from tuneyard.train.fingerprint import Tokens, save_template
from tuneyard.train.plot import plot_loss
from tuneyard.train.resume import best_of


def makes_adapter(values: dict[str, Any]) -> bool:
    """Whether a training leaves an adapter, not a model."""
    return values.get("finetuning_type", "lora") in ("lora", "oft")


def output(job: Job) -> Path:
    """Where LLaMA-Factory writes in this attempt."""
    return job.folder.raw / str(job.attempt.number)


def cache(job: Job) -> Path:
    """Where the library keeps its tables of the dataset while the run needs them: shared by the run's attempts."""
    return job.folder.raw / "cache"


def leave(job: Job, values: dict[str, Any], tokens: Tokens, raw: Path) -> None:
    """Artifacts and metrics of a training that has ended well.

    Args:
        job: the job.
        values: the arguments of the training.
        tokens: how it encoded.
        raw: what LLaMA-Factory wrote: its output folder, or the last checkpoint where only the tidying up was missing.
    """
    with job.timed("export"):
        _leave_weights(job, values, tokens, raw)
    write_json(job.folder.fingerprint, tokens.fingerprint.model_dump())
    job.artifact("fingerprint", job.folder.fingerprint)
    history = read_json(raw / "trainer_state.json")["log_history"]
    with job.timed("plot"):
        picture = job.folder.artifacts / "loss.png"
        if plot_loss(history, picture, job.folder.id):
            job.artifact("loss_plot", picture)
    job.artifact("trainer_log", raw / "trainer_log.jsonl")
    results = raw / "all_results.json"
    measured = read_json(results) if results.exists() else _last_measured(history)
    for name, value in metrics(measured, history, "resumed_from" in job.details).items():
        job.metric(name, value)
    shutil.rmtree(cache(job), ignore_errors=True)


def _leave_weights(job: Job, values: dict[str, Any], tokens: Tokens, raw: Path) -> None:
    adapter = makes_adapter(values)
    weights = best_of(raw) if values.get("load_best_model_at_end") else raw
    made = export.collect(weights, job.folder.adapter if adapter else job.folder.model)
    trusts = bool(values.get("trust_remote_code"))
    save_template(tokens, made, trusts)
    job.artifact("adapter" if adapter else "model", made)
    if adapter and job.spec.merge:
        export.merge(values, _merged_before(job.spec, values), made, job.folder.model)
        save_template(tokens, job.folder.model, trusts)
        job.artifact("model", job.folder.model)


def _last_measured(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The last loss on held-out data, and how far the training was."""
    found: dict[str, Any] = {}
    for entry in history:
        found |= {k: v for k, v in entry.items() if k == "epoch" or k.startswith("eval_")}
    return found


def _merged_before(spec: TrainSpec, values: dict[str, Any]) -> list[str]:
    """All adapters but the one that was trained further; with `create_new_adapter` all."""
    adapters = adapters_of(spec)
    return adapters if values.get("create_new_adapter") else adapters[:-1]


def metrics(results: dict[str, Any], history: list[dict[str, Any]], resumed: bool) -> dict[str, float]:
    """What the trainer measured, and `loss`, the last that it logged.

    After a resume the trainer divides the losses of the last attempt by the steps of all, so its train_loss is
    computed anew from the log.
    """
    found = {k: float(v) for k, v in results.items() if isinstance(v, int | float)}
    losses = sorted({e["step"]: e["loss"] for e in history if "loss" in e}.items())
    if losses:
        found["loss"] = losses[-1][1]
        if resumed:
            found["train_loss"] = _mean(losses)
    return {k: v for k, v in found.items() if math.isfinite(v)}


def _mean(losses: list[tuple[int, float]]) -> float:
    """Mean over steps of losses that are each the mean since the one before."""
    starts = [0, *(step for step, _ in losses)]
    return sum(loss * (step - start) for start, (step, loss) in zip(starts, losses, strict=False)) / losses[-1][0]
