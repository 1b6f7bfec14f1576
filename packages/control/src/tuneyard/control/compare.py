"""Two evaluations, document by document: the difference, its interval, and what is not comparable about them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.control.significance import bootstrap_interval, mcnemar_p
from tuneyard.core.documents import read_document
from tuneyard.core.errors import RequestError
from tuneyard.core.evaluation import EvaluatedTask, Evaluation
from tuneyard.core.files import read_json_lines
from tuneyard.core.run_folder import RunFolder, find_run

TEXT_LENGTH = 4000
"""Characters of a prompt or response that a comparison carries."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Changed:
    """A document on which the two differ."""

    id: str
    prompt: str
    target: str
    answers: tuple[str, str]
    """What the filter read from the responses of A and B; the responses themselves where there is no filter."""
    scores: tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """One metric of one task under one filter, A against B."""

    task: str
    filter: str
    metric: str
    n: int
    """Documents that both have."""
    a: float
    """Mean score of A over these documents."""
    b: float
    difference: float
    """B minus A."""
    interval: tuple[float, float]
    """Its 95 % interval, by a paired bootstrap over the documents."""
    improved: int
    """Documents that B scores higher on."""
    worsened: int
    p: float | None
    """McNemar's exact two-sided p; null where scores are not all 0 or 1."""
    changed: list[Changed] = field(default_factory=list)
    """The first documents that differ."""


@dataclass(frozen=True)
class Comparison:
    """Two evaluations side by side."""

    a: str
    """Id of the first run."""
    b: str
    models: tuple[str, str]
    """What each evaluated."""
    differences: list[Difference]
    caveats: list[str]
    """How the two are not alike; empty where the scores compare as they stand."""

    @property
    def comparable(self) -> bool:
        return not self.caveats


@dataclass(frozen=True)
class _Side:
    run: RunFolder
    evaluation: Evaluation
    rows: dict[str, dict[tuple[str, int], Row]]
    """Task -> (hash of the document, which of its equals) -> sample."""
    metrics: dict[str, Any]


def compare(runs: Path, a: str, b: str, *, documents: int = 20) -> Comparison:
    """Pair the samples of two evaluations.

    Args:
        runs: the folder of all runs.
        a, b: ids of evaluations, or their beginnings.
        documents: how many changed documents each difference lists.

    Raises:
        RequestError: one of them is no evaluation that succeeded, or they have nothing in common.
    """
    one, other = _side(runs, a), _side(runs, b)
    common = [task for task in one.rows if task in other.rows]
    if not common:
        raise RequestError(
            f"the two evaluations have no task in common: {', '.join(one.rows)} against {', '.join(other.rows)}"
        )
    caveats = _framework_caveats(one, other)
    differences: list[Difference] = []
    for task in common:
        differences += _compare_task(task, one, other, documents, caveats)
    if not differences:
        raise RequestError("the two evaluations cannot be compared: " + "; ".join(caveats))
    models = (one.evaluation.model, other.evaluation.model)
    return Comparison(one.run.id, other.run.id, models, differences, caveats)


def _side(runs: Path, reference: str) -> _Side:
    run = find_run(runs, reference)
    if run.kind != "eval":
        raise RequestError(f"{run.id} is no evaluation", way_out="`yard runs --kind eval` lists them")
    attempt = run.latest()
    result = attempt.read_result() if attempt else None
    if result is None or result["status"] != "succeeded":
        raise RequestError(f"{run.id} has not succeeded: it is {run.status().state}", way_out=f"`yard show {run.id}`")
    if not run.samples.is_file() or not run.evaluation.is_file():
        raise RequestError(f"{run.id} kept no samples to pair", where=str(run.artifacts))
    evaluation = read_document(run.evaluation, Evaluation)
    return _Side(run, evaluation, _rows(run.samples), result["metrics"])


def _rows(path: Path) -> dict[str, dict[tuple[str, int], Row]]:
    tasks: dict[str, dict[tuple[str, int], Row]] = {}
    for row, _ in read_json_lines(path):
        rows = tasks.setdefault(row["task"], {})
        number = 0
        while (row["document_sha256"], number) in rows:
            number += 1
        rows[row["document_sha256"], number] = row
    return tasks


def _framework_caveats(one: _Side, other: _Side) -> list[str]:
    a, b = one.evaluation, other.evaluation
    caveats = []
    if (a.framework, a.framework_version) != (b.framework, b.framework_version):
        caveats.append(f"scored by {a.framework} {a.framework_version} and {b.framework} {b.framework_version}")
    for name, mine, theirs in (("A", one, other), ("B", other, one)):
        only = [task for task in mine.rows if task not in theirs.rows]
        if only:
            caveats.append(f"only {name} has: {', '.join(only)}")
    return caveats


def _compare_task(task: str, one: _Side, other: _Side, documents: int, caveats: list[str]) -> list[Difference]:
    """The differences on one task; `caveats` takes a sentence for everything in which the two are not alike."""
    a, b = one.rows[task], other.rows[task]
    keys = [key for key in a if key in b]
    settings = [_task_of(side, task) for side in (one, other)]
    caveats += [f"{task}: {text}" for text in _task_caveats(settings[0], settings[1], len(a), len(b), len(keys))]
    if not keys:
        return []
    caveats += [f"{task}: {text}" for text in _prompt_caveats(a, b, keys)]
    return _scores(task, [(a[key], b[key]) for key in keys], documents, caveats, (one, other))


def _task_of(side: _Side, task: str) -> EvaluatedTask | None:
    return next((found for found in side.evaluation.tasks if found.task == task), None)


def _task_caveats(a: EvaluatedTask | None, b: EvaluatedTask | None, n_a: int, n_b: int, common: int) -> Iterator[str]:
    if not common:
        yield f"no document in common ({n_a} and {n_b} documents)"
    elif common < max(n_a, n_b):
        yield f"compared on the {common} documents that both have; A has {n_a}, B has {n_b}"
    if a is None or b is None:
        return
    for name, say in (
        ("num_fewshot", "worked examples in the prompt"),
        ("chat_template", "chat template applied"),
        ("version", "version of the task"),
    ):
        if getattr(a, name) != getattr(b, name):
            yield f"{say}: {getattr(a, name)} and {getattr(b, name)}"
    for key in sorted({*a.generation, *b.generation}):
        if a.generation.get(key) != b.generation.get(key):
            yield f"generation, {key}: {a.generation.get(key)!r} and {b.generation.get(key)!r}"
    if set(a.filters) != set(b.filters):
        yield f"filters: {', '.join(a.filters)} and {', '.join(b.filters)}"


def _prompt_caveats(a: dict[tuple[str, int], Row], b: dict[tuple[str, int], Row], keys: list[Any]) -> Iterator[str]:
    different = [key for key in keys if a[key]["prompt"] != b[key]["prompt"]]
    if different:
        yield f"the prompts of {len(different)} of {len(keys)} documents differ"
    targets = sum(a[key]["target"] != b[key]["target"] for key in keys)
    if targets:
        yield f"the expected answers of {targets} of {len(keys)} documents differ"


def _scores(
    task: str, pairs: list[tuple[Row, Row]], documents: int, caveats: list[str], sides: tuple[_Side, _Side]
) -> list[Difference]:
    """One difference for every filter and metric that both have."""
    found: list[Difference] = []
    n = len(pairs)
    first_a, first_b = pairs[0][0]["scores"], pairs[0][1]["scores"]
    for filter_, metrics in first_a.items():
        for metric in metrics:
            if metric not in first_b.get(filter_, {}):
                continue
            scored = [p for p in pairs if all(_score(row, filter_, metric) is not None for row in p)]
            if len(scored) < n:
                caveats.append(f"{task}: {n - len(scored)} documents without {metric} ({filter_}) are left out")
            if scored:
                found.append(_difference(task, filter_, metric, scored, documents))
                caveats += _aggregation_caveats(found[-1], sides)
    return found


def _score(row: Row, filter_: str, metric: str) -> float | None:
    value = row["scores"].get(filter_, {}).get(metric)
    return None if value is None or not math.isfinite(value) else float(value)


def _difference(task: str, filter_: str, metric: str, pairs: list[tuple[Row, Row]], documents: int) -> Difference:
    scores = [(float(a["scores"][filter_][metric]), float(b["scores"][filter_][metric])) for a, b in pairs]
    changes = [b - a for a, b in scores]
    improved, worsened = sum(c > 0 for c in changes), sum(c < 0 for c in changes)
    binary = all(score in (0.0, 1.0) for pair in scores for score in pair)
    n = len(pairs)
    changed = [(p, s) for p, s, c in zip(pairs, scores, changes, strict=True) if c][:documents]
    return Difference(
        task=task,
        filter=filter_,
        metric=metric,
        n=n,
        a=math.fsum(a for a, _ in scores) / n,
        b=math.fsum(b for _, b in scores) / n,
        difference=math.fsum(changes) / n,
        interval=bootstrap_interval(changes),
        improved=improved,
        worsened=worsened,
        p=mcnemar_p(worsened, improved) if binary else None,
        changed=[_changed(pair, score, filter_) for pair, score in changed],
    )


def _changed(pair: tuple[Row, Row], scores: tuple[float, float], filter_: str) -> Changed:
    a = pair[0]
    answers = tuple(_short(row["answers"].get(filter_, row["response"])) for row in pair)
    return Changed(a["id"], _short(a["prompt"]), _short(a["target"]), (answers[0], answers[1]), scores)


def _short(text: str) -> str:
    if len(text) <= TEXT_LENGTH:
        return text
    half = TEXT_LENGTH // 2  # both ends: a prompt's question stands last, after its worked examples
    return f"{text[:half]} … {len(text) - TEXT_LENGTH} characters … {text[-half:]}"


def _aggregation_caveats(found: Difference, sides: tuple[_Side, _Side]) -> Iterator[str]:
    """Whether the task's own number is the mean of its documents' scores; some, such as BLEU, are not."""
    for side, value in zip(sides, (found.a, found.b), strict=True):
        names = (f"{found.task}/{found.metric},{found.filter}", f"{found.task}/{found.metric}")
        own = next((side.metrics[name]["value"] for name in names if name in side.metrics), None)
        if own is not None and found.n == len(side.rows[found.task]) and not math.isclose(own, value, abs_tol=1e-6):
            yield f"{found.task}: {found.metric} of {side.run.id} is {own:.4g}, which is no mean over documents"
            return
