"""From a resolved spec to LLaMA-Factory's own arguments: a mapping, and a YAML file that its command runs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.core.documents import parse_yaml
from tuneyard.core.errors import RequestError
from tuneyard.core.specs import Spec, TrainSpec

FILE_NAME = "llamafactory.yaml"
"""The file that `llamafactory-cli train` runs without us."""

FIELDS: dict[str, str] = {
    "model_name_or_path": "model",
    "model_revision": "model",
    "adapter_name_or_path": "adapter",
    "dataset": "dataset",
    "dataset_dir": "dataset",
    "eval_dataset": "eval_dataset",
    "output_dir": "name",
    "seed": "seed",
}
"""LLaMA-Factory's key -> the field of the spec that stands for it; such a key is refused in `engine`."""

DEFAULTS: dict[str, Any] = {"report_to": "none", "logging_steps": 10, "logging_first_step": True}
"""What is set where `engine` does not say otherwise: nothing is sent anywhere, and a run is seen to move."""

STAGES = ("sft", "pt", "dpo", "kto", "rm")


@dataclass
class Data:
    """The dataset folder that a run trains on, in LLaMA-Factory's form."""

    folder: str
    """Where dataset_info.json is."""
    train: list[str]
    """Names of the datasets that are trained on."""
    eval: list[str] = field(default_factory=list)
    """Names of those whose loss is measured."""

    @classmethod
    def from_manifest(cls, folder: Path, manifest: dict[str, Any]) -> Data:
        """The datasets that `tuneyard.data prepare` wrote into `folder`."""
        entries = manifest["datasets"]
        names = {role: [e["name"] for e in entries if e["role"] == role] for role in ("train", "eval")}
        return cls(str(folder), names["train"], names["eval"])

    @classmethod
    def from_spec(cls, spec: TrainSpec) -> Data:
        """The names that datasets will have which are not prepared yet."""
        return cls("data", _names("train", len(spec.dataset)), _names("eval", len(spec.eval_dataset)))


def _names(role: str, count: int) -> list[str]:
    return [f"{role}-{n}" if n > 1 else role for n in range(1, count + 1)]


def processes(spec: TrainSpec) -> int:
    """How many processes train on a node: the spec's number, else one per GPU, one without."""
    gpus = spec.gpus if isinstance(spec.gpus, int) else 0
    return spec.processes or max(1, gpus)


def arguments(spec: Spec) -> dict[str, Any]:
    """What the verb `arguments` answers; needs neither LLaMA-Factory nor data.

    Raises:
        RequestError: the spec asks for what cannot be.
    """
    assert isinstance(spec, TrainSpec)
    notes: list[str] = []
    values = library_arguments(spec, Data.from_spec(spec), f"saves/{spec.name or 'run'}", notes)
    return {
        "arguments": values,
        "file": as_yaml(values),
        "file_name": FILE_NAME,
        "command": ["llamafactory-cli", "train", FILE_NAME],
        "notes": notes,
    }


def library_arguments(spec: TrainSpec, data: Data, output: str, notes: list[str]) -> dict[str, Any]:
    """LLaMA-Factory's arguments for a run.

    Args:
        spec: the resolved spec.
        data: the dataset folder.
        output: where LLaMA-Factory is to write.
        notes: takes one sentence for everything that is not done as it was written.

    Raises:
        RequestError: a key that the spec has a field for, a stage that does not work, do_train: false.
    """
    engine = dict(spec.engine)
    refuse_owned(engine)
    refuse_stage(engine.get("stage", "sft"))
    values: dict[str, Any] = {"model_name_or_path": spec.model.name_or_path}
    if spec.model.path is None and spec.model.revision:
        values["model_revision"] = spec.model.revision
    if adapters := adapters_of(spec):
        values["adapter_name_or_path"] = ",".join(adapters)
    values |= {"dataset_dir": data.folder, "dataset": ",".join(data.train)}
    if data.eval:
        values["eval_dataset"] = ",".join(data.eval)
    values |= {"output_dir": output, "do_train": True, "seed": spec.seed}
    if spec.nodes * processes(spec) == 1:  # with several, each count would cost an exchange between them
        values["include_num_input_tokens_seen"] = "non_padding"
    without_gpu = spec.gpus == 0 and sys.platform != "darwin"
    return values | DEFAULTS | _measuring(engine, data) | (_for_cpu(engine, notes) if without_gpu else engine)


def adapters_of(spec: TrainSpec) -> list[str]:
    """The adapters that go onto the model, in order: the one of the run that it is named by, and the spec's own."""
    return [a for a in (spec.model.adapter, spec.adapter and spec.adapter.name_or_path) if a]


def refuse_owned(engine: dict[str, Any]) -> None:
    """Raise RequestError for a key that the spec has a field for, or that would not train."""
    for key, name in FIELDS.items():
        if key in engine:
            raise RequestError(
                f"`{key}` is set by tuneyard", where=f"engine.{key}", way_out=f"use the spec's own field `{name}`"
            )
    if engine.get("do_train") is False:
        raise RequestError(
            "a run of kind `train` trains", where="engine.do_train", way_out="leave it out; `yard run` with kind `eval`"
        )


def refuse_stage(stage: Any) -> None:
    """Raise RequestError for a stage that the pinned LLaMA-Factory cannot train."""
    if stage == "ppo":
        raise RequestError(
            "LLaMA-Factory's ppo needs trl <= 0.9.6, which does not work with the transformers that it needs itself",
            where="engine.stage",
            way_out="train on preferences with `stage: dpo` (or kto), or a reward model with `stage: rm`",
        )
    if stage not in STAGES:
        raise RequestError(
            f"unknown stage {stage!r}", where="engine.stage", way_out="known: " + ", ".join(sorted(STAGES))
        )


def _measuring(engine: dict[str, Any], data: Data) -> dict[str, Any]:
    """When the loss is measured on data that is not trained on, where the spec gives such data but no times."""
    values: dict[str, Any] = {}
    measures = bool(data.eval or engine.get("val_size"))
    if measures:
        values["eval_strategy"] = "steps" if "eval_steps" in engine else "epoch"
    if engine.get("early_stopping_steps") is not None:
        if not measures:
            raise RequestError(
                "early stopping watches a loss that nothing measures",
                where="engine.early_stopping_steps",
                way_out="give an `eval_dataset`, or set aside a part of the dataset with `engine.val_size=0.05`",
            )
        values["metric_for_best_model"] = "eval_loss"
        values["greater_is_better"] = False
    return values


def _for_cpu(engine: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The engine's keys on a machine without GPU; `notes` tells what differs."""
    values = dict(engine)
    if values.get("fp16"):
        raise RequestError(
            "fp16 needs a GPU", where="engine.fp16", way_out="engine.bf16=true works on a CPU too, or leave both out"
        )
    if values.get("bf16") and not values.get("use_cpu"):
        values["use_cpu"] = True
        notes.append("bf16 without a GPU: trained in bf16 on the CPU, by `use_cpu: true`")
    if values.get("deepspeed") and importlib.util.find_spec("deepspeed") is None:
        del values["deepspeed"]
        notes.append("no GPU and no DeepSpeed here: trained without `deepspeed`, which only divides memory")
    return values


def as_yaml(values: dict[str, Any]) -> str:
    """The arguments as the text of a file that LLaMA-Factory's command reads."""
    import yaml

    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1_000_000)
    assert parse_yaml(text, FILE_NAME) == values  # numbers such as 1e-05 must come back as numbers
    return text
