"""An evaluation by lm-eval: its tasks, its HFLM, its `simple_evaluate`; ours are notes, samples and events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tuneyard.core import events
from tuneyard.core.errors import RequestError
from tuneyard.core.evaluation import EvaluatedTask, Sample
from tuneyard.core.files import write_atomically, write_json
from tuneyard.core.specs import EvalSpec
from tuneyard.core.worker import Job
from tuneyard.eval import lm_eval_arguments as arguments
from tuneyard.eval import lm_eval_asked, lm_eval_model, samples
from tuneyard.eval import model as models
from tuneyard.eval.leave import leave, raw_folder
from tuneyard.eval.lm_eval_asked import Asked
from tuneyard.eval.model import Source
from tuneyard.eval.responses import responses_of, taken_over

if TYPE_CHECKING:
    from lm_eval.api.model import LM

    from tuneyard.eval.recording import RecordingLM

REFUSED = {
    "marked as unsafe": "`engine: {confirm_run_unsafe_code: true}` runs what the model writes, on this machine",
    "require multimodal input": "give a model that takes images as `lm`, a function that returns it",
}
"""What lm-eval refuses of a task, and the way out."""

SHOWN = 3
"""How many responses are told as events while the run goes on."""


def run(job: Job) -> None:
    """Evaluate a run's model on lm-eval's tasks; leave metrics, samples, evaluation.json and lm-eval's own files."""
    spec: EvalSpec = job.spec
    source = source_of(spec)
    trained = models.trained_by(source, job.folder.path.parent) if source else None
    if source is not None and not spec.endpoint:
        models.refuse_unusable(source, trained)
    raw = raw_folder(job)
    with job.timed("tasks"):
        asked = lm_eval_asked.load(spec, source, trained, raw / "tasks")
    notes = list(asked.notes)
    with job.timed("load"):
        lm, chat = lm_eval_model.load(spec, source, models.fingerprint_of_training(trained), job.warn, notes)
    job.describe_environment()
    if spec.lm is None:
        leave_command(job, source, asked, chat, notes)
    with job.timed("evaluate"), endpoint_errors(job):
        recording = recorded(job, lm, raw)
        results = evaluate(spec, asked, recording, chat)
    notes += notes_of(job, recording)
    with job.timed("save"):
        leave(job, "lm-eval", save(job, results, raw, chat), notes)


def source_of(spec: EvalSpec) -> Source | None:
    """The model whose tokens, and without a server whose weights, are read; None where none is known here."""
    if spec.lm is not None or (spec.endpoint and spec.model is None):
        return None
    return models.source_of(spec.model, spec.adapter)


def endpoint_errors(job: Job) -> AbstractContextManager[None]:
    """Where a server is asked: what its failures are turned into."""
    if not job.spec.endpoint:
        return nullcontext()
    from tuneyard.eval import lm_eval_endpoint

    return lm_eval_endpoint.explained(job.spec, job.folder.id)


def recorded(job: Job, lm: LM, raw: Path) -> RecordingLM:
    """The model, telling its progress as events and keeping its responses in this attempt's raw folder."""
    from tuneyard.eval.recording import RecordingLM

    shown = 0

    def tell(phase: str, done: int, total: int, seconds: float) -> None:
        eta = round(seconds / done * (total - done), 3) if done else None
        job.emit(events.Progress, step=done, total=total, phase=phase, elapsed=round(seconds, 3), eta=eta)

    def show(prompt: str, response: str) -> None:
        nonlocal shown
        shown += 1
        if shown <= SHOWN:
            job.emit(events.SampleEvent, prompt=prompt, response=response)

    return RecordingLM(lm, responses_of(job, raw), tell, show)


def evaluate(spec: EvalSpec, asked: Asked, lm: LM, chat: bool) -> dict[str, Any]:
    """What `simple_evaluate` returns.

    Raises:
        RequestError: the answer that a task asks for does not fit the model's context, or a task is code to be
            confirmed.
    """
    from lm_eval.evaluator import simple_evaluate

    given = arguments.of_evaluate(spec, chat)
    try:
        tasks = cast("list[Any]", asked.tasks)
        results = simple_evaluate(model=lm, tasks=tasks, task_manager=asked.manager, log_samples=True, **given)
    except AssertionError as error:
        if "Invalid configuration" not in str(error):
            raise
        way_out = "`engine: {gen_kwargs: {max_gen_toks: N}}` with a smaller N, or a model with a longer context"
        raise RequestError(str(error), where="tasks", way_out=way_out) from error
    except ValueError as error:
        way_out = next((way for sign, way in REFUSED.items() if sign in str(error)), None)
        if way_out is None:
            raise
        raise RequestError(str(error), where="tasks", way_out=way_out) from error
    return cast("dict[str, Any]", results)


def notes_of(job: Job, lm: RecordingLM) -> list[str]:
    """What the run itself showed that a reader of the score must know."""
    notes = []
    if lm.truncated:
        notes.append(
            f"{lm.truncated} prompts are longer than the model's context ({getattr(lm, 'max_length', '?')} tokens, "
            "less the room for the answer): lm-eval cut off their beginnings"
        )
        job.warn(notes[-1])
    if lm.reused:
        notes.append(taken_over(lm.reused))
    return notes


def leave_command(job: Job, source: Source | None, asked: Asked, chat: bool, notes: list[str]) -> None:
    """artifacts/lm_eval.yaml: `lm_eval run --config` does the same with it, without us, as far as the notes allow."""
    spec: EvalSpec = job.spec
    said = [*notes, *([f"here in {spec.quantization_bit} bit; lm-eval cannot"] if spec.quantization_bit else [])]
    _, _, for_manager = arguments.parts(spec.engine)
    kind, model = arguments.of_any(spec, source, None if spec.endpoint else models.device(spec))
    text = arguments.command_file(model, arguments.of_evaluate(spec, chat), for_manager, asked.named, kind)
    path = job.folder.artifacts / arguments.FILE_NAME
    write_atomically(path, "".join(f"# {note}\n" for note in said) + text)
    job.artifact("lm_eval_yaml", path)


def save(job: Job, results: dict[str, Any], raw: Path, chat: bool) -> list[EvaluatedTask]:
    """Write lm-eval's results and our samples, put the metrics into the result, and say what each score depends on."""
    logged = results.pop("samples")
    write_json(raw / "results.json", samples.plain(results))
    seen = samples.write(job.folder.samples, _all_rows(logged))
    for name, value, error, n in metrics_of(results):
        job.metric(name, value, error, n)
    common = {"limit": job.spec.limit, "chat_template": chat}
    return [
        samples.evaluated(task, seen.get(task, []), **common, **_settings(task, results), filters=_filters(rows))
        for task, rows in logged.items()
    ]


def _all_rows(logged: dict[str, list[dict[str, Any]]]) -> Iterator[Sample]:
    for task, task_rows in logged.items():
        yield from samples.rows(task, task_rows)


def _filters(logged: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["filter"] for row in logged))


def _settings(task: str, results: dict[str, Any]) -> dict[str, Any]:
    """Of a task: worked examples, generation and version, as lm-eval says it used them."""
    version = results.get("versions", {}).get(task)
    config = results.get("configs", {}).get(task, {})
    return {
        "num_fewshot": results.get("n-shot", {}).get(task),
        "generation": samples.plain(config.get("generation_kwargs") or {}),
        "version": None if version is None else str(version),
    }


def metrics_of(results: dict[str, Any]) -> Iterator[tuple[str, float, float | None, int | None]]:
    """Every number of lm-eval's results: name, value, standard error, documents.

    The name is `task/metric,filter`, without the filter where that is `none`.
    """
    for task, values in results["results"].items():
        counted = results.get("n-samples", {}).get(task, {}).get("effective") or values.get("sample_len")
        for key, value in values.items():
            metric, comma, filter_name = key.partition(",")
            number = samples.as_number(value)
            if not comma or metric.endswith("_stderr") or number is None:
                continue
            error = samples.as_number(values.get(f"{metric}_stderr,{filter_name}"))
            name = metric if filter_name == "none" else key
            yield f"{task}/{name}", number, error, counted
