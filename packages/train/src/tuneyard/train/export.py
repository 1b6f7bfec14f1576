"""What a run leaves for others: weights and tokenizer without the trainer's own files; the adapter merged."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RunError
from tuneyard.train.library import COMMA, aliased
from tuneyard.train.schema import keys_of

_OF_THE_TRAINER = (
    "checkpoint-*",
    "global_step*",
    "trainer_*",
    "training_*",
    "*_results.json",
    "optimizer*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*",
    "latest",
    "zero_to_*.py",
    "runs",
    "wandb",
    "profiler",
    "pissa_init",
    "pissa_backup",
    "cache",
)
_WEIGHTS = ("*.safetensors", "*.bin")


def collect(raw: Path, target: Path) -> Path:
    """Give weights, configuration and tokenizer in `raw` a second name in `target`; the trainer's files stay behind.

    Raises:
        RunError: there are no weights in `raw`.
    """
    if not any(file for pattern in _WEIGHTS for file in raw.glob(pattern) if not file.match("training_args.bin")):
        raise RunError(
            "LLaMA-Factory wrote no weights in one piece",
            where=str(raw),
            way_out="DeepSpeed: `stage3_gather_16bit_weights_on_model_save: true`; FSDP: `fsdp_config: "
            "{state_dict_type: FULL_STATE_DICT}`; the parts are in its checkpoints",
        )
    return _linked(raw, target, _OF_THE_TRAINER)


def with_value_head(checkpoint: Path, target: Path) -> Path:
    """A reward model's LoRA checkpoint in the form that the trainer can load.

    LLaMA-Factory restores adapter and value head when it is given the checkpoint as the adapter. The trainer, which
    restores the rest, stops where there are no weights under the name it knows: the value head gets that name too.
    """
    _linked(checkpoint, target)
    (target / "model.safetensors").unlink(missing_ok=True)
    _link(str(checkpoint / "value_head.safetensors"), str(target / "model.safetensors"))
    return target


def _linked(source: Path, target: Path, but: tuple[str, ...] = ()) -> Path:
    """`target` with a second name for every file of `source`; what was there before is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*but), copy_function=_link)
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def merge(values: dict[str, Any], before: list[str], adapter: Path, target: Path) -> None:
    """Write the adapter merged into its base to `target`, by LLaMA-Factory's own export.

    Args:
        values: the arguments of the training; template, vocabulary and fine-tuning keys are passed on.
        before: adapters that were merged into the base before the training.
        adapter: the adapter that was trained.
        target: the folder of the merged model.
    """
    from llamafactory.hparams import DataArguments, FinetuningArguments, GeneratingArguments, ModelArguments
    from llamafactory.train.tuner import export_model
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # else ZeRO-3, which trained, would divide the model that is loaded now
    known = keys_of(ModelArguments, DataArguments, FinetuningArguments, GeneratingArguments)
    kept = {key: value for key, value in values.items() if key in known and not key.startswith("quantization_")}
    with ExitStack() as names:
        plain = [names.enter_context(aliased(path, COMMA)) for path in (*before, str(adapter))]
        export_model(kept | {"adapter_name_or_path": ",".join(plain), "export_dir": str(target)})
