"""Starting trainings, evaluations and servers, or showing what they would do."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tuneyard.control.catalogue import example_path
from tuneyard.control.dataset_builds import inline_dataset
from tuneyard.control.paths import inside
from tuneyard.control.resolving.defaults import default_request
from tuneyard.control.resolving.overrides import from_fields
from tuneyard.control.resolving.request import Request, read_request
from tuneyard.control.resolving.scheduled import where_it_runs
from tuneyard.control.slurm.submit import options_on
from tuneyard.control.starting import Started, check_paths, job_text, library_arguments, start_once
from tuneyard.control.summary import spec_lines
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.run_folder import find_run, is_run_id
from tuneyard.mcp.answers import Answer, Arguments, call_text, lines
from tuneyard.mcp.tool import Call, in_thread

MOST_MODELS = 8
MOST_RECORDS = 200
MOST_ADAPTERS = 64


class StartArguments(Arguments):
    spec: str | None = Field(default=None, max_length=4096)
    """Path of a spec or LLaMA-Factory YAML inside the workspace, or run:ID for the spec of an earlier run."""
    example: str | None = Field(default=None, max_length=200)
    """Name of an example, as describe(topic="examples") lists them."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """Fields of the spec, by name (`model`, `dataset`, `seed`) or dotted (`engine.lora_rank`). Alone they are the whole
    spec; with spec or example they change it. Settings of the library go under `engine`, under its own names."""
    dry_run: bool = False
    """Start nothing: show the resolved spec and the library's own arguments."""
    again: bool = False
    """Start it although a run that has not ended does the very same."""


class JobArguments(StartArguments):
    on: Literal["local", "slurm"] = "local"
    """slurm: give it to the cluster's queue."""
    slurm: dict[str, str | int | bool] = Field(default_factory=dict)
    """With on="slurm": options of sbatch, such as {"partition": "gpu", "time": "2:00:00"}."""


class TrainArguments(JobArguments):
    records: list[dict[str, Any]] = Field(default_factory=list, max_length=MOST_RECORDS)
    """Rows to train on, instead of a dataset: {instruction, output}, {question, answer}, {messages}, {prompt, chosen,
    rejected} and the like. They become a dataset folder in the workspace, datasets/inline-…"""
    columns: dict[str, str] = Field(default_factory=dict)
    """Role to column of the records, where names are unusual: {"prompt": "Frage", "response": "Antwort"}."""


class EvaluateArguments(JobArguments):
    models: list[str] = Field(default_factory=list, max_length=MOST_MODELS)
    """What to evaluate, a run each: run ids, folders, hub ids or builtin:tiny. Default: the newest that was trained."""
    tasks: list[str] = Field(default_factory=list, max_length=50)
    """gsm8k, arithmetic, any task of lm-eval, a task file or folder, Inspect's file.py@task or inspect_evals/name."""
    limit: int | None = Field(default=None, ge=1)
    """Documents per task. Default: all."""


class ServeArguments(StartArguments):
    model: str | None = Field(default=None, max_length=4096)
    """What to serve: a run id, folder, hub id or builtin:tiny. Default: the newest that was trained."""
    adapters: list[str] = Field(default_factory=list, max_length=MOST_ADAPTERS)
    """Adapters (LoRA) of that base to serve beside it, by run id or folder; requests ask for one by that name."""
    port: int | None = Field(default=None, ge=0, le=65535)
    """Port on this machine. Default: 8000; 0 takes a free one."""


class GenerateArguments(JobArguments):
    dataset: str | None = Field(default=None, max_length=4096)
    """What is to be answered: a JSONL file (columns such as prompt or messages), builtin:NAME, or run:ID."""
    model: str | None = Field(default=None, max_length=4096)
    """Who answers: a run id, folder, hub id or builtin:tiny. Default: the newest trained one, or the endpoint's."""
    adapters: list[str] = Field(default_factory=list, max_length=MOST_ADAPTERS)
    """Run ids or folders of LoRA adapters that each answer every input, in one pass. Default: the model alone."""
    endpoint: str | None = Field(default=None, max_length=2048)
    """run:ID of a served model, or the URL of a server on this machine, asked in place of loading the model."""


class StartedRun(BaseModel):
    """One run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    state: str
    existing: bool
    """Whether it did the very same already, so that nothing was started."""


class StartAnswer(Answer):
    runs: list[StartedRun] = Field(default_factory=list)
    """What runs now; empty for a dry run."""
    notes: list[str] = Field(default_factory=list)
    """How the request was understood, where that is not plain."""
    plan: str | None = None
    """Dry run: the main points of what would be done."""
    spec: dict[str, Any] | None = None
    """Dry run, in a detailed answer: the resolved spec."""
    library: dict[str, Any] | None = None
    """Dry run, in a detailed answer: the library's own arguments, as its worker would call it."""
    job: str | None = None
    """Dry run on slurm, in a detailed answer: the script that sbatch would be given."""
    next: list[str] = Field(default_factory=list)
    """Calls that come next."""

    def text(self) -> str:
        told = [f"{run.id}: {'runs already, nothing was started' if run.existing else 'started'}" for run in self.runs]
        dry = f"dry run, nothing was started: {self.plan}" if self.plan else None
        return lines(dry, *told, *self.notes, f"next: {'; '.join(self.next)}" if self.next else None)


async def train(call: Call, asked: TrainArguments) -> StartAnswer:
    """Start a fine-tune by LLaMA-Factory and return at once with its run id; it goes on whatever becomes of this
    conversation. Give spec, example or fields; nothing at all runs the default example. dry_run shows what would be
    done. Rows may be given as records. Files and code outside the workspace are refused. The same spec that still
    runs is not started twice.
    """
    fields = await in_thread(_inline, call.workspace, asked)
    request = await in_thread(_request, call.workspace, "train", asked, fields)
    return await _start(call, "train", asked, [request])


def _inline(workspace: Workspace, asked: TrainArguments) -> dict[str, Any]:
    """The field that names the records given with the call."""
    if not asked.records:
        return {}
    if "dataset" in asked.fields:
        raise RequestError("records and fields.dataset: one of them", way_out="leave one out")
    return {"dataset": str(inline_dataset(workspace, asked.records, asked.columns))}


async def evaluate(call: Call, asked: EvaluateArguments) -> StartAnswer:
    """Start evaluations by lm-eval or Inspect, one run for each model, and return at once with their run ids. Give
    models and tasks, or a spec; without a model the newest trained one is evaluated. Code and files outside the
    workspace are refused. The same evaluation that still runs is not started twice.
    """
    given = {"tasks": asked.tasks, "limit": asked.limit}
    fields = {name: value for name, value in given.items() if value}
    models = [{"model": _reference(model)} for model in asked.models]
    chosen = [await in_thread(_request, call.workspace, "eval", asked, {**fields, **m}) for m in models or [{}]]
    return await _start(call, "eval", asked, chosen)


async def serve(call: Call, asked: ServeArguments) -> StartAnswer:
    """Start an OpenAI-compatible server by vLLM, on this machine alone, and return at once with its run id. It takes a
    device until serve_stop ends it; run_status(wait_for="ready") tells its URL once it has answered a first request.
    Evaluations and generations reach it with endpoint="run:ID". Files outside the workspace are refused.
    """
    fields = {
        "model": _reference(asked.model) if asked.model else None,
        "adapters": [_reference(adapter) for adapter in asked.adapters],
        "port": asked.port,
    }
    given = {name: value for name, value in fields.items() if value not in (None, [])}
    request = await in_thread(_request, call.workspace, "serve", asked, given)
    return await _start(call, "serve", asked, [request])


async def generate(call: Call, asked: GenerateArguments) -> StartAnswer:
    """Start a batch generation and return at once with its run id: every record of a dataset is answered, each once,
    also when the run is stopped and resumed. Rows end in artifacts/responses.jsonl. Settings such as n, max_tokens,
    temperature, stop, structured, backend go under fields. Files outside the workspace, and servers elsewhere than on
    this machine, are refused.
    """
    fields = {
        "dataset": asked.dataset,
        "model": _reference(asked.model) if asked.model else None,
        "adapters": [_reference(adapter) for adapter in asked.adapters],
        "endpoint": _reference(asked.endpoint) if asked.endpoint else None,
    }
    given = {name: value for name, value in fields.items() if value not in (None, [])}
    request = await in_thread(_request, call.workspace, "generate", asked, given)
    return await _start(call, "generate", asked, [request])


async def _start(call: Call, kind: str, asked: StartArguments, requests: list[Request]) -> StartAnswer:
    await call.report(0, len(requests), "resolving; the first time asks the library what it accepts")
    slurm = await in_thread(_slurm_options, call.workspace, asked)
    for request in requests:
        await in_thread(check_paths, call.workspace, request, kind)
    if asked.dry_run:
        return await in_thread(_dry_run, call.workspace, requests[0], kind, asked, slurm)
    started = []
    for number, request in enumerate(requests):
        found = await in_thread(start_once, call.workspace, request, kind, again=asked.again, slurm=slurm)
        started.append(found)
        await call.report(number + 1, len(requests), f"{started[-1].run.id} is started")
    return _told(started, kind)


def _slurm_options(workspace: Workspace, asked: StartArguments) -> dict[str, Any] | None:
    """sbatch's options for what SLURM is to start; None for what runs here."""
    if not isinstance(asked, JobArguments):
        return None
    return options_on(workspace, asked.on, asked.slurm, start=not asked.dry_run)


def _dry_run(
    workspace: Workspace, request: Request, kind: str, asked: StartArguments, slurm: dict[str, Any] | None
) -> StartAnswer:
    with where_it_runs(slurm):
        resolved = request.resolve(workspace, kind)
    library = library_arguments(workspace, resolved)
    spec = resolved.spec.model_dump(mode="json")
    if asked.detailed:
        job = job_text(workspace, resolved, slurm) if slurm is not None else None
        return StartAnswer(plan=_main_points(spec), spec=spec, library=library, notes=resolved.notes, job=job)
    tool = "evaluate" if kind == "eval" else kind
    given = {**asked.model_dump(exclude_defaults=True), "response_format": "detailed"}
    return StartAnswer(plan=_main_points(spec), notes=resolved.notes, next=[call_text(tool, **given)])


def _told(started: list[Started], kind: str) -> StartAnswer:
    runs = [StartedRun(id=s.run.id, state=s.run.status().state, existing=s.existing) for s in started]
    notes = list(dict.fromkeys(note for s in started for note in s.notes))
    if any(run.existing for run in runs):
        notes.append("again=true starts the same once more")
    ready = {"wait_for": "ready"} if kind == "serve" else {}
    waiting = call_text("run_status", run_id=runs[0].id, wait_seconds=50, **ready)
    return StartAnswer(runs=runs, notes=notes, next=[waiting])


def _request(workspace: Workspace, kind: str, asked: StartArguments, fields: dict[str, Any]) -> Request:
    """What was asked for, its paths not looked at yet; relative ones are meant from the workspace."""
    overrides = from_fields({**asked.fields, **fields}, workspace.path)
    if asked.spec is not None and asked.example is not None:
        raise RequestError("spec and example: one of them", way_out="leave one out")
    if asked.spec is not None and asked.spec.startswith("run:"):
        return read_request(find_run(workspace.runs, asked.spec).spec, overrides)
    if asked.spec is not None:
        return read_request(inside(workspace, asked.spec), overrides)
    if asked.example is not None:
        return read_request(example_path(workspace, asked.example, kind), overrides)
    return default_request(workspace, kind, None, overrides)


def _reference(model: str) -> str:
    """A model as a spec names it: what has the form of a run id is one."""
    return f"run:{model}" if is_run_id(model) else model


def _main_points(spec: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in spec_lines(spec["kind"], spec))
