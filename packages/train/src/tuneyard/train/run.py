"""The work of a training run: LLaMA-Factory through its Python interface."""

from __future__ import annotations

import math
import os
import shutil
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import read_json, write_atomically, write_json
from tuneyard.core.references import CodeRef, load_code
from tuneyard.core.specs import TrainSpec
from tuneyard.core.worker import Job
from tuneyard.train import export
from tuneyard.train.arguments import FILE_NAME, Data, as_yaml, library_arguments, processes
from tuneyard.train.explain import explained_arguments, explained_training
from tuneyard.train.fingerprint import Tokens, save_template, tokens_of
from tuneyard.train.launch import is_rank, launch
from tuneyard.train.library import imported
from tuneyard.train.plot import plot_loss
from tuneyard.train.resume import last_checkpoint
from tuneyard.train.schema import argument_classes, keys_of

if TYPE_CHECKING:
    from transformers import TrainerCallback

ADAPTERS = ("lora", "oft")
"""Fine-tuning types that leave an adapter, not a model."""


def run(job: Job) -> None:
    """Train, and leave model or adapter, metrics and plot in the run folder."""
    notes: list[str] = []
    data = Data.from_manifest(job.folder.data, read_json(job.folder.data_manifest))
    values = library_arguments(job.spec, data, str(_output(job)), notes)
    refuse_unready(values)
    if not is_rank() and (processes(job.spec) > 1 or "deepspeed" in values):
        launch(job)
    else:
        _train(job, values, notes)


def _output(job: Job) -> Path:
    return job.folder.raw / str(job.attempt.number)


def refuse_unready(values: dict[str, Any]) -> None:
    """Raise SetupError for 4-bit training where it cannot work; LLaMA-Factory notices only after reading all data."""
    quantizes = values.get("quantization_bit") and values.get("quantization_method", "bnb") == "bnb"
    if quantizes and find_spec("bitsandbytes") is None:
        raise SetupError(
            "quantization_bit needs bitsandbytes, which this environment has not",
            where="engine.quantization_bit",
            way_out="on a machine with an NVIDIA GPU `./pixiw install -e train` brings it; without one leave "
            "engine.quantization_bit out: LoRA on the weights as they are",
        )


def _train(job: Job, values: dict[str, Any], notes: list[str]) -> None:
    spec: TrainSpec = job.spec
    os.environ.setdefault("HF_DATASETS_CACHE", str(_cache(job)))
    with job.timed("import"), imported():
        from llamafactory.hparams import get_train_args
        from llamafactory.train.tuner import run_exp

        from tuneyard.train.callback import RunCallback
    job.describe_environment()
    _resume(job, values)
    with explained_arguments(spec, lambda: keys_of(*argument_classes())):
        model, data, _, finetuning, _ = get_train_args(dict(values))
    with explained_training(spec):
        tokens = tokens_of(model, data, chat=finetuning.stage != "pt")
    _tell(job, values, tokens, notes)
    callback, start = RunCallback(job), time.perf_counter()
    with explained_training(spec):
        run_exp(values, [callback, *(user_callback(ref) for ref in spec.callbacks)])
    job.timing |= {
        "load": round(callback.began - start, 3),
        "train": round(callback.ended - callback.began, 3),
        "save": round(time.perf_counter() - callback.ended, 3),
    }
    if job.rank == 0:
        _leave(job, values, tokens, adapter=finetuning.finetuning_type in ADAPTERS)


def _cache(job: Job) -> Path:
    """Where the library keeps its tables of the dataset while the run needs them: shared by the run's attempts."""
    return job.folder.raw / "cache"


def _resume(job: Job, values: dict[str, Any]) -> None:
    """Go on from the last whole checkpoint of an earlier attempt."""
    checkpoint = last_checkpoint(job.folder)
    if checkpoint is None:
        return
    stage, kind = values.get("stage", "sft"), values.get("finetuning_type", "lora")
    if stage == "rm" and kind not in ADAPTERS:
        if job.rank == 0:
            job.warn(f"LLaMA-Factory cannot resume a reward model trained with {kind}: it starts again")
        return
    values["resume_from_checkpoint"] = str(checkpoint)
    if stage == "rm":
        values["adapter_name_or_path"] = str(checkpoint)
        values["resume_from_checkpoint"] = str(export.with_value_head(checkpoint, _cache(job) / checkpoint.name))
    job.details["resumed_from"] = checkpoint.relative_to(job.folder.path).as_posix()


def _tell(job: Job, values: dict[str, Any], tokens: Tokens, notes: list[str]) -> None:
    """What a person should know before the first step, and the YAML with which LLaMA-Factory does the same."""
    if job.rank != 0:
        return
    if tokens.note:
        notes.append(tokens.note)
    for note in notes:
        job.warn(note)
    job.details |= {"notes": notes, "template": values.get("template"), "arguments": values}
    alone = {k: v for k, v in values.items() if k != "resume_from_checkpoint"}
    write_atomically(job.folder.artifacts / FILE_NAME, as_yaml(alone | {"output_dir": f"saves/{job.folder.id}"}))
    job.artifact("llamafactory_yaml", job.folder.artifacts / FILE_NAME)


def user_callback(reference: CodeRef) -> TrainerCallback:
    """The callback that a user's function returns, or an object of the user's class.

    Raises:
        RequestError: it is none of transformers' TrainerCallback.
    """
    from transformers import TrainerCallback

    made = load_code(reference)()
    if not isinstance(made, TrainerCallback):
        raise RequestError(
            f"`{reference.name}` gives a {type(made).__name__}",
            where=reference.path,
            way_out="it must return a transformers.TrainerCallback, or be a class that is one",
        )
    return made


def _leave(job: Job, values: dict[str, Any], tokens: Tokens, adapter: bool) -> None:
    """Artifacts and metrics of a training that has ended well."""
    raw = _output(job)
    with job.timed("export"):
        made = export.collect(raw, job.folder.adapter if adapter else job.folder.model)
        save_template(tokens, made)
        job.artifact("adapter" if adapter else "model", made)
        if adapter and job.spec.merge:
            export.merge(values, made, job.folder.model)
            save_template(tokens, job.folder.model)
            job.artifact("model", job.folder.model)
    write_json(job.folder.fingerprint, tokens.fingerprint.model_dump())
    job.artifact("fingerprint", job.folder.fingerprint)
    history = read_json(raw / "trainer_state.json")["log_history"]
    with job.timed("plot"):
        picture = job.folder.artifacts / "loss.png"
        if plot_loss(history, picture, job.folder.id):
            job.artifact("loss_plot", picture)
    job.artifact("trainer_log", raw / "trainer_log.jsonl")
    for name, value in metrics(read_json(raw / "all_results.json"), history, "resumed_from" in job.details).items():
        job.metric(name, value)
    shutil.rmtree(_cache(job), ignore_errors=True)


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
