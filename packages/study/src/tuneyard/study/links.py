"""results/ and eval_results/: links to what the runs left, where a person and `inspect view` look for it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tuneyard.core.files import explain_os_error
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.jobs import TRAIN, Job
from tuneyard.study.study import Study


def link(study: Study, job: Job, run: RunFolder) -> None:
    """Show what a run left under the study's own names. A link that is there is turned to the new place.

    Raises:
        SetupError: the study's folder cannot be written to.
    """
    name = f"run_{job.owner}" if job.point is not None else job.owner
    try:
        if job.stage == TRAIN:
            _training(study.folder.results / name, run)
        else:
            _evaluation(study.folder.eval_results / name, job, run)
    except OSError as error:
        raise explain_os_error(error, study.folder.path) from error


def _training(place: Path, run: RunFolder) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, target in (("run", run.path), ("hf_model", run.model), ("adapter", run.adapter)):
        if target.exists():
            _point(place / name, target)


def _evaluation(place: Path, job: Job, run: RunFolder) -> None:
    """`eval_results/run_000/TASK/`: real folders with links to files, since `inspect view` follows no linked folder."""
    for task in job.mapping["tasks"]:
        folder = place / _task_name(task["task"])
        folder.mkdir(parents=True, exist_ok=True)
        _point(folder / "run", run.path)
        _point(folder / "samples.jsonl", run.samples)
        for log in run.raw.rglob("*.eval"):
            if _task_name(task["task"]).replace("_", "-") in log.name or len(job.mapping["tasks"]) == 1:
                _point(folder / log.name, log)


def _task_name(task: str) -> str:
    """`domain_qa` for `/path/evals/domain_qa.py@domain_qa`, `gsm8k` for `gsm8k`."""
    file, _, name = task.partition("@")
    return name or Path(file).stem


def _point(place: Path, target: Path) -> None:
    """A relative link, so that a workspace can be moved as a whole; a file of the user's is left alone."""
    pointer = os.path.relpath(target, place.parent)
    if (place.exists() and not place.is_symlink()) or (place.is_symlink() and os.readlink(place) == pointer):
        return
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(pointer)
    temporary.replace(place)
