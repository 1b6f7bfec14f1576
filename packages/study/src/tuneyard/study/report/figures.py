"""The figures of a report: loss by step, score by variable, a heat map for two variables."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuneyard.study.jobs import TRAIN
from tuneyard.study.report.charts import Bar, Cell, Grid, Line, bars_chart, heat_map, lines_chart
from tuneyard.study.report.collect import Collected
from tuneyard.study.report.statistics import Estimate, standard_error
from tuneyard.study.report.wording import combination, interval, score
from tuneyard.study.study import Study
from tuneyard.study.variables import Axis, Values, same

MOST_LINES = 120
"""Loss curves that one figure holds; of more, every n-th is drawn."""


@dataclass(frozen=True)
class Figure:
    """A chart with what stands below it."""

    svg: str
    caption: str
    legend: tuple[tuple[int, str], ...] = ()
    """Colour and what it stands for."""
    kind: str = ""
    """loss, effect or heat, for whoever looks for one."""


def figures(study: Study, collected: Collected, by_task: dict[str, list[Estimate]]) -> list[Figure]:
    """All figures that the data allow."""
    made = [_losses(study, collected)]
    varied = [axis for axis in study.design.axes if len(axis.points) > 1]
    for task, found in by_task.items():
        if len(varied) == 2 and not any(axis.sampled for axis in varied):
            made.append(_heat(task, found, varied[0], varied[1]))
        made += [_effect(task, found, axis, alone=len(varied) == 1) for axis in varied]
    return [figure for figure in made if figure is not None and figure.svg]


def axis_name(axis: Axis) -> str:
    """`lora_rank`, or `lora_rank, lora_alpha` where they go together."""
    return ", ".join(key.removeprefix("engine.") for key in axis.keys)


def axis_label(point: Values) -> str:
    """The value of an axis's first variable; with those that go with it, `8 / 16`."""
    return " / ".join(_short(value) for value in point.values())


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={entry}" for key, entry in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _place(axis: Axis, combination_: Values) -> int | None:
    """Number of the axis's point that a combination has."""
    for number, point in enumerate(axis.points):
        if all(key in combination_ and same(combination_[key], value) for key, value in point.items()):
            return number
    return None


def _losses(study: Study, collected: Collected) -> Figure | None:
    axis = next((axis for axis in study.design.axes if len(axis.points) > 1), study.design.axes[0])
    seeds = study.experiment.seeds
    lines = []
    for each in collected.jobs:
        ran = collected.of(each)
        if each.job.stage != TRAIN or each.job.point is None or ran is None or not ran.curve:
            continue
        params = each.job.point.params
        place = _place(axis, each.job.point.combination) or 0
        dashed = seeds.index(params["seed"]) % 4 if params.get("seed") in seeds else 0
        lines.append(
            Line(ran.curve, _colour(place, len(axis.points)), f"run {each.job.owner}: {_told(params)}", dashed)
        )
    if not lines:
        return None
    every = math.ceil(len(lines) / MOST_LINES)
    shown = lines[::every]
    told = f"Training loss by step, {len(shown)} of {len(lines)} runs." if every > 1 else "Training loss by step."
    caption = f"{told} Colour: {axis_name(axis)}." + (" Dashes: seed." if len(seeds) > 1 else "")
    return Figure(lines_chart(shown, "Training loss by step", "step", "loss"), caption, _legend(axis), "loss")


def _told(params: Values) -> str:
    return combination(params)


def _colour(place: int, count: int) -> int:
    """The n-th of the colours; of more values than colours, neighbours share one."""
    return place if count <= 8 else place * 8 // count


def _legend(axis: Axis) -> tuple[tuple[int, str], ...]:
    if len(axis.points) > 8:
        return ()
    return tuple((n, axis_label(point)) for n, point in enumerate(axis.points))


def _effect(task: str, found: list[Estimate], axis: Axis, *, alone: bool) -> Figure | None:
    """Score by the values of one axis: the settings where nothing else varies, else means over the others."""
    grouped: dict[int, list[Estimate]] = {}
    for each in found:
        if (place := _place(axis, each.combination)) is not None:
            grouped.setdefault(place, []).append(each)
    if not grouped:
        return None
    count = len(axis.points)
    bars = [_bar(axis, place, each, _colour(place, count), alone) for place, each in sorted(grouped.items())]
    baselines = {each.against.baseline for each in found if each.against is not None}
    base = ("baseline", baselines.pop()) if len(baselines) == 1 else None
    metric = found[0].metric
    caption = f"{task}: {metric} by {axis_name(axis)}. " + (
        "Points: mean over seeds, with its 95 % interval; small circles: single seeds."
        if alone
        else "Points: mean over all runs with this value, whatever the others are; bars: 2 standard errors over runs."
    )
    chart = bars_chart(bars, f"{task} by {axis_name(axis)}", axis_name(axis), f"{task}: {metric}", base)
    return Figure(chart, caption, kind="effect")


def _bar(axis: Axis, place: int, found: list[Estimate], colour: int, alone: bool) -> Bar:
    values = [value for each in found for value in each.values]
    label = axis_label(axis.points[place])
    if alone:
        (each,) = found[:1]
        title = f"{combination(each.combination)}: {score(each.mean)} ({interval(each.interval)})"
        return Bar(label, each.mean, each.interval, each.values if len(each.values) > 1 else (), title, colour)
    mean, error = math.fsum(values) / len(values), standard_error(values)
    reach = (mean - 2 * error, mean + 2 * error) if error is not None else None
    return Bar(label, mean, reach, values if len(values) <= 24 else (), f"{label}: {score(mean)}", colour)


def _heat(task: str, found: list[Estimate], rows: Axis, columns: Axis) -> Figure | None:
    cells = []
    for each in found:
        row, column = _place(rows, each.combination), _place(columns, each.combination)
        if row is not None and column is not None:
            title = f"{combination(each.combination)}: {score(each.mean)} ({interval(each.interval)})"
            cells.append(Cell(column, row, each.mean, title))
    grid = Grid([axis_label(p) for p in columns.points], [axis_label(p) for p in rows.points], cells)
    chart = heat_map(grid, f"{task} by both", axis_name(columns), axis_name(rows), score)
    metric = found[0].metric
    return Figure(chart, f"{task}: mean {metric} over seeds for each pair; stronger is higher.", kind="heat")
