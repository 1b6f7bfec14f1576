"""Starting, cancelling, resuming and removing runs. All of it works on the run's files; nothing is kept in memory."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tuneyard.control.endings import end_unstarted
from tuneyard.control.environments import RUN_VARIABLES, WorkerStart, raised_error, worker_start
from tuneyard.control.process_tree import SUPERVISES_VARIABLE
from tuneyard.control.workspace import WORKSPACE_VARIABLE, Workspace
from tuneyard.core.errors import RequestError, RunError, SetupError, TuneyardError
from tuneyard.core.files import explain_os_error
from tuneyard.core.kinds import environment_of
from tuneyard.core.processes import kill_run
from tuneyard.core.run_folder import START_PATIENCE, Attempt, RunFolder, RunStatus, is_run_id

ENDING_SECONDS = 15.0
"""How long to wait for a supervisor that has written the result and still ends what its worker left."""


def start(
    workspace: Workspace,
    run: RunFolder,
    variables: Mapping[str, str] | None = None,
    slurm: Mapping[str, Any] | None = None,
) -> Attempt:
    """Start the first attempt of a run; returns as soon as its supervisor, or SLURM's queue, has it.

    Args:
        workspace: where the environments are.
        run: its spec.json is written and resolved.
        variables: for the worker, on top of this process's own, such as HF_HUB_OFFLINE.
        slurm: sbatch's options (`slurm_script.options`) for a run that SLURM is to start. None: it is started here.

    Raises:
        RequestError: the run was started before.
        SetupError: its environment is missing; or the supervisor could not be started or SLURM does not take the job,
            then the run has failed.
    """
    worker = _worker(workspace, run, variables)
    attempt = _claim(run, 1)
    if attempt is None:
        raise RequestError(f"{run.id} was started before", way_out=f"`yard resume {run.id}` starts it again")
    if slurm is not None:
        _submit(workspace, run, attempt, slurm, variables)
    else:
        _spawn(workspace, run, attempt, worker)
    return attempt


def cancel(workspace: Workspace, run: RunFolder, who: str) -> None:
    """Ask for the end of a run; returns at once. Asked a second time, what still runs is killed without more delay.

    Args:
        workspace: where the run is.
        run: one that has not ended.
        who: who asks, for the result.

    Raises:
        RequestError: it has ended.
    """
    status = run.status()
    if status.ended:
        raise RequestError(f"{run.id} has already ended: {status.state}", way_out=f"`yard show {run.id}` tells how")
    attempt = run.latest() or run.claim_attempt(1) or run.latest()
    assert attempt is not None
    first = attempt.ask_cancel(who)
    unstarted = end_unstarted(run, attempt, f"cancelled by {who} before it began", "cancelled")
    if attempt.job.exists():
        from tuneyard.control.slurm.submit import cancel_job

        cancel_job(attempt, politely=first and not unstarted)


def resume(
    workspace: Workspace,
    run: RunFolder,
    variables: Mapping[str, str] | None = None,
    slurm: Mapping[str, Any] | None = None,
) -> Attempt:
    """Start the next attempt of a run that failed, was cancelled or was lost; the worker goes on from its checkpoint.

    Whatever still carries the run's id is ended first. A run that SLURM had goes to SLURM again, with the options that
    the settings have now, or with `slurm` (as for `start`).

    Raises:
        RequestError: it succeeded, it runs, it runs elsewhere, or somebody resumes it at the same moment; or it wants
            more GPUs than there are.
        SetupError: its environment is missing, or the supervisor could not be started.
        RunError: a process of an earlier attempt does not end.
    """
    status = run.status()
    _refuse_to_resume(run, status)
    _wait_for_supervisor(run)
    worker = _worker(workspace, run, variables)
    slurm = _slurm_options(workspace, run) if slurm is None else slurm
    if slurm is None:
        _check_devices(run)
    attempt = _claim(run, status.attempt + 1)
    if attempt is None:
        raise RequestError(f"somebody else has just resumed {run.id}", way_out=f"`yard show {run.id}`")
    left = kill_run(run.id)
    if left:
        message = f"processes of an earlier attempt do not end: {', '.join(map(str, left))}"
        end_unstarted(run, attempt, message, "failed")
        raise RunError(message, where=run.id, way_out="the system must let go of them first; a restart helps")
    if slurm is not None:
        _submit(workspace, run, attempt, slurm, variables)
    else:
        _spawn(workspace, run, attempt, worker)
    return attempt


def remove(workspace: Workspace, run: RunFolder) -> None:
    """Delete a run and all its files.

    Raises:
        RequestError: it runs, or another run's spec refers to it.
        SetupError: its files cannot be deleted.
    """
    status = run.status()
    if not status.ended:
        raise RequestError(f"{run.id} is {status.state}", where=str(run.path), way_out=_way_to_end(run, status))
    _wait_for_supervisor(run)
    users = referring(workspace.runs, run)
    if users:
        raise RequestError(
            f"{run.id} is referred to by {', '.join(users[:5])}" + (" …" if len(users) > 5 else ""),
            way_out=f"`yard rm {users[0]}` first, or keep it",
        )
    if _claim(run, status.attempt + 1) is None:  # excludes a resume at the same moment
        raise RequestError(f"somebody has just resumed {run.id}", way_out=f"`yard show {run.id}`")
    kill_run(run.id)
    _delete(run.path)


def wait(run: RunFolder, timeout: float | None = None) -> RunStatus:
    """Wait until a run has ended, or until `timeout` seconds are over; look at `.ended` to know which."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = 0.01
    while not (status := run.status()).ended:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            break
        time.sleep(pause if left is None else min(pause, left))
        pause = min(0.2, pause * 1.5)
    return status


def referring(runs: Path, run: RunFolder) -> list[str]:
    """Ids of the other runs whose spec names this one."""
    name = run.id.encode()
    return [other for other in sorted(os.listdir(runs)) if other != run.id and _mentions(runs / other, name)]


def _mentions(folder: Path, name: bytes) -> bool:
    try:
        return is_run_id(folder.name) and name in RunFolder(folder).spec.read_bytes()
    except OSError:
        return False


def _claim(run: RunFolder, number: int) -> Attempt | None:
    try:
        return run.claim_attempt(number)
    except OSError as error:
        raise explain_os_error(error, run.attempts_folder) from error


def _worker(workspace: Workspace, run: RunFolder, variables: Mapping[str, str] | None) -> WorkerStart:
    return worker_start(workspace, environment_of(run.read_spec()), "run", str(run.path), extra=variables)


def _submit(
    workspace: Workspace,
    run: RunFolder,
    attempt: Attempt,
    options: Mapping[str, Any],
    variables: Mapping[str, str] | None,
) -> None:
    from tuneyard.control.slurm.submit import submit

    try:
        submit(workspace, run, attempt, options, variables)
    except TuneyardError as error:
        end_unstarted(run, attempt, error.message, "setup")
        raise


def _slurm_options(workspace: Workspace, run: RunFolder) -> dict[str, Any] | None:
    """The options for a run that SLURM had; None for one that ran here."""
    latest = run.latest()
    if latest is None or not latest.job.exists():
        return None
    from tuneyard.control.slurm.script import options
    from tuneyard.control.slurm.submit import require

    require()
    return options(workspace)


def _spawn(workspace: Workspace, run: RunFolder, attempt: Attempt, worker: WorkerStart) -> None:
    try:
        said = _start_supervisor(workspace, run, attempt, worker)
    except OSError as error:
        raise explain_os_error(error, attempt.folder) from error
    if said.get("ready"):
        return
    error = raised_error(said.get("error")) or _silent(attempt)
    with suppress(OSError, TuneyardError):  # on a full disk it cannot be written, and will read as lost
        end_unstarted(run, attempt, error.message, "setup")
    raise error


def _silent(attempt: Attempt) -> SetupError:
    from tuneyard.core.failures import log_tail

    tail = log_tail(attempt.supervisor_log, 5)
    return SetupError(
        "its supervisor could not start" + (f": {tail[-1]}" if tail else ""),
        where=str(attempt.supervisor_log),
        way_out="`df -h` and `./pixiw install` are the usual",
    )


def _start_supervisor(workspace: Workspace, run: RunFolder, attempt: Attempt, worker: WorkerStart) -> dict[str, Any]:
    """Start it apart from this process: no terminal, no common session, no child. Returns its first word."""
    command = [sys.executable, "-P", "-m", "tuneyard.control.supervisor", str(run.path), str(attempt.number)]
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as first_word:
        with open(writing, "wb"), open(attempt.supervisor_log, "ab") as log:
            process = subprocess.Popen(
                [*command, "--detached", str(writing)],
                env=_supervisor_variables(workspace, run),
                cwd=workspace.path,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(writing,),
            )
        process.communicate(json.dumps(asdict(worker)).encode())
        ready, _, _ = select.select([first_word], [], [], START_PATIENCE)
        return json.loads((first_word.read(65536) if ready else b"") or b"{}")


def _supervisor_variables(workspace: Workspace, run: RunFolder) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in RUN_VARIABLES}
    return {**inherited, SUPERVISES_VARIABLE: run.id, WORKSPACE_VARIABLE: str(workspace.path)}


def _refuse_to_resume(run: RunFolder, status: RunStatus) -> None:
    if status.state == "succeeded":
        raise RequestError(f"{run.id} succeeded; there is nothing to resume", way_out="start a new run")
    if not status.ended:
        reason = f" ({status.reason})" if status.reason else ""
        raise RequestError(f"{run.id} is {status.state}{reason}", way_out=_way_to_end(run, status))


def _way_to_end(run: RunFolder, status: RunStatus) -> str:
    if status.state == "unknown":
        return "look on the host that it was started on"
    return f"`yard cancel {run.id}` ends it"


def _check_devices(run: RunFolder) -> None:
    from tuneyard.control.devices import resolve_gpus

    resolve_gpus(run.read_spec().get("gpus") or 0)


def _supervised(run: RunFolder) -> bool:
    latest = run.latest()
    return latest is not None and latest.supervisor_lives()


def _wait_for_supervisor(run: RunFolder) -> None:
    deadline = time.monotonic() + ENDING_SECONDS
    while _supervised(run):
        if time.monotonic() > deadline:
            raise RequestError(f"the last attempt of {run.id} is still being ended", way_out="try again in a minute")
        time.sleep(0.02)


def _delete(path: Path) -> None:
    """Take a folder out of sight in one step, then delete it."""
    hidden = path.with_name(f".removed-{path.name}-{os.getpid()}")
    try:
        path.rename(hidden)
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        shutil.rmtree(hidden)
    except OSError as error:
        raise explain_os_error(error, hidden) from error
