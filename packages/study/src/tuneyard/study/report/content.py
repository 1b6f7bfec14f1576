"""What a report says, as tables and sentences, before it becomes a page or a text."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from tuneyard.core.run_folder import now
from tuneyard.study.experiment import About
from tuneyard.study.jobs import TRAIN
from tuneyard.study.report import facts, wording
from tuneyard.study.report.collect import Collected
from tuneyard.study.report.figures import Figure, figures
from tuneyard.study.report.statistics import Estimate, estimates
from tuneyard.study.study import Study
from tuneyard.study.warnings import warnings_of

MATRIX_ROWS = 1000
"""Runs that the page lists; results.csv has all."""

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]

METHOD = [
    "A score is of one trained model; a setting is a combination of values, trained once per seed.",
    "s.e., standard error: over the seeds of a setting, the sample's deviation divided by the root of their number.",
    "Interval: percentile bootstrap, 2,000 resamples, which draws seeds and documents at once; with one seed it draws "
    "documents only, and says nothing of another seed.",
    "p: paired by document against the model that training started from. With several seeds, the mean over seeds of "
    "each document's difference under 10,000 random sign flips; with one seed and scores of 0 or 1, McNemar's exact "
    "test. Documents are the unit: p speaks of these trained models, not of further seeds; the interval includes both.",
    "p (Holm): corrected for all tests of this report by Holm's step-down method.",
    "A setting is called higher or lower only where p (Holm) is below 0.05 and the difference's interval excludes 0.",
    "Settings are compared with the highest one by the interval of their difference on the same documents, without a "
    "correction for having picked the highest.",
]


@dataclass(frozen=True)
class Content:
    """All of a report but its form."""

    about: About
    made: str
    counts: str
    findings: list[str]
    cautions: list[str]
    score_tables: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]
    figures: list[Figure]
    design: list[tuple[str, str]]
    matrix: Table
    runs: list[str | None]
    """Id of the training of each row of the matrix."""
    unlisted: int
    """Runs that the matrix leaves out."""
    cost: list[tuple[str, ...]]
    failures: Table
    failed_runs: list[str | None]
    retried: list[str]
    environments: list[tuple[str, list[tuple[str, str]]]]
    method: list[str]


def content_of(study: Study, collected: Collected) -> Content:
    """Everything that the report says."""
    found = estimates(study, collected)
    by_task: dict[str, list[Estimate]] = {}
    for each in found:
        by_task.setdefault(each.task, []).append(each)
    matrix, runs = _matrix(study, collected)
    failed = facts.failures(collected)
    return Content(
        about=study.experiment.experiment,
        made=now(),
        counts=facts.counts(collected),
        findings=wording.findings(by_task) or ["No setting has a score yet."],
        cautions=[*wording.cautions(found), *warnings_of(study)],
        score_tables=[_scores(study, task, each) for task, each in by_task.items()],
        figures=figures(study, collected, by_task),
        design=_design(study),
        matrix=matrix,
        runs=runs,
        unlisted=max(0, len(study) - len(runs)),
        cost=list(facts.cost_rows(collected)),
        failures=_failures(failed),
        failed_runs=[each.run for each in failed],
        retried=facts.retried(collected),
        environments=facts.environments(collected),
        method=METHOD,
    )


def _scores(study: Study, task: str, found: list[Estimate]) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    keys = [key for key in study.design.keys if key != "seed"]
    head = (
        *(key.removeprefix("engine.") for key in keys),
        *("seeds", "mean", "s.e.", "95 % interval", "minus baseline", "95 % interval", "p", "p (Holm)", "baseline"),
    )
    rows = [(*(str(each.combination.get(key, "")) for key in keys), *_cells(each)) for each in found]
    baselines = {each.against.baseline for each in found if each.against is not None}
    base = f"; baseline {wording.score(baselines.pop())}" if len(baselines) == 1 else ""
    documents = {each.against.documents for each in found if each.against is not None and each.against.documents}
    on = f", {documents.pop():,} documents" if len(documents) == 1 else ""
    return f"{task}: {found[0].metric}{on}{base}", head, rows


def _cells(each: Estimate) -> tuple[str, ...]:
    seeds = str(len(each.values)) if len(each.values) == each.planned else f"{len(each.values)} of {each.planned}"
    error = wording.NONE if each.standard_error is None else wording.score(each.standard_error)
    own = (seeds, wording.score(each.mean), error, wording.interval(each.interval))
    against = each.against
    if against is None:
        return (*own, wording.NONE, wording.NONE, wording.NONE, wording.NONE, wording.verdict(each))
    difference = f"{'+' if against.difference >= 0 else wording.MINUS}{wording.score(abs(against.difference))}"
    ps = wording.p_value(against.p), wording.p_value(against.corrected)
    return (*own, difference, wording.interval(against.interval), *ps, wording.verdict(each))


def _design(study: Study) -> list[tuple[str, str]]:
    rows = []
    for axis in study.design.axes:
        name = ", ".join(key.removeprefix("engine.") for key in axis.keys)
        shown = [" / ".join(map(str, point.values())) for point in islice(axis.points, 12)]
        more = f", … ({len(axis.points)} in all)" if len(axis.points) > len(shown) else ""
        rows.append((f"varied: {name}" + (" (drawn)" if axis.sampled else ""), ", ".join(shown) + more))
    if study.experiment.seeds:
        rows.append(("seeds", ", ".join(map(str, study.experiment.seeds))))
    rows += [(f"held fixed: {key}", str(value)) for key, value in study.experiment.controls.items()]
    base = study.experiment.base
    rows.append(("base", base if isinstance(base, str) else "the mapping in experiment.yaml"))
    rows.append(("model, dataset", f"{_named(study.base['model'])}, {_named(study.base['dataset'])}"))
    plan = study.experiment.evaluation
    if plan is not None and plan.enabled:
        limit = f", {plan.limit} documents of each at most" if plan.limit else ""
        rows.append(("evaluated on", ", ".join(task.task for task in plan.tasks) + limit))
    return rows


def _named(value: object) -> str:
    """A model or dataset as a person would name it, with its arguments."""
    if isinstance(value, list):
        return "; ".join(map(_named, value))
    if not isinstance(value, dict):
        return str(value)
    name = value.get("source") or value.get("reference")
    rest = ", ".join(f"{key} {entry}" for key, entry in value.items() if key not in ("source", "reference"))
    return f"{name} ({rest})" if rest else str(name)


def _matrix(study: Study, collected: Collected) -> tuple[Table, list[str | None]]:
    """One row per run: its values, how its training ended, its scores."""
    tasks = list(dict.fromkeys(s.task for r in collected.ran.values() for s in r.scores if s.primary))
    scores: dict[str, dict[str, float]] = {}
    for each in collected.jobs:
        ran = collected.of(each)
        if each.job.stage != TRAIN and ran is not None:
            scores.setdefault(each.job.owner, {}).update({s.task: s.value for s in ran.scores if s.primary})
    rows: list[tuple[str, ...]] = []
    runs: list[str | None] = []
    keys: list[str] = []
    for each in collected.jobs:
        if each.job.stage != TRAIN or each.job.point is None or len(rows) >= MATRIX_ROWS:
            continue
        keys = list(each.job.point.params)
        own = scores.get(each.job.owner, {})
        told = (wording.score(own[task]) if task in own else wording.NONE for task in tasks)
        rows.append((each.job.owner, *(str(v) for v in each.job.point.params.values()), each.state, *told))
        runs.append(each.run.id if each.run else None)
    return (("run", *(key.removeprefix("engine.") for key in keys), "training", *tasks), rows), runs


def _failures(failed: list[facts.Failed]) -> Table:
    rows = [
        (each.job, wording.combination(each.params), each.state, each.message, each.way_out or "") for each in failed
    ]
    return ("job", "values", "state", "what happened", "way out"), rows
