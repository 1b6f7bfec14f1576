"""An evaluation by Inspect, through `inspect_ai.eval`: the log's status says how it ended, the exit code does not."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core import events
from tuneyard.core.errors import RequestError, RunError, SetupError, TuneyardError
from tuneyard.core.evaluation import EvaluatedTask, Sample
from tuneyard.core.specs import EvalSpec
from tuneyard.core.worker import Job
from tuneyard.eval import inspect_arguments as arguments
from tuneyard.eval import inspect_model, inspect_samples, inspect_tasks, samples
from tuneyard.eval import model as models
from tuneyard.eval.inspect_recording import NO_MATTER, Recording
from tuneyard.eval.inspect_tasks import InspectTask
from tuneyard.eval.leave import leave, raw_folder
from tuneyard.eval.responses import responses_of, taken_over
from tuneyard.eval.task_errors import OFFLINE

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog
    from inspect_ai.model import Model

SHOWN = 3
"""How many responses are told as events while the run goes on."""


def run(job: Job) -> None:
    """Evaluate a run's model on Inspect's tasks; leave metrics, samples, evaluation.json and Inspect's own logs."""
    spec: EvalSpec = job.spec
    _refuse_lm_eval(spec)
    with job.timed("tasks"):
        tasks = [found for task in spec.tasks for found in inspect_tasks.find(task)]
    raw = raw_folder(job)
    notes: list[str] = []
    with job.timed("load"):
        model, chat = _model(job, notes)
    recording = Recording(model, responses_of(job, raw))
    job.describe_environment()
    _Progress(job, len(tasks)).register()
    logs = []
    with job.timed("evaluate"):
        for task in tasks:
            logs += _evaluate(job, task, model, raw)
    if recording.reused:
        notes.append(taken_over(recording.reused))
    with job.timed("save"):
        leave(job, "inspect", _save(job, logs, model, chat), notes)


def _refuse_lm_eval(spec: EvalSpec) -> None:
    for field, way_out in (
        ("lm", "Inspect takes a model of one of its providers: `engine: {model: PROVIDER/NAME}`"),
        ("num_fewshot", "a task of Inspect takes worked examples as an argument of its own, such as `fewshot`"),
        ("data", "a task of Inspect takes its data as an argument of its own, if at all"),
    ):
        if getattr(spec, field) is not None:
            raise RequestError(f"`{field}` is for tasks of lm-eval", where=field, way_out=way_out)


def _model(job: Job, notes: list[str]) -> tuple[Model, bool]:
    """Inspect's model around the run's weights, or the one that asks a server."""
    spec: EvalSpec = job.spec
    if spec.endpoint:
        from tuneyard.eval import inspect_endpoint

        return inspect_endpoint.load(job, notes), True
    source = models.source_of(spec.model, spec.adapter)
    trained = models.trained_by(source, job.folder.path.parent)
    models.refuse_unusable(source, trained)
    return inspect_model.load(spec, source, models.fingerprint_of_training(trained), job.warn, notes)


def _evaluate(job: Job, task: InspectTask, model: Model, raw: Path) -> list[EvalLog]:
    """The logs of one task.

    Raises:
        RunError: Inspect says that the task failed.
        SetupError: it wants what is not here: a dataset of the hub, a sandbox, a key.
        RequestError: the task cannot be built.
    """
    from inspect_ai import eval as inspect_eval

    try:
        logs = inspect_eval(
            task.spec,
            model=model,
            task_args=task.arguments,
            log_dir=str(raw),
            log_format="eval",
            display="none",
            ctl_server=False,
            **arguments.of_evaluation(job.spec),
        )
    except TuneyardError:
        raise
    except Exception as error:  # a task is anybody's Python: whatever it raises is told, with its type
        raise _explain(error, task) from error
    for log in logs:
        if log.status != "success":
            raise _failed(log, task, job)
    return logs


def _explain(error: Exception, task: InspectTask) -> TuneyardError:
    text = re.sub(r"\[/?[a-z ]*\]", "", str(error)).strip() or repr(error)
    if any(sign in text for sign in OFFLINE):
        return SetupError(
            f"the task's dataset is on the hub, which cannot be reached, and not in its cache: {text.splitlines()[0]}",
            where=task.spec,
            way_out="connect to the hub and run again; or `hf download --repo-type dataset` it where the hub can be "
            "reached and copy the cache (HF_HOME); or write a task file that reads local files (`json_dataset`)",
        )
    if isinstance(error, ImportError):
        way_out = f"`uv pip install {error.name}` into the eval environment" if error.name else None
        return SetupError(f"the task needs what is not installed: {text}", where=task.spec, way_out=way_out)
    if isinstance(error, SetupError) or type(error).__name__ == "PrerequisiteError":
        return SetupError(f"Inspect says: {text}", where=task.spec, way_out=_way_out(text))
    return RequestError(f"the task cannot be run: {type(error).__name__}: {text}", where=task.spec)


def _way_out(text: str) -> str | None:
    """What Inspect most often misses."""
    if "docker" in text.lower():
        return (
            "the task runs in a sandbox: install Docker and start it; or, if you trust it, `engine: {sandbox: local}`"
        )
    if "API_KEY" in text or "api key" in text.lower():
        return "the task asks a model behind an API: set its key in the environment, or give the task another grader"
    return None


def _failed(log: EvalLog, task: InspectTask, job: Job) -> TuneyardError:
    if log.error is None:
        return RunError(f"Inspect ended with status {log.status!r}", where=task.spec)
    print(log.error.traceback, file=sys.stderr, flush=True)
    message = log.error.message
    if job.spec.endpoint and "Connection" in message:
        from tuneyard.eval.endpoint import start_again

        return RunError(
            f"the server does not answer any more: {message}",
            where=job.spec.endpoint,
            way_out=start_again(job.folder.id),
        )
    if _way_out(message) is not None or any(sign in message for sign in OFFLINE):
        return _explain(SetupError(message), task)
    return RunError(
        f"Inspect ended with status {log.status!r}: {message}",
        where=task.spec,
        way_out="the traceback stands in stderr.log and in the .eval file under artifacts/raw (`inspect view`)",
    )


class _Progress:
    """Tells samples done and the first responses as events, through Inspect's hooks."""

    def __init__(self, job: Job, tasks: int) -> None:
        self.job, self.tasks = job, tasks
        self.done = self.total = self.started_tasks = 0
        self.since = time.monotonic()

    def register(self) -> None:
        from inspect_ai.hooks import Hooks, SampleEnd, TaskStart, hooks

        progress = self

        @hooks(name="tuneyard_progress", description="progress of a tuneyard run")
        class Progress(Hooks):
            async def on_task_start(self, data: TaskStart) -> None:
                progress.start(data.spec.dataset.samples or 0, data.spec.config.limit, data.spec.config.epochs or 1)

            async def on_sample_end(self, data: SampleEnd) -> None:
                output = data.sample.output
                progress.end(inspect_samples.text_of(data.sample.input), output.completion if output.choices else "")

    def start(self, samples_: int, limit: Any, epochs: int) -> None:
        self.started_tasks += 1
        asked = min(samples_, limit) if isinstance(limit, int) else samples_
        self.total += asked * epochs

    def end(self, prompt: str, response: str) -> None:
        self.done += 1
        elapsed = time.monotonic() - self.since
        known = self.total if self.started_tasks == self.tasks else None
        eta = elapsed / self.done * (known - self.done) if known else None
        self.job.emit(
            events.Progress,
            step=self.done,
            total=known,
            phase="generating",
            elapsed=round(elapsed, 3),
            eta=None if eta is None else round(eta, 3),
        )
        if self.done <= SHOWN:
            self.job.emit(events.SampleEvent, prompt=prompt, response=response)


def _save(job: Job, logs: list[EvalLog], model: Model, chat: bool) -> list[EvaluatedTask]:
    """Write the samples, put the metrics into the result, and say what each score depends on."""
    seen = samples.write(job.folder.samples, _all_rows(logs, model))
    for log in logs:
        for name, value, error, n in inspect_samples.metrics_of(log):
            job.metric(name, value, error, n)
    return [_evaluated(log, seen.get(inspect_samples.task_of(log), []), chat) for log in logs]


def _all_rows(logs: list[EvalLog], model: Model) -> Iterator[Sample]:
    for log in logs:
        yield from inspect_samples.rows(log, model)


def _evaluated(log: EvalLog, seen: list[tuple[str, str]], chat: bool) -> EvaluatedTask:
    config = {**log.plan.config.model_dump(exclude_none=True, exclude=NO_MATTER), **log.eval.task_args}
    limit = log.eval.config.limit
    return samples.evaluated(
        inspect_samples.task_of(log),
        seen,
        limit=limit if isinstance(limit, int) else None,
        chat_template=chat,
        filters=[score.name for score in log.results.scores] if log.results else [],
        generation=samples.plain(config),
        version=str(log.eval.task_version),
    )
