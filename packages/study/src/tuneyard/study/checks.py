"""What is tried before anything is run: every value of every variable, every task file, the baseline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tuneyard.control.environments import ask_worker
from tuneyard.control.resolving.hub import hub_of
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.study.jobs import baselines, evaluation_specs, request_of
from tuneyard.study.study import SEED, Point, Study
from tuneyard.study.variables import Values

_NO_MODULE = re.compile(r"No module named '([\w.]+)'")


def check_values(study: Study) -> None:
    """Resolve each value of each variable once, the others at their first: a sum of trials and no product.

    Raises:
        RequestError: a value is wrong, a dataset or model is not there; with the variable.
        SetupError: the training's environment has not been built.
    """
    for params in one_at_a_time(study):
        point = Point(0, params)
        try:
            study.resolve(point)
        except RequestError as error:
            told = ", ".join(f"{key}={value!r}" for key, value in params.items())
            raise RequestError(f"{error.message} (with {told})", where=error.where, way_out=error.way_out) from error


def one_at_a_time(study: Study) -> Iterator[Values]:
    """Each value of each variable once, the others at their first."""
    first = next(study.points()).params
    yield first
    for axis in study.design.axes:
        for point in axis.points[1:]:
            yield {**first, **point}
    for seed in study.experiment.seeds[1:]:
        yield {**first, SEED: seed}


def check_tasks(study: Study) -> None:
    """Have the evaluation's own worker look at every task file.

    Raises:
        RequestError: no such folder or file, a syntax error, no task of that name; with the tasks that are there.
        SetupError: a package that a task imports is missing, or the evaluation's environment.
    """
    plan = study.experiment.evaluation
    if plan is None or not plan.enabled:
        return
    if plan.tasks_dir is not None and not (study.file.parent / plan.tasks_dir).is_dir():
        folder = plan.tasks_dir.rstrip("/") + "/"
        raise RequestError(
            f"Evaluation tasks directory not found: {folder}",
            where=str(study.file),
            way_out=f"mkdir -p {study.file.parent / plan.tasks_dir}, and put the task files there",
        )
    checked: set[str] = set()
    for spec in evaluation_specs(study).values():
        for task in spec["tasks"]:
            if task["task"].startswith("/") and task["task"] not in checked:
                _check_task(study, task["task"])
                checked.add(task["task"])


def _check_task(study: Study, task: str) -> None:
    file, _, name = task.partition("@")
    if not Path(file).exists():
        raise RequestError(
            f"Evaluation task file not found: {_short(study, file)}", where=str(study.file), way_out=_others(file)
        )
    # a task may make its dataset while it is imported; where the hub does not answer that must fail at once
    offline = {} if hub_of(study.workspace).reachable else {"HF_HUB_OFFLINE": "1"}
    try:
        ask_worker(study.workspace, "eval", "check", file, *([name] if name else []), extra=offline)
    except (RequestError, SetupError) as error:
        missing = _NO_MODULE.search(error.message)
        if missing:
            raise _no_module(missing[1], file) from error
        message = error.message.replace(file, _short(study, file))
        raise type(error)(message, where=_short(study, file), way_out=error.way_out) from error


def _no_module(name: str, file: str) -> SetupError:
    own = name.partition(".")[0] in ("inspect_ai", "inspect_evals", "lm_eval")
    command = "./pixiw install -e eval" if own else f"add {name.partition('.')[0]} to the environment `eval`"
    return SetupError(f"Module {name!r} not found", where=file, way_out=command)


def _short(study: Study, file: str) -> str:
    path = Path(file)
    folder = study.file.parent
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else file


def _others(file: str) -> str | None:
    folder = Path(file).parent
    names = sorted(p.name for p in folder.glob("*.py")) if folder.is_dir() else []
    return f"in {folder}: {', '.join(names)}" if names else f"mkdir -p {folder}, and write it there"


def check_baselines(study: Study) -> None:
    """Resolve the evaluations of the starting models; raises as `control.resolve` does."""
    for job in baselines(study):
        request_of(study, job).resolve(study.workspace, "eval")


def check(study: Study) -> None:
    """All of the above, the cheapest first."""
    check_values(study)
    check_tasks(study)
    check_baselines(study)
