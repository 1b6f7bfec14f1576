"""Specs: what a run is to do. Typed fields are what tuneyard uses; the rest is `engine`, in the library's words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tuneyard.core.documents import SCHEMA_VERSION, Document, validate
from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.references import CodeRef, DatasetSource, ModelRef


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) or value is None else [value]


def parse_duration(value: Any) -> Any:
    """Seconds from a number or from text such as `90`, `45m`, `1h30m`, `2d`.

    Raises:
        ValueError: the text is not a duration.
    """
    if not isinstance(value, str):
        return value
    import re

    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", value.strip())
    if not match or not any(match.groups()):
        raise ValueError("must be seconds or a duration such as 45m or 1h30m")
    return sum(int(n) * units[u] for n, u in zip(match.groups(), "dhms", strict=True) if n)


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$")]


class RunSpec(Document):
    """What specs of every kind share."""

    schema_version: int = SCHEMA_VERSION
    """Version of this document's form."""
    name: Slug | None = None
    """Slug that becomes part of the run id: a-z, 0-9 and -, at most 24. Null: from the dataset or the task."""
    seed: int = 42
    """Seed of every random choice. Default: 42, LLaMA-Factory's and transformers' own."""
    gpus: int | Literal["all"] | None = None
    """How many GPUs the run leases. Null: 1 where there is one, else 0. `all`: every one it may use."""
    time_limit: Seconds | None = None
    """Seconds (or `1h30m`) after which the run is stopped and fails with kind `time_limit`. Null: none."""
    cancel_grace: Seconds = 60
    """Seconds between the polite end of a cancelled run (TERM) and the forced one (KILL)."""
    code: list[CodeRef] = Field(default_factory=list)
    """Every file of the user's that the run imports, with its hash; filled in by resolving."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """All other settings, under the library's own names, checked against the installed version's schema."""


class TrainSpec(RunSpec):
    """A fine-tune by LLaMA-Factory."""

    kind: Literal["train"] = "train"
    """Always `train`."""
    model: ModelRef
    """The model that is trained."""
    adapter: ModelRef | None = None
    """An adapter to go on training, or that a DPO run starts from. Null: none."""
    dataset: Annotated[list[DatasetSource], BeforeValidator(_listed), Field(min_length=1)]
    """What it is trained on: one dataset or a list."""
    eval_dataset: Annotated[list[DatasetSource], BeforeValidator(_listed)] = Field(default_factory=list)
    """What its loss is measured on while it trains. Empty: nothing, or `engine.val_size` of the dataset."""
    effective_batch_size: int | None = Field(default=None, ge=1)
    """Examples per optimizer step over all devices. Null: `engine`'s own batch keys say it."""
    processes: int | None = Field(default=None, ge=1)
    """Training processes. Null: one per GPU, one on a CPU."""
    merge: bool = False
    """Also write the adapter merged into its base, as artifacts/model."""
    callbacks: Annotated[list[CodeRef], BeforeValidator(_listed)] = Field(default_factory=list)
    """`path/file.py:function`s that return a transformers TrainerCallback."""


class TaskRef(Document):
    """A task to evaluate. In a spec a person writes its name, or a mapping with `task`."""

    task: str
    """`gsm8k`, `arithmetic`, a task of lm-eval, a task file or folder of lm-eval, `file.py@task` of Inspect,
    or `inspect_evals/name`."""
    path: str | None = None
    """Absolute path of a task file or folder, filled in by resolving."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of an Inspect task, or of `arithmetic` (digits, seed, size)."""


def _tasks(value: Any) -> Any:
    return [{"task": t} if isinstance(t, str) else t for t in _listed(value) or []]


class EvalSpec(RunSpec):
    """An evaluation by lm-eval, or by Inspect when its tasks are Inspect's."""

    kind: Literal["eval"] = "eval"
    """Always `eval`."""
    model: ModelRef | None = None
    """The model that is evaluated. Null: the newest succeeded run that made a causal language model."""
    adapter: ModelRef | None = None
    """An adapter on top of the model. Null: the one that `model` names, if any."""
    tasks: Annotated[list[TaskRef], BeforeValidator(_tasks), Field(min_length=1)]
    """What it is evaluated on; all of one framework."""
    data: str | None = None
    """Folder of a task's own data: for gsm8k `train.jsonl` and `test.jsonl`. Null: the hub or its cache."""
    limit: int | None = Field(default=None, ge=1)
    """Documents per task. Null: all."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Worked examples in the prompt. Null: the task's own number."""
    apply_chat_template: bool | None = None
    """Put prompts into the chat template. Null: exactly when the training of the model did."""
    batch_size: int | Literal["auto"] = 8
    """Documents at once per device."""
    quantization_bit: Literal[4, 8] | None = None
    """Load the weights in 4 or 8 bit (bitsandbytes; CUDA). Null: as they are."""
    dtype: str | None = None
    """torch dtype of the weights, such as bfloat16. Null: the model's own."""
    lm: CodeRef | None = None
    """`path/file.py:function` that returns an lm_eval.api.model.LM, in place of loading `model`."""
    allow_token_mismatch: bool = False
    """Evaluate although this environment tokenizes the model differently from the one that trained it."""


SPECS: dict[str, type[TrainSpec] | type[EvalSpec]] = {"train": TrainSpec, "eval": EvalSpec}
"""Kind -> model. The environment and the worker of a kind carry its name."""

Spec = TrainSpec | EvalSpec


def parse_spec(data: Any, where: str) -> Spec:
    """A mapping with `kind` as the spec of that kind.

    Raises:
        RequestError: not a mapping, no or an unknown kind, or a wrong field; see `documents.validate`.
    """
    if not isinstance(data, dict):
        raise RequestError("a spec is a mapping of keys to values", where=where)
    kind = data.get("kind")
    if kind not in SPECS:
        raise unknown("kind", str(kind), SPECS, where=where)
    return validate(SPECS[kind], data, where)
