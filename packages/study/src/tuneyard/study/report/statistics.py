"""From scores to what may be said of them: means over seeds, intervals, tests against the baseline, corrected."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tuneyard.control.significance import bootstrap_grid, holm, mcnemar_p, quantile, sign_flip_p
from tuneyard.study.jobs import TRAIN, baseline_name, starting_model, starting_models
from tuneyard.study.report.collect import Collected, Document, Ran, Score
from tuneyard.study.study import Point, Study, digest
from tuneyard.study.variables import Values

LEVEL = 0.05
"""Below this a corrected p is called significant."""

FEW_SEEDS = 5
"""With fewer, an interval over seeds is narrower than it should be."""


@dataclass
class Against:
    """A setting against the model that it started from."""

    baseline: float
    difference: float
    interval: tuple[float, float] | None
    """95 %, over seeds and documents at once; None where there are no documents to pair."""
    p: float | None
    """Paired test over documents, before correction."""
    corrected: float | None = None
    """The same after Holm's correction over every test of the report."""
    test: str = ""
    documents: int = 0
    alike: bool = True
    """Whether both were asked the same documents by the same prompts."""

    @property
    def significant(self) -> bool:
        """Whether both the corrected test and the interval say that there is a difference."""
        return self.corrected is not None and self.corrected < LEVEL and not _contains_zero(self.interval)


@dataclass
class Estimate:
    """One setting (a combination, whatever the seed) on one task."""

    task: str
    metric: str
    combination: Values
    values: list[float]
    """One per seed."""
    seeds: list[int | None]
    mean: float
    standard_error: float | None
    """Over seeds; None with one."""
    interval: tuple[float, float] | None
    """95 % of the mean, over seeds and documents at once; with one seed over documents only."""
    against: Against | None = None
    planned: int = 0
    """How many seeds were asked for; more than `values` where some failed."""
    rows: list[dict[Document, float]] = field(default_factory=list, repr=False)


def estimates(study: Study, collected: Collected) -> list[Estimate]:
    """One per setting and task, in the order of the design; settings without any score are left out."""
    groups: dict[str, list[Point]] = {}
    for each in collected.jobs:
        if each.job.stage == TRAIN and each.job.point is not None:
            groups.setdefault(study.group_key(each.job.point), []).append(each.job.point)
    by_owner = _scores_by_owner(collected)
    bases = _baselines(study, collected, by_owner)
    found = [made for points in groups.values() for made in _of_group(study, points, by_owner, bases)]
    _correct(found)
    return found


def _scores_by_owner(collected: Collected) -> dict[str, list[tuple[Score, Ran]]]:
    found: dict[str, list[tuple[Score, Ran]]] = {}
    for each in collected.jobs:
        ran = collected.of(each)
        if each.job.stage != TRAIN and ran is not None:
            found.setdefault(each.job.owner, []).extend((s, ran) for s in ran.scores if s.primary)
    return found


def _baselines(study: Study, collected: Collected, by_owner: dict[str, list[tuple[Score, Ran]]]) -> dict[str, str]:
    """Hash of a starting model -> owner of its evaluations, of those that were evaluated."""
    if not any(owner.startswith("baseline") for owner in by_owner):
        return {}
    owners = {digest(start): baseline_name(n) for n, start in enumerate(starting_models(study))}
    return {key: owner for key, owner in owners.items() if owner in by_owner}


def _of_group(
    study: Study, points: list[Point], by_owner: dict[str, list[tuple[Score, Ran]]], bases: dict[str, str]
) -> list[Estimate]:
    tasks: dict[tuple[str, str], list[tuple[Point, Score, Ran]]] = {}
    for point in points:
        for score, ran in by_owner.get(point.id, []):
            tasks.setdefault((score.task, score.metric), []).append((point, score, ran))
    if not tasks:
        return []
    owner = bases.get(digest(starting_model(study.mapping(points[0]))))
    found = []
    for (task, metric), seen in tasks.items():
        made = _estimate(task, metric, seen, len(points))
        for score, ran in by_owner.get(owner, []) if owner else []:
            if (score.task, score.metric) == (task, metric):
                made.against = _against(made, score, ran.documents.get(task, {}))
                asked = {trained.asked.get(task) for _, _, trained in seen} - {None}
                made.against.alike = asked <= {ran.asked.get(task)}
        found.append(made)
    return found


def _estimate(task: str, metric: str, seen: list[tuple[Point, Score, Ran]], planned: int) -> Estimate:
    values = [score.value for _, score, _ in seen]
    rows = [ran.documents.get(task, {}) for _, _, ran in seen]
    return Estimate(
        task=task,
        metric=metric,
        combination=seen[0][0].combination,
        values=values,
        seeds=[point.params.get("seed") for point, _, _ in seen],
        mean=math.fsum(values) / len(values),
        standard_error=standard_error(values),
        interval=_interval(rows, values),
        planned=planned,
        rows=rows,
    )


def standard_error(values: list[float]) -> float | None:
    """Of the mean; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def is_mean_over_documents(rows: list[dict[Document, float]], values: list[float]) -> bool:
    """Whether each score is the mean of its documents' scores; BLEU and its like are not, and no document resamples."""
    return all(
        row and math.isclose(math.fsum(row.values()) / len(row), value, abs_tol=1e-6)
        for row, value in zip(rows, values, strict=True)
    )


def _common(rows: list[dict[Document, float]]) -> list[Document]:
    first, *rest = rows
    return [key for key in first if all(key in row for row in rest)]


def _interval(rows: list[dict[Document, float]], values: list[float]) -> tuple[float, float] | None:
    if not is_mean_over_documents(rows, values):
        return None
    common = _common(rows)
    if not common:
        return None
    means = bootstrap_grid([[row[key] for key in common] for row in rows])
    return quantile(means, 0.025), quantile(means, 0.975)


def _against(made: Estimate, base: Score, documents: dict[Document, float]) -> Against:
    difference = made.mean - base.value
    rows = [*made.rows, documents]
    if not is_mean_over_documents(rows, [*made.values, base.value]) or not _common(rows):
        return Against(base.value, difference, None, None)
    common = _common(rows)
    grid = [[row[key] - documents[key] for key in common] for row in made.rows]
    means = bootstrap_grid(grid)
    per_document = [math.fsum(column) / len(grid) for column in zip(*grid, strict=True)]
    p, test = _test(per_document, len(grid), made.rows, documents, common)
    interval = quantile(means, 0.025), quantile(means, 0.975)
    return Against(base.value, difference, interval, p, test=test, documents=len(common))


def _test(
    differences: list[float],
    seeds: int,
    rows: list[dict[Document, float]],
    documents: dict[Document, float],
    common: list[Document],
) -> tuple[float, str]:
    binary = all(row[key] in (0.0, 1.0) for row in (*rows, documents) for key in common)
    if seeds == 1 and binary:
        return mcnemar_p(sum(d < 0 for d in differences), sum(d > 0 for d in differences)), "McNemar"
    return sign_flip_p(differences), "sign flips"


def _correct(found: list[Estimate]) -> None:
    tested = [each.against for each in found if each.against is not None and each.against.p is not None]
    for against, corrected in zip(tested, holm([each.p or 0.0 for each in tested]), strict=True):
        against.corrected = corrected


@dataclass(frozen=True)
class Pair:
    """The best setting against another one on the same documents."""

    best: Estimate
    other: Estimate
    interval: tuple[float, float] | None
    """Of best minus other, 95 %, over seeds and documents."""

    @property
    def told_apart(self) -> bool:
        return self.interval is not None and not _contains_zero(self.interval)


def best_against_others(of_task: list[Estimate]) -> list[Pair]:
    """The setting with the highest mean against each other one."""
    if len(of_task) < 2:
        return []
    best = max(of_task, key=lambda each: each.mean)
    return [Pair(best, other, _difference(best, other)) for other in of_task if other is not best]


def _difference(a: Estimate, b: Estimate) -> tuple[float, float] | None:
    """Interval of a minus b: the same documents for both, seeds of each drawn for themselves."""
    rows = [*a.rows, *b.rows]
    if not is_mean_over_documents(rows, [*a.values, *b.values]) or not (common := _common(rows)):
        return None
    grids = [[[row[key] for key in common] for row in each.rows] for each in (a, b)]
    means = bootstrap_grid(grids[0], minus=grids[1])
    return quantile(means, 0.025), quantile(means, 0.975)


def _contains_zero(interval: tuple[float, float] | None) -> bool:
    return interval is None or interval[0] <= 0.0 <= interval[1]
