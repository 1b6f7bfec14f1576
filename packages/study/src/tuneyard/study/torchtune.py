"""The older form of an experiment, written for torchtune, as one of ours: every name translated or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneyard.core.documents import read_yaml
from tuneyard.core.errors import RequestError

NAMES: dict[str, str] = {
    "lora_rank": "lora_rank",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "model.lora_rank": "lora_rank",
    "model.lora_alpha": "lora_alpha",
    "model.lora_dropout": "lora_dropout",
    "model.use_dora": "use_dora",
    "optimizer.lr": "learning_rate",
    "lr": "learning_rate",
    "learning_rate": "learning_rate",
    "optimizer.weight_decay": "weight_decay",
    "weight_decay": "weight_decay",
    "optimizer.eps": "adam_epsilon",
    "lr_scheduler.num_warmup_steps": "warmup_steps",
    "num_warmup_steps": "warmup_steps",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "batch_size_val": "per_device_eval_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "clip_grad_norm": "max_grad_norm",
    "compile": "torch_compile",
    "log_every_n_steps": "logging_steps",
    "run_val_every_n_steps": "eval_steps",
    "tokenizer.max_seq_len": "cutoff_len",
    "max_seq_len": "cutoff_len",
    "dataset.packed": "packing",
    "packed": "packing",
    "dataset.train_on_input": "train_on_prompt",
    "train_on_input": "train_on_prompt",
}
"""torchtune's name -> LLaMA-Factory's, where the values mean the same."""

WITHOUT_MEANING = (
    "output_dir",
    "checkpointer",
    "metric_logger",
    "device",
    "profiler",
    "log_peak_memory_stats",
    "log_level",
    "loss",
    "tokenizer",
    "save_adapter_weights_only",
    "save_last_epoch_only",
    "my_wandb_project",
    "my_wandb_run_name",
)
"""Names, and what stands below them, that say where and how torchtune writes; a run of ours has its own folder. The
loss is cross-entropy in both, and a tokenizer is the model's own."""

OPTIMIZERS = {
    "torch.optim.AdamW": "adamw_torch",
    "torch.optim.SGD": "sgd",
    "bitsandbytes.optim.PagedAdamW8bit": "paged_adamw_8bit",
    "bitsandbytes.optim.PagedAdamW": "paged_adamw_32bit",
    "bitsandbytes.optim.AdamW8bit": "adamw_bnb_8bit",
}
"""torchtune's optimizer -> `optim`."""

MODULES = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "output_proj": "o_proj"}
"""torchtune's attention modules -> those of a Llama in transformers."""

MLP = ("gate_proj", "up_proj", "down_proj")

_LR = "torchtune.training.lr_schedulers."


def is_older_form(data: dict[str, Any]) -> bool:
    """Whether an experiment has the keys of the older form."""
    about = data.get("experiment")
    return "framework_config" in data or (isinstance(about, dict) and "framework" in about)


def translate(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """The older form as a mapping of ours.

    Raises:
        RequestError: another framework, no base configuration, or a name without counterpart.
    """
    about = dict(data.get("experiment") or {})
    framework = about.pop("framework", "torchtune")
    if framework != "torchtune":
        raise RequestError(f"framework {framework!r}: the older form is read for torchtune", where=str(path))
    unread = set(data) - {"experiment", "framework_config", "variables", "controls", "seeds", "evaluation", "output"}
    if unread:
        raise RequestError(f"unknown key {sorted(unread)[0]!r}", where=str(path))
    notes: list[str] = []
    controls = dict(data.get("controls") or {})
    settings = {**_base_config(data, path), **_flat(controls.pop("_override", None) or {}), **_flat(controls)}
    varied, together = _variables(data.get("variables") or {}, str(path), notes)
    settings = {key: value for key, value in settings.items() if _spelled(key) not in together}
    translated = {
        "experiment": about,
        "base": _base(settings, str(path), notes),
        "variables": varied,
        "seeds": data.get("seeds") or [],
        "notes": [*notes, "the older form was read: torchtune's names were turned into LLaMA-Factory's"],
    }
    if (data.get("evaluation") or {}).get("enabled", bool(data.get("evaluation"))):
        translated["evaluation"] = _evaluation(data["evaluation"], str(path))
    if data.get("output"):
        translated["output"] = data["output"]
    return translated


def _base_config(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """torchtune's own configuration, flattened to dotted names."""
    given = (data.get("framework_config") or {}).get("base_config")
    if given is None:
        raise RequestError("the key 'framework_config.base_config' is missing", where=str(path))
    content = given if isinstance(given, dict) else read_yaml(path.parent / str(given))
    if not isinstance(content, dict):
        raise RequestError("is no mapping of settings", where=str(given))
    return _flat(content)


def _flat(content: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{above}{key}"
        whole = name.startswith("dataset") and key in ("column_map", "data_files")
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) and not whole else {name: value}
    return flat


def _variables(given: dict[str, Any], where: str, notes: list[str]) -> tuple[dict[str, Any], set[str]]:
    varied: dict[str, Any] = {}
    for name, values in given.items():
        if name == "zip" and isinstance(values, dict):
            varied["zip"] = {_variable(key, where): value for key, value in values.items()}
            continue
        varied[_variable(name, where)] = values
    names = {*varied, *(varied.get("zip") or {})}
    return varied, {name.removeprefix("engine.") for name in names}


def _spelled(name: str) -> str:
    return NAMES.get(name, name)


def _variable(name: str, where: str) -> str:
    if name == "seed":
        return name
    if name in NAMES:
        return f"engine.{NAMES[name]}"
    if name in ("model", "checkpointer.checkpoint_dir"):
        return "model"
    if name in ("dataset", "dataset.data_files"):
        return "dataset"
    raise _without_counterpart(name, f"{where}: variables")


def _without_counterpart(name: str, where: str) -> RequestError:
    return RequestError(
        f"torchtune's {name!r} has no counterpart in LLaMA-Factory",
        where=where,
        way_out="leave it out, or write the experiment in the newer form with LLaMA-Factory's own keys",
    )


def _base(settings: dict[str, Any], where: str, notes: list[str]) -> dict[str, Any]:
    """A training spec from torchtune's settings."""
    spec: dict[str, Any] = {"kind": "train", "engine": {"stage": "sft"}}
    _model(settings, spec, where)
    _dataset(settings, spec, where)
    _lora_target(settings, spec["engine"])
    for name, value in settings.items():
        if value is None or (name.split(".")[0] in WITHOUT_MEANING and name not in NAMES):
            continue
        if name in NAMES:
            spec["engine"][NAMES[name]] = value
        elif name in SPECIAL:
            SPECIAL[name](value, spec, where)
        else:
            raise _without_counterpart(name, where)
    return spec


def _model(settings: dict[str, Any], spec: dict[str, Any], where: str) -> None:
    folder = settings.pop("model_path", None) or settings.get("checkpointer.checkpoint_dir")
    if folder is None:
        raise RequestError(
            "torchtune's checkpointer.checkpoint_dir, the model to train, is missing",
            where=where,
            way_out="set controls: {_override: {checkpointer: {checkpoint_dir: FOLDER}}}",
        )
    spec["model"] = folder
    component = str(settings.pop("model._component_", ""))
    kind = component.rpartition(".")[2]
    lora = kind.startswith(("lora_", "qlora_")) or any(name.endswith("lora_rank") for name in settings)
    spec["engine"]["finetuning_type"] = "lora" if lora else "full"
    if kind.startswith("qlora_") or settings.pop("model.quantize_base", False):
        spec["engine"]["quantization_bit"] = 4


def _dataset(settings: dict[str, Any], spec: dict[str, Any], where: str) -> None:
    for field, prefix in (("dataset", "dataset."), ("eval_dataset", "dataset_val.")):
        mine = {name.removeprefix(prefix): name for name in settings if name.startswith(prefix)}
        taken = {key: settings.pop(name) for key, name in mine.items() if name not in NAMES}
        if not taken:
            continue
        source, files = taken.pop("source", None), taken.pop("data_files", None)
        files = files.get("train") if isinstance(files, dict) else files
        entry: dict[str, Any] = {"source": files if source in (None, "json", "csv", "parquet") else source}
        if entry["source"] is None:
            raise RequestError(f"torchtune's {prefix}source or data_files is missing", where=where)
        if columns := taken.pop("column_map", None):
            entry["columns"] = _roles(columns)
        if split := taken.pop("split", None):
            entry["split"] = split
        for key in ("_component_", "new_system_prompt", "conversation_column", "conversation_style"):
            if taken.pop(key, None) is not None and key == "new_system_prompt":
                raise _without_counterpart(f"{prefix}{key}", where)
        if taken:
            raise _without_counterpart(prefix + next(iter(taken)), where)
        spec[field] = entry
    if "dataset" not in spec:
        raise RequestError("torchtune's dataset is missing", where=where)


def _roles(columns: dict[str, str]) -> dict[str, str]:
    names = {"instruction": "prompt", "input": "query", "output": "response"}
    return {names.get(role, role): column for role, column in columns.items()}


def _lora_target(settings: dict[str, Any], engine: dict[str, Any]) -> None:
    modules = settings.pop("model.lora_attn_modules", None) or []
    targets = [MODULES[name] for name in modules if name in MODULES]
    if settings.pop("model.apply_lora_to_mlp", False):
        targets += MLP
    if settings.get("model.apply_lora_to_output") is False:
        del settings["model.apply_lora_to_output"]
    if targets:
        engine["lora_target"] = ",".join(targets)


def _set(key: str, value: Any) -> Callable[[Any, dict[str, Any], str], None]:
    def place(given: Any, spec: dict[str, Any], where: str) -> None:
        spec["engine"][key] = value(given) if callable(value) else value

    return place


def _seed(given: Any, spec: dict[str, Any], where: str) -> None:
    spec["seed"] = given


def _precision(given: Any, spec: dict[str, Any], where: str) -> None:
    if given not in ("bf16", "fp16", "fp32"):
        raise _without_counterpart(f"dtype: {given}", where)
    if given != "fp32":
        spec["engine"][given] = True


def _optimizer(given: Any, spec: dict[str, Any], where: str) -> None:
    if given not in OPTIMIZERS:
        raise _without_counterpart(f"optimizer._component_: {given}", where)
    spec["engine"]["optim"] = OPTIMIZERS[given]


def _fused(given: Any, spec: dict[str, Any], where: str) -> None:
    if given:
        spec["engine"]["optim"] = "adamw_torch_fused"


def _betas(given: Any, spec: dict[str, Any], where: str) -> None:
    spec["engine"]["adam_beta1"], spec["engine"]["adam_beta2"] = given


def _schedule(given: Any, spec: dict[str, Any], where: str) -> None:
    if given != f"{_LR}get_cosine_schedule_with_warmup":
        raise _without_counterpart(f"lr_scheduler._component_: {given}", where)
    spec["engine"]["lr_scheduler_type"] = "cosine"


def _unless(neutral: Any, name: str) -> Callable[[Any, dict[str, Any], str], None]:
    def place(given: Any, spec: dict[str, Any], where: str) -> None:
        if given != neutral:
            raise _without_counterpart(f"{name}: {given}", where)

    return place


def _steps(given: Any, spec: dict[str, Any], where: str) -> None:
    raise RequestError(
        "torchtune's 'max_steps_per_epoch' counts within an epoch, which LLaMA-Factory does not",
        where=where,
        way_out="leave it out and use the newer form with engine.max_steps",
    )


SPECIAL: dict[str, Callable[[Any, dict[str, Any], str], None]] = {
    "seed": _seed,
    "dtype": _precision,
    "optimizer._component_": _optimizer,
    "optimizer.fused": _fused,
    "optimizer.betas": _betas,
    "lr_scheduler._component_": _schedule,
    "enable_activation_checkpointing": _set("disable_gradient_checkpointing", lambda on: not on),
    "enable_activation_offloading": _unless(False, "enable_activation_offloading"),
    "activation_offloading_use_streams": _unless(False, "activation_offloading_use_streams"),
    "resume_from_checkpoint": _unless(False, "resume_from_checkpoint"),
    "shuffle": _set("disable_shuffling", lambda on: not on),
    "max_steps_per_epoch": _steps,
}
"""torchtune's names whose values mean something else in LLaMA-Factory."""


def _evaluation(given: dict[str, Any], where: str) -> dict[str, Any]:
    place = f"{where}: evaluation"
    if given.get("framework", "inspect") != "inspect":
        raise RequestError(f"framework {given['framework']!r}: the older form evaluates with inspect", where=place)
    if given.get("checkpoint", "last") != "last":
        raise RequestError(
            f"checkpoint {given['checkpoint']!r}: a run keeps its last model",
            where=place,
            way_out="checkpoint: last, or vary engine.max_steps",
        )
    if given.get("model_format", "hf") not in ("hf", "adapter"):
        raise RequestError(f"model_format {given['model_format']!r}", where=place, way_out="hf or adapter")
    tasks_dir = given.get("tasks_dir", "evals")
    tasks = []
    for task in given.get("tasks") or []:
        if not isinstance(task, dict) or "file" not in task:
            raise RequestError(f"a task has name, file, function and args (got {task!r})", where=place)
        name = task.get("function") or task.get("name")
        tasks.append({"task": f"{task['file']}@{name}", "arguments": task.get("args") or {}})
    return {"tasks": tasks, "tasks_dir": tasks_dir}
