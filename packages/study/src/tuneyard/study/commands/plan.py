"""`yard study plan`: what would be run, and what it costs. Nothing is written."""

from __future__ import annotations

import json

from tuneyard.control.summary import duration, table
from tuneyard.study.checks import check
from tuneyard.study.commands.opening import add_yes, parser, refuse_huge, study_of
from tuneyard.study.plan import Plan, Rate, matrix, plan_of
from tuneyard.study.study import Study


def main(command: str, arguments: list[str]) -> int:
    made = parser(command, "Show what a study would run: the matrix, the cost, the disk, and what is doubtful.")
    made.add_argument(
        "--rows", type=int, default=20, metavar="N", help="runs of the matrix that are shown (default 20)"
    )
    made.add_argument("--check", action="store_true", help="also try every value and every task file, as `run` does")
    add_yes(made)
    options = made.parse_args(arguments)
    study = study_of(options)
    refuse_huge(study, options.yes)
    if options.check:
        check(study)
    plan = plan_of(study)
    print(json.dumps(as_json(study, plan, options.rows), indent=2) if options.json else text(study, plan, options.rows))
    return 0


def as_json(study: Study, plan: Plan, rows: int) -> dict[str, object]:
    """The plan and the first runs as plain values."""
    runs = [{"id": point.id, "params": point.params} for point in matrix(study, rows)]
    return {**plan.as_json(), "variables": list(study.design.keys), "runs": runs}


def text(study: Study, plan: Plan, rows: int) -> str:
    """The plan for people."""
    about = study.experiment.experiment
    lines = [("study", plan.name)]
    lines += [
        (name, value) for name, value in (("question", about.question), ("hypothesis", about.hypothesis)) if value
    ]
    lines += [
        ("trainings", f"{plan.trainings} ({plan.combinations} combinations x {plan.seeds} seed(s))"),
        ("evaluations", str(plan.evaluations)),
        ("at once", f"{plan.slots}, each on {_device(plan)}"),
        ("cost", _cost(plan)),
        ("disk", "unknown: set cost.run_gigabytes" if plan.gigabytes is None else f"{plan.gigabytes:.2f} GB"),
    ]
    warnings = "".join(f"\nwarning: {warning}" for warning in plan.warnings)
    return f"{table(lines, '')}\n\n{_matrix(study, plan, rows)}{warnings}"


def _device(plan: Plan) -> str:
    if not plan.gpus:
        return "a CPU slot"
    return "a GPU" if plan.gpus == 1 else f"{plan.gpus} GPUs"


def _cost(plan: Plan) -> str:
    if plan.device_hours is None or plan.wall_hours is None:
        return "unknown: set cost.train_time (and eval_time), or run one and plan again"
    unit = "GPU hours" if plan.gpus else "CPU-slot hours"
    rates = ", ".join(
        _rate(name, rate) for name, rate in (("training", plan.train), ("evaluation", plan.evaluate)) if rate
    )
    return f"{plan.device_hours:.2f} {unit}, {duration(plan.wall_hours * 3600)} on this machine ({rates})"


def _rate(name: str, rate: Rate) -> str:
    origin = "given" if rate.given else f"measured on {rate.runs}"
    return f"a {name} {duration(rate.seconds)}, {origin}".replace("a evaluation", "an evaluation")


def _matrix(study: Study, plan: Plan, rows: int) -> str:
    points = matrix(study, rows)
    keys = list(points[0].params) if points else []
    cells = [["run", *keys], *([point.id, *(str(point.params[key]) for key in keys)] for point in points)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(keys) + 1)]
    text = "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells)
    more = plan.trainings - len(points)
    return text + (f"\n… {more:,} more; --rows N shows them" if more > 0 else "") + "\n"
