"""Whether a study keeps to the workspace, as an agent's must: its files, what its runs read, where it writes."""

from __future__ import annotations

from pathlib import Path

from tuneyard.control.paths import inside
from tuneyard.control.resolving.request import Request
from tuneyard.control.starting import check_paths
from tuneyard.control.workspace import Workspace
from tuneyard.study.checks import one_at_a_time
from tuneyard.study.jobs import evaluation_specs
from tuneyard.study.study import Point, Study, open_study


def open_inside(path: str, workspace: Workspace) -> Study:
    """The study in a file of the workspace, every path that it names looked at before anything of it is read.

    Raises:
        RequestError: a path lies outside the workspace and its `allowed_paths`; or as `open_study` does.
    """
    file = inside(workspace, path)
    study = open_study(file, workspace)
    base = study.experiment.base
    if isinstance(base, str):
        inside(workspace, str(study.file.parent / base))
    output = study.experiment.output
    for folder in output.model_dump().values():
        inside(workspace, str(study.file.parent / folder))
    for params in one_at_a_time(study):
        mapping = study.mapping(Point(0, params))
        check_paths(workspace, Request(mapping, study.file.parent, str(study.file)), "train")
    for spec in evaluation_specs(study).values():
        _check_evaluation(workspace, study.file.parent, spec)
    return study


def _check_evaluation(workspace: Workspace, folder: Path, spec: dict[str, object]) -> None:
    # the model comes with each training; any that is there stands for it
    request = Request({**spec, "model": "builtin:tiny"}, folder, "evaluation")
    check_paths(workspace, request, "eval")
