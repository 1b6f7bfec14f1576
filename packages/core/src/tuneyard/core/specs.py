"""Specs: what a run is to do. Typed fields are what tuneyard uses; the rest is `engine`, in the library's words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tuneyard.core.documents import SCHEMA_VERSION, Document, validate
from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.references import CodeFile, CodeRef, DatasetSource, ModelRef


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
    code: list[CodeRef | CodeFile] = Field(default_factory=list)
    """Every file of the user's that the run imports or takes tasks from, with its hash; filled in by resolving."""
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
    """Training processes on each node. Null: one per GPU, one on a CPU."""
    nodes: int = Field(default=1, ge=1)
    """Machines that train together, each with `gpus` and `processes`; more than one only on SLURM."""
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
    endpoint: str | None = None
    """`run:ID` of a served model, or the base URL of an OpenAI-compatible server (`http://127.0.0.1:8000/v1`), which is
    asked in place of loading `model`; no device is taken. Null: the model is loaded."""
    endpoint_model: str | None = None
    """Name under which the server knows the model or adapter. Null: the model's own name, or the only one there."""


def _adapters(value: Any) -> Any:
    """A name for each adapter that is given without one: the run's id, or the last part of its path or hub id."""
    if value is None or isinstance(value, dict):
        return value or {}
    named: dict[str, Any] = {}
    for adapter in _listed(value):
        reference = adapter.get("reference", "") if isinstance(adapter, dict) else str(adapter)
        name = reference.removeprefix("run:").rstrip("/").rpartition("/")[2]
        if name in named:
            raise ValueError(f"two adapters are called {name!r}: write them as NAME: ADAPTER")
        named[name] = adapter
    return named


Adapters = Annotated[dict[str, ModelRef], BeforeValidator(_adapters)]
"""Adapters by the names that requests use; a list names each by its run or folder."""


class ServeSpec(RunSpec):
    """An OpenAI-compatible server by vLLM, until it is cancelled."""

    kind: Literal["serve"] = "serve"
    """Always `serve`."""
    model: ModelRef | None = None
    """The model that is served. Null: the newest succeeded run that made a causal language model."""
    adapters: Adapters = Field(default_factory=dict)
    """Adapters (LoRA) served beside the model: a list of `run:ID`s or folders, or a mapping of names to them."""
    served_name: str | None = None
    """Name under which requests ask for the model. Null: its run's id, else the reference as it was given."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but this machine's own needs an API key (variable TUNEYARD_API_KEY)."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one. vLLM's own default is 8000."""
    allow_token_mismatch: bool = False
    """Serve although this environment tokenizes the model differently from the one that trained it."""


class Structured(Document):
    """What form an answer must have; one of the three."""

    json_schema: dict[str, Any] | None = None
    """A JSON schema that the answer obeys."""
    choice: list[str] | None = None
    """The answer is one of these texts."""
    regex: str | None = None
    """The answer matches this regular expression."""

    @model_validator(mode="after")
    def _one(self) -> Structured:
        given = [form for form in (self.json_schema, self.choice or None, self.regex) if form is not None]
        if len(given) != 1:
            raise ValueError("must name one of the three: json_schema, choice (with a text in it), regex")
        return self


class GenerateSpec(RunSpec):
    """Texts generated for every record of a dataset: by vLLM, by a server, or by transformers."""

    kind: Literal["generate"] = "generate"
    """Always `generate`."""
    model: ModelRef | None = None
    """The model that answers. Null: the newest succeeded run that made a causal language model, or the endpoint's."""
    adapters: Adapters = Field(default_factory=dict)
    """Adapters (LoRA) that each answer every input, in one pass over one engine. Empty: the model alone."""
    dataset: DatasetSource
    """The inputs: records whose prompt, or messages without the last answer, are put to the model."""
    backend: Literal["vllm", "transformers"] | None = None
    """What computes. Null: vllm; transformers (in the environment eval) is slower and lacks structured output."""
    endpoint: str | None = None
    """`run:ID` of a served model, or the base URL of an OpenAI-compatible server, asked in place of an engine here."""
    endpoint_model: str | None = None
    """Name under which the server knows the model. Null: the only one there."""
    n: int = Field(default=1, ge=1)
    """Answers per input."""
    max_tokens: int = Field(default=256, ge=1)
    """Most tokens of an answer."""
    temperature: float = Field(default=0.0, ge=0)
    """0: the likeliest token every time; higher is more varied."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample among the likeliest tokens that together have this probability."""
    stop: Annotated[list[str], BeforeValidator(_listed)] = Field(default_factory=list)
    """Texts at which an answer ends; they are not part of it."""
    structured: Structured | None = None
    """What form answers must have. Null: any."""
    apply_chat_template: bool | None = None
    """Put inputs into the chat template. Null: exactly when the training of the model did; else where there is one."""
    batch_size: int = Field(default=256, ge=1)
    """Inputs under way at once: in the engine's queue, or as requests to the endpoint."""
    allow_token_mismatch: bool = False
    """Generate although this environment tokenizes the model differently from the one that trained it."""


Spec = TrainSpec | EvalSpec | ServeSpec | GenerateSpec

SPECS: dict[str, type[Spec]] = {"train": TrainSpec, "eval": EvalSpec, "serve": ServeSpec, "generate": GenerateSpec}
"""Kind -> model. `kinds.environment_of` tells the environment of a spec."""


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
