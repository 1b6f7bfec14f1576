"""The documents of a study: what stands in `experiment.yaml`, read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from tuneyard.core.documents import SCHEMA_VERSION, Document, check_version, read_yaml, validate
from tuneyard.core.errors import RequestError
from tuneyard.core.specs import Seconds


def _text(value: Any) -> Any:
    """YAML reads `2026-11-21` as a date."""
    return value if value is None or isinstance(value, str) else str(value)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) or value is None else [value]


class About(Document):
    """What the study asks, and who asks it."""

    name: str = Field(min_length=1)
    """Name of the study; `yard runs --study NAME` lists its runs."""
    question: str = ""
    """What is to be found out."""
    hypothesis: str = ""
    """What is expected, written down before anything is measured."""
    researcher: str = ""
    """Who asks."""
    date: Annotated[str, BeforeValidator(_text)] = ""
    """When it was designed."""
    tags: list[str] = Field(default_factory=list)
    """Words to find it by."""
    notes: str = ""
    """Anything else."""


class Task(Document):
    """A task every trained model is evaluated on. A person may write its name alone."""

    task: str
    """`arithmetic`, a task of lm-eval, a file of tasks, `file.py@task` of Inspect, or `inspect_evals/name`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the task. A relative path among them is meant from the task's file, then from the study."""
    metric: str | None = None
    """The metric the report is about, such as `exact_match`. Null: the first that the task gives."""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"task": value} if isinstance(value, str) else value


class EvaluationPlan(Document):
    """What becomes of a trained model."""

    enabled: bool = True
    """False: the models are only trained."""
    tasks: Annotated[list[Task], BeforeValidator(_listed), Field(min_length=1)]
    """Tasks of lm-eval, of Inspect, or of both."""
    tasks_dir: str | None = None
    """Folder in which task files are looked for first. Null: the folder of experiment.yaml."""
    baseline: bool = True
    """Also evaluate the model that every training starts from; the report compares with it."""
    limit: int | None = Field(default=None, ge=1)
    """Documents per task. Null: all."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Worked examples in the prompt (lm-eval). Null: the task's own number."""
    apply_chat_template: bool | None = None
    """Put prompts into the chat template. Null: exactly when the training did."""
    batch_size: int | None = Field(default=None, ge=1)
    """Documents at once per device. Null: 8."""
    data: str | None = None
    """Folder of a task's own data, as gsm8k takes it."""
    dtype: str | None = None
    """torch dtype of the weights. Null: the model's own."""
    allow_token_mismatch: bool = False
    """Evaluate although the evaluation's environment tokenizes the model differently."""
    time_limit: Seconds | None = None
    """Seconds (or `1h30m`) after which an evaluation is stopped and has failed. Null: none."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """Further settings of the evaluation library, under its own names."""


class Output(Document):
    """Where the study writes, relative to experiment.yaml."""

    configs_dir: str = "configs"
    """One configuration per run, and run_mapping.yaml."""
    scripts_dir: str = "scripts"
    """Batch scripts."""
    results_dir: str = "results"
    """Links to what each training left."""
    eval_results_dir: str = "eval_results"
    """Links to what each evaluation left; `inspect view` opens it."""
    report_dir: str = "."
    """report.html, report.md, results.csv and results.parquet."""


class Cost(Document):
    """What a run costs, where it has not been measured yet."""

    train_time: Seconds | None = None
    """Seconds (or `45m`) of one training on its devices. Null: the mean of this study's finished trainings."""
    eval_time: Seconds | None = None
    """Seconds of one evaluation. Null: measured likewise."""
    run_gigabytes: float | None = Field(default=None, gt=0)
    """Disk that one run takes, in 10^9 bytes. Null: measured likewise."""


class Experiment(Document):
    """`experiment.yaml`: one question, many runs."""

    schema_version: int = SCHEMA_VERSION
    """Version of this document's form."""
    experiment: About
    """What the study asks."""
    base: str | dict[str, Any]
    """A training spec or LLaMA-Factory YAML that every run starts from: a path, or the mapping itself."""
    variables: dict[str, Any] = Field(min_length=1)
    """What is varied: `key: [values]` for a full factorial, `zip` for keys that go together, `random` for a sample."""
    controls: dict[str, Any] = Field(default_factory=dict)
    """What is held fixed in every run, over what the base says."""
    seeds: Annotated[list[int], BeforeValidator(_listed)] = Field(default_factory=list)
    """Every combination is trained once with each. Empty: once, with the base's own seed."""
    evaluation: EvaluationPlan | None = None
    """What the trained models are evaluated on. Null: nothing."""
    output: Output = Field(default_factory=Output)
    """Where the study writes."""
    cost: Cost = Field(default_factory=Cost)
    """What a run costs, for `yard study plan`."""
    slurm: dict[str, Any] = Field(default_factory=dict)
    """What the batch scripts ask of SLURM: sbatch's own long options, such as partition, account, gres and time."""
    notes: list[str] = Field(default_factory=list, exclude=True)
    """What was decided while an older form was read; not written by hand."""


def read_experiment(path: Path) -> Experiment:
    """The experiment in a file, of this form or of the older one that torchtune's studies have.

    Raises:
        RequestError: no such file, not YAML, or a key that is unknown, missing or wrong.
    """
    from tuneyard.study.torchtune import is_older_form, translate

    data = read_yaml(path)
    if not isinstance(data, dict):
        raise RequestError("an experiment is a mapping of keys to values", where=str(path))
    check_version(data, str(path))
    if is_older_form(data):
        data = translate(data, path)
    elif "notes" in data:
        raise RequestError("unknown key 'notes'", where=str(path), way_out="write it under `experiment`")
    return validate(Experiment, data, str(path))
