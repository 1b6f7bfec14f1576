"""SLURM as the second runner: the same runs, whose supervisors a job starts on a node.

    submit          one run, by its job.sh
    submit_runs     many, as arrays; each may wait for the run it evaluates
    cancel_job      out of the queue, or politely while it works

Whoever submits first writes attempts/N/slurm.json without a number, then with it: one who is killed in between loses
nothing, since the job is found by its name, and a job that begins is told by its variables.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.control.endings import end_unstarted
from tuneyard.control.environments import RUN_VARIABLES
from tuneyard.control.slurm.script import array_script, job_script, last_command, needs, options
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import write_atomically
from tuneyard.core.run_folder import Attempt, RunFolder
from tuneyard.core.slurm_jobs import Job, Silent, ask, forget, new_job, read_job

ARRAYS = ".slurm"
"""Folder beside the runs that keeps the scripts of arrays."""

LARGEST_ARRAY = 1000
"""Most tasks of an array where SLURM does not tell its MaxArraySize, whose default this is, less one."""


_OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS")
"""SLURM's variables that tell where the cluster is, not which job this is."""


def require() -> None:
    """Raise SetupError where there is no SLURM to submit to."""
    if shutil.which("sbatch") is None:
        raise SetupError(
            "there is no SLURM on this machine: `sbatch` is not to be found",
            way_out="go to a login node of the cluster, or start it on this machine (on: local)",
        )


def options_on(workspace: Workspace, on: str, given: Mapping[str, Any], *, start: bool = True) -> dict[str, Any] | None:
    """sbatch's options for what runs on `slurm`; None for what runs `local`.

    Args:
        workspace: whose settings the options begin with.
        on: `local` or `slurm`.
        given: options by name, before those of the settings.
        start: whether it is really to be submitted.

    Raises:
        RequestError: an option is wrong, or given for what runs here.
        SetupError: there is no SLURM on this machine.
    """
    if on == "local":
        if given:
            way_out = "start it on SLURM (on: slurm), or leave them out"
            raise RequestError(f"{', '.join(given)}: of a SLURM job, and it runs here", where="slurm", way_out=way_out)
        return None
    if start:
        require()
    return options(workspace, given)


def submit(
    workspace: Workspace,
    run: RunFolder,
    attempt: Attempt,
    chosen: Mapping[str, Any],
    variables: Mapping[str, str] | None = None,
) -> Job:
    """Give an attempt to SLURM. What the run's last job was to do at its end, this one does too.

    Args:
        workspace: where the run's environment is, on the nodes too.
        run: its spec.json is written.
        attempt: claimed, and nobody's yet.
        chosen: options (`slurm_script.options`).
        variables: for the worker, such as HF_HUB_OFFLINE.

    Raises:
        SetupError: SLURM is not here, does not answer, or does not take the job.
    """
    script = job_script(workspace, run, needs(run.read_spec(), chosen), variables, last_command(run))
    write_atomically(run.job_script, script)
    intent = new_job(run.id)
    intent.write(attempt.job)
    job = new_job(run.id, id=_sbatch([str(run.job_script)], run.id))
    job.write(attempt.job)
    return job


def submit_runs(
    workspace: Workspace,
    runs: Sequence[RunFolder],
    *,
    limit: int | None = None,
    after: Sequence[RunFolder | None] | None = None,
    given: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
    scripts: Path | None = None,
    when_out_of_memory: Sequence[str] = (),
) -> list[Job]:
    """Give many runs to SLURM, as few arrays: one for all that need the same.

    Args:
        workspace: where the runs' environments are, on the nodes too.
        runs: created, with spec.json; not started, or ended without success.
        limit: how many of an array may run at once. Default: as many as there is room for.
        after: for each run the one that must have succeeded before it begins, such as the training that an evaluation
            waits for; SLURM cancels it where that fails. A run that has succeeded already is not waited for.
        given: sbatch's options, before those of the settings.
        variables: for the workers, such as HF_HUB_OFFLINE.
        scripts: folder for the arrays' scripts. Default: `.slurm` beside the runs.
        when_out_of_memory: a command that the job of a run which has failed for want of memory ends with, on its node.

    Returns:
        the job of each run, in their order.

    Raises:
        RequestError: an option is wrong, a run is under way or has succeeded, or one that is waited for has failed.
        SetupError: SLURM is not here, does not answer, or does not take an array; the runs of that array have failed,
            those of arrays before it stay in the queue.
    """
    require()
    if limit is not None and limit < 1:
        raise RequestError(f"limit {limit}: at least one run at a time")
    chosen = options(workspace, given)
    waited = [_awaited(run) for run in after or [None] * len(runs)]
    if len(waited) != len(runs):
        raise RequestError(f"{len(runs)} runs and {len(waited)} to wait for: one for each")
    for run in runs:
        _refuse_under_way(run)
    folder = scripts or workspace.runs / ARRAYS
    folder.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, Job] = {}
    earlier: dict[str, str] = {}
    for array in _arrays(runs, waited, chosen):
        for run in array.runs.values():
            script = job_script(workspace, run, array.needs, variables, when_out_of_memory)
            write_atomically(run.job_script, script)
        dependency = ",".join(filter(None, [array.dependency, earlier.get(array.queue) if limit else None]))
        submitted = _submit_array(array, limit, dependency, folder)
        jobs |= submitted
        earlier[array.queue] = f"afterany:{next(iter(submitted.values())).id}"
    return [jobs[run.id] for run in runs]


@dataclass
class _Array:
    """Runs that one script starts."""

    runs: dict[int, RunFolder]
    needs: dict[str, Any]
    dependency: str | None
    """The array that it waits for, index by index."""
    queue: str
    """Arrays of one queue were split only for their size, and share the limit."""


def _arrays(runs: Sequence[RunFolder], waited: Sequence[Job | None], chosen: Mapping[str, Any]) -> Iterator[_Array]:
    """The runs in groups of the same needs that wait for the same array, each at the index of what it waits for."""
    found: dict[tuple[str, str | None], list[_Array]] = {}
    largest = _largest_array()
    for run, job in zip(runs, waited, strict=True):
        wanted = needs(run.read_spec(), chosen)
        dependency = job and (f"afterok:{job.id}" if job.task is None else f"aftercorr:{job.id}")
        key = json.dumps(wanted, sort_keys=True), dependency
        group = found.setdefault(key, [])
        index = job.task if job is not None and job.task is not None else None
        place = next((a for a in group if len(a.runs) < largest and index not in a.runs), None)
        if place is None:
            place = _Array({}, wanted, dependency, key[0])
            group.append(place)
        place.runs[len(place.runs) if index is None else index] = run
    for group in found.values():
        yield from group


def _awaited(run: RunFolder | None) -> Job | None:
    """The job of a run that is waited for; None where it has succeeded.

    Raises:
        RequestError: it is not in SLURM's hands, or has ended otherwise.
    """
    status = run.status() if run else None
    if run is None or status is None or status.state == "succeeded":
        return None
    latest = run.latest()
    job = read_job(latest.job) if latest else None
    if job is None or job.id is None or status.ended:
        raise RequestError(f"{run.id} is {status.state}: nothing can wait for it", way_out=f"yard show {run.id}")
    return job


def _refuse_under_way(run: RunFolder) -> None:
    status = run.status()
    if status.state == "succeeded" or (status.attempt and not status.ended):
        raise RequestError(f"{run.id} is {status.state}", way_out=f"`yard show {run.id}`")


def _submit_array(array: _Array, limit: int | None, dependency: str, folder: Path) -> dict[str, Job]:
    name = "array-" + "".join(random.SystemRandom().choices("abcdefghijkmnpqrstuvwxyz23456789", k=8))
    script = folder / f"{name}.sh"
    write_atomically(script, array_script(name, array.runs, limit, array.needs, folder / f"{name}.log"))
    attempts = {index: run.new_attempt() for index, run in array.runs.items()}
    for index, attempt in attempts.items():
        new_job(name, index).write(attempt.job)
    waits = [f"--dependency={dependency}", "--kill-on-invalid-dep=yes"] if dependency else []
    try:
        number = _sbatch([*waits, str(script)], name)
    except SetupError as error:
        for index, attempt in attempts.items():
            end_unstarted(array.runs[index], attempt, error.message, "setup")
        raise
    jobs = {run.id: new_job(name, index, number) for index, run in array.runs.items()}
    for index, attempt in attempts.items():
        jobs[array.runs[index].id].write(attempt.job)
    return jobs


def _sbatch(arguments: list[str], name: str) -> str:
    """The number of the submitted job.

    Raises:
        SetupError: SLURM does not take it.
    """
    try:
        answer = ask(["sbatch", "--parsable", *arguments], _variables_for_a_job())
    except Silent as silence:
        raise SetupError(
            f"SLURM does not take the job: {silence}",
            where=name,
            way_out="`sinfo` and `squeue` tell how the cluster is; the settings are `slurm:` in tuneyard.yaml",
        ) from None
    forget()
    return answer.strip().partition(";")[0]


def _variables_for_a_job() -> dict[str, str]:
    """This process's variables, which sbatch passes on, without what is true of this process alone.

    Inside a job, SLURM's own would tell the new one that it is a task of the array that this one belongs to.
    """
    dropped = {*RUN_VARIABLES, "CUDA_VISIBLE_DEVICES"}  # the devices of this shell are not the job's
    if "SLURM_JOB_ID" in os.environ:
        dropped |= {name for name in os.environ if name.startswith("SLURM_") and name not in _OF_THE_CLUSTER}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def cancel_job(attempt: Attempt, *, politely: bool) -> None:
    """End the job of an attempt whose cancel file is written.

    Args:
        attempt: one that was given to SLURM.
        politely: tell its supervisor alone, which lets the worker end in its own time. Else SLURM ends it: at once in
            the queue; with its own delay (KillWait) where it runs.
    """
    job = read_job(attempt.job)
    if job is None or job.id is None:
        return  # it is being submitted; when it begins, it finds that the attempt has ended
    with suppress(Silent):  # the cancel file stands: the supervisor sees it, and a job that begins later does nothing
        ask(["scancel", *(["--batch", "--signal=TERM"] if politely else []), str(job)])
    forget()


def _largest_array() -> int:
    with suppress(Silent):
        for line in ask(["scontrol", "show", "config"]).splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "MaxArraySize" and value.strip().isdecimal():
                return max(1, int(value) - 1)
    return LARGEST_ARRAY
