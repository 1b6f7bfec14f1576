"""Everything that a report tells of the runs, each run's files read once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tuneyard.core.files import read_json, read_json_lines
from tuneyard.core.run_folder import Attempt, RunFolder, RunStatus
from tuneyard.study.jobs import TRAIN
from tuneyard.study.state import JobState, states_of
from tuneyard.study.study import Study

CURVE_POINTS = 200
"""Points of a curve that a report keeps; more cannot be seen."""

Document = tuple[str, int]
"""Hash of a document, and which of its equals."""


@dataclass(frozen=True)
class Score:
    """One metric of one task of one run."""

    task: str
    metric: str
    """`exact_match,strict-match`: the metric, and the filter or scorer behind the comma."""
    value: float
    standard_error: float | None
    n: int | None
    primary: bool
    """Whether the report is about it."""


@dataclass
class Ran:
    """What a run left, as far as a report tells it."""

    id: str
    status: RunStatus
    seconds: float | None = None
    """Of all attempts together, as far as they left a result."""
    attempts: int = 0
    devices: int = 0
    """GPUs that it had; 0 for a CPU slot."""
    scores: list[Score] = field(default_factory=list)
    documents: dict[str, dict[Document, float]] = field(default_factory=dict)
    """Task -> document -> score, of the primary metric."""
    asked: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Task -> hashes of its documents and of its prompts."""
    curve: list[tuple[int, float]] = field(default_factory=list)
    """Step and training loss."""
    failure: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


@dataclass
class Collected:
    """All that was read."""

    jobs: list[JobState] = field(default_factory=list)
    ran: dict[str, Ran] = field(default_factory=dict)
    """Id -> what it left."""

    def of(self, each: JobState) -> Ran | None:
        """What the run of a job left; None where there is no run."""
        return self.ran.get(each.run.id) if each.run is not None else None

    def scores_of(self, owner: str) -> Iterator[tuple[Score, Ran]]:
        """The scores of a run of the study, or of a baseline, over all its evaluations."""
        for each in self.jobs:
            if each.job.owner == owner and each.job.stage != TRAIN and (ran := self.of(each)) is not None:
                yield from ((score, ran) for score in ran.scores)


def collect(study: Study) -> Collected:
    """Read what all runs of a study left. A run that two jobs share is read once, and its state with all the rest."""
    wanted = _wanted_metrics(study)
    ran: dict[str, Ran] = {}

    def status_of(run: RunFolder) -> RunStatus:
        if run.id not in ran:
            ran[run.id] = read_run(run, wanted)
        return ran[run.id].status

    return Collected(list(states_of(study, status_of)), ran)


def _wanted_metrics(study: Study) -> dict[str, str]:
    """Task, as evaluations name it -> the metric that the experiment asks for."""
    plan = study.experiment.evaluation
    tasks = plan.tasks if plan else []
    named = {(t.task.partition("@")[2] or os.path.basename(t.task).partition(".")[0]): t.metric for t in tasks}
    return {task: metric for task, metric in named.items() if metric}


def read_run(run: RunFolder, wanted: dict[str, str]) -> Ran:
    """What one run left.

    Args:
        run: its folder.
        wanted: task -> metric the report is about; a task that is not named is told by its first metric.
    """
    attempts = run.attempts()
    results = [attempt.read_result() for attempt in attempts]
    last = results[-1] if results else None
    ran = Ran(run.id, RunStatus(last["status"], attempts[-1].number) if last else run.status())
    if attempts and last is None and ran.status.ended:
        last = results[-1] = attempts[-1].read_result()  # it may have ended between the two looks
    ran.attempts = len(attempts)
    seconds = [result["seconds"] for result in results if result]
    ran.seconds = sum(seconds) if seconds else None
    ran.devices = _devices(run)
    if attempts:
        ran.environment = _environment(attempts[-1])
    if last is None:
        return ran
    ran.failure, ran.versions = last.get("failure"), last.get("versions") or {}
    if run.kind == TRAIN:
        ran.curve = _thinned(list(_losses(attempts)))
    else:
        ran.scores = list(_scores(last.get("metrics") or {}, wanted))
        ran.asked = _asked(run)
        ran.documents = _documents(run, [score for score in ran.scores if score.primary])
    return ran


def _asked(run: RunFolder) -> dict[str, tuple[str, str]]:
    try:
        tasks = read_json(run.evaluation).get("tasks", [])
    except (OSError, ValueError):
        return {}
    return {task["task"]: (task["documents_sha256"], task["prompts_sha256"]) for task in tasks}


def _devices(run: RunFolder) -> int:
    try:
        gpus = run.read_spec().get("gpus")
    except (OSError, ValueError):
        return 0
    return gpus if isinstance(gpus, int) else 0


def _environment(attempt: Attempt) -> dict[str, Any]:
    try:
        return read_json(attempt.environment)
    except (OSError, ValueError):
        return {}


def _losses(attempts: list[Attempt]) -> Iterator[tuple[int, float]]:
    """Step and loss over all attempts; a step that was done again counts as it was the last time."""
    losses: dict[int, float] = {}
    for attempt in attempts:
        for event, _ in read_json_lines(attempt.events):
            if event.get("event") == "progress" and isinstance(event.get("loss"), int | float):
                losses[event["step"]] = event["loss"]
    yield from sorted(losses.items())


def _thinned(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most CURVE_POINTS of a curve, its ends among them."""
    if len(curve) <= CURVE_POINTS:
        return curve
    step = (len(curve) - 1) / (CURVE_POINTS - 1)
    return [curve[round(place * step)] for place in range(CURVE_POINTS)]


def _scores(metrics: dict[str, Any], wanted: dict[str, str]) -> Iterator[Score]:
    seen: set[str] = set()
    for name, metric in metrics.items():
        task, _, rest = name.rpartition("/") if "/" in name else (name, "", name)
        asked = wanted.get(task)
        primary = task not in seen and (asked is None or asked in (rest, rest.partition(",")[0]))
        if primary:
            seen.add(task)
        yield Score(task, rest, metric["value"], metric.get("standard_error"), metric.get("n"), primary)


def _documents(run: RunFolder, primary: list[Score]) -> dict[str, dict[Document, float]]:
    """Task -> document -> score of the task's primary metric, from samples.jsonl."""
    places = {score.task: score.metric.partition(",") for score in primary}
    found: dict[str, dict[Document, float]] = {task: {} for task in places}
    for row, _ in read_json_lines(run.samples):
        task = row["task"]
        if task not in places:
            continue
        value = _score_of(row["scores"], places[task])
        if value is None:
            continue
        documents, number = found[task], 0
        while (row["document_sha256"], number) in documents:
            number += 1
        documents[row["document_sha256"], number] = value
    return found


def _score_of(scores: dict[str, dict[str, float]], place: tuple[str, str, str]) -> float | None:
    metric, _, filter_ = place
    for name in (filter_, "none", *scores):
        if name in scores and metric in scores[name]:
            return float(scores[name][metric])
    return None
