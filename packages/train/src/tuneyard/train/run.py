"""The work of a training run: LLaMA-Factory through its Python interface."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import read_json, write_atomically
from tuneyard.core.references import CodeRef, load_code
from tuneyard.core.specs import TrainSpec
from tuneyard.core.worker import Job
from tuneyard.train import export
from tuneyard.train.arguments import FILE_NAME, Data, adapters_of, as_yaml, library_arguments, processes
from tuneyard.train.explain import explained_arguments, explained_training
from tuneyard.train.fingerprint import Tokens, tokens_of
from tuneyard.train.launch import is_rank, launch
from tuneyard.train.leave import cache, leave, makes_adapter, output
from tuneyard.train.library import COMMA, WILDCARDS, aliased, imported
from tuneyard.train.resume import is_finished, last_checkpoint, load_onto_numbered_cpus
from tuneyard.train.schema import argument_classes, keys_of

if TYPE_CHECKING:
    from transformers import TrainerCallback


def run(job: Job) -> None:
    """Train, and leave model or adapter, metrics and plot in the run folder."""
    notes: list[str] = []
    data = Data.from_manifest(job.folder.data, read_json(job.folder.data_manifest))
    values = library_arguments(job.spec, data, str(output(job)), notes)
    refuse_unready(values)
    if not is_rank() and (job.spec.nodes * processes(job.spec) > 1 or "deepspeed" in values):
        launch(job)
    else:
        _train(job, values, notes)


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
    os.environ.setdefault("HF_DATASETS_CACHE", str(cache(job)))
    with job.timed("import"), imported():
        import llamafactory.train.tuner  # noqa: F401 - all that training needs
        from llamafactory.hparams import get_train_args
    job.describe_environment()
    callbacks = [user_callback(reference) for reference in spec.callbacks]
    with explained_arguments(spec, lambda: keys_of(*argument_classes())):
        model, data, _, finetuning, _ = get_train_args(dict(values))
    with explained_training(spec):
        tokens = tokens_of(model, data, chat=finetuning.stage != "pt")
    _tell(job, values, tokens, notes)
    checkpoint = _checkpoint(job, values)
    if checkpoint is None or not is_finished(checkpoint):
        _fit(job, values, callbacks, checkpoint)
        checkpoint = None
    if job.rank == 0:
        leave(job, values, tokens, checkpoint or output(job))


def _fit(job: Job, values: dict[str, Any], callbacks: list[TrainerCallback], checkpoint: Path | None) -> None:
    """Load and train, from a checkpoint or from the beginning."""
    from llamafactory.train.tuner import run_exp

    from tuneyard.train.callback import RunCallback

    callback, start = RunCallback(job), time.perf_counter()
    with explained_training(job.spec), _readable(job, values) as readable:
        run_exp(readable | _resumed(job, values, checkpoint), [callback, *callbacks])
    job.timing |= {
        "load": round(callback.began - start, 3),
        "train": round(callback.ended - callback.began, 3),
        "save": round(time.perf_counter() - callback.ended, 3),
    }


@contextmanager
def _readable(job: Job, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The arguments with paths that the libraries take as they are."""
    with ExitStack() as names:
        folder = names.enter_context(aliased(values["dataset_dir"], WILDCARDS))
        adapters = [names.enter_context(aliased(adapter, COMMA)) for adapter in adapters_of(job.spec)]
        named = {"adapter_name_or_path": ",".join(adapters)} if adapters else {}
        yield {**values, "dataset_dir": folder, **named}


def _checkpoint(job: Job, values: dict[str, Any]) -> Path | None:
    """The last whole checkpoint of the earlier attempts, where LLaMA-Factory can go on from it."""
    checkpoint = last_checkpoint(job.folder)
    if checkpoint is None:
        return None
    if values.get("stage") == "rm" and not makes_adapter(values) and not is_finished(checkpoint):
        if job.rank == 0:
            job.warn("LLaMA-Factory can resume a reward model only if it is trained by LoRA: this one starts again")
        return None
    job.details["resumed_from"] = checkpoint.relative_to(job.folder.path).as_posix()
    return checkpoint


def _resumed(job: Job, values: dict[str, Any], checkpoint: Path | None) -> dict[str, Any]:
    """The arguments that go on from a checkpoint."""
    if checkpoint is None:
        return {}
    load_onto_numbered_cpus()
    if values.get("stage") != "rm":
        return {"resume_from_checkpoint": str(checkpoint)}
    place = export.with_value_head(checkpoint, cache(job) / f"{checkpoint.name}-{job.rank}")  # no process waits for it
    return {"adapter_name_or_path": str(checkpoint), "resume_from_checkpoint": str(place)}


def _tell(job: Job, values: dict[str, Any], tokens: Tokens, notes: list[str]) -> None:
    """What a person should know before the first step, and the YAML with which LLaMA-Factory does the same."""
    if job.rank != 0:
        return
    if tokens.note:
        notes.append(tokens.note)
    for note in notes:
        job.warn(note)
    job.details |= {"notes": notes, "template": values.get("template"), "arguments": values}
    alone = values | {"output_dir": f"saves/{job.folder.id}"}
    write_atomically(job.folder.artifacts / FILE_NAME, as_yaml(alone))
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
