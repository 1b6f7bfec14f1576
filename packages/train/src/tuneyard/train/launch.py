"""Several training processes: torchrun as a child of the worker, and the failure of the rank that failed first.

On several nodes of a SLURM job the child is srun, which starts a torchrun on each; they meet at the first node.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError, RunError, SetupError, TuneyardError
from tuneyard.core.failures import log_tail
from tuneyard.core.files import read_json
from tuneyard.core.processes import ATTEMPT_VARIABLE, PIPE_VARIABLE
from tuneyard.core.worker import Job, Stopped
from tuneyard.train.arguments import processes

POLL_SECONDS = 0.1

SIGNAL_SECONDS = 60.0
"""Seconds that SLURM may take to pass a signal on."""

PATIENCE = 15.0
"""Seconds that the other ranks get to end after one has failed: they may wait for it in a collective for ever."""

_SIGNALLED = re.compile(r"Signal \d+ \((SIG\w+)\) received by PID (\d+)")


def is_rank() -> bool:
    """Whether this process is one of several, started by torchrun."""
    return "RANK" in os.environ


def launch(job: Job) -> None:
    """Train in several processes; rank 0 writes events, artifacts and result.

    Raises:
        Stopped: the job was asked to end, and the ranks have ended.
        TuneyardError: a rank failed: its error, or that it was killed.
    """
    job.stops_itself = True
    child = subprocess.Popen(_command(job), env=_environment(job))
    code = _wait(job, child)
    if job.stop_requested.is_set() and not job.attempt.result.exists():
        raise Stopped
    if code or not job.attempt.result.exists():
        raise _failure(job, code)


def _command(job: Job) -> list[str]:
    return [
        *_on_each_node(job),
        sys.executable,
        "-m",
        "torch.distributed.run",
        *_meeting_place(job),
        f"--nproc-per-node={processes(job.spec)}",
        f"--shutdown-timeout={max(1, int(job.spec.cancel_grace))}",
        "-m",
        "tuneyard.train",
        "run",
        str(job.folder.path),
    ]


def _on_each_node(job: Job) -> list[str]:
    """What starts the rest of the command once on each node.

    Raises:
        SetupError: this is no job of SLURM with that many nodes.
    """
    nodes = job.spec.nodes
    if nodes == 1:
        return []
    given = int(os.environ.get("SLURM_JOB_NUM_NODES") or 1)
    if given < nodes:
        raise SetupError(
            f"the run wants {nodes} nodes and has {given}",
            where="nodes",
            way_out="start it with --on slurm, which asks for them",
        )
    cores = os.environ.get("SLURM_CPUS_PER_TASK")  # srun does not take it over from the job by itself
    return [
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={nodes}",
        "--ntasks-per-node=1",
        "--kill-on-bad-exit=1",
        "--cpu-bind=none",
        *([f"--cpus-per-task={cores}"] if cores else []),
    ]


def _meeting_place(job: Job) -> list[str]:
    if job.spec.nodes == 1:
        return ["--standalone"]
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    return [
        f"--nnodes={job.spec.nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={socket.gethostname()}:{port}",
        f"--rdzv-id={job.folder.id}-{job.attempt.number}",
    ]


def _environment(job: Job) -> dict[str, str]:
    variables = {k: v for k, v in os.environ.items() if k != PIPE_VARIABLE}  # its descriptor is not theirs
    variables[ATTEMPT_VARIABLE] = str(job.attempt.number)
    # LLaMA-Factory's own launcher sets these two: less fragmentation of the GPU's memory
    variables.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    variables.setdefault("TORCH_NCCL_AVOID_RECORD_STREAMS", "1")
    return variables


def _wait(job: Job, child: subprocess.Popen[bytes]) -> int:
    """Wait for torchrun; pass a request to end on; let no rank wait for one that has failed."""
    asked = False
    kill_at = None
    while child.poll() is None:
        if job.stop_requested.is_set() and not asked:
            asked = True
            _ask_all(job, child)
        if kill_at is None and job.attempt.rank_failures():
            kill_at = time.monotonic() + PATIENCE
        if kill_at is not None and time.monotonic() > kill_at:
            _end_all(job, child)
        time.sleep(POLL_SECONDS)
    return child.returncode


def _ask_all(job: Job, child: subprocess.Popen[bytes]) -> None:
    """Ask the ranks to end: by torchrun, or on every node by SLURM, since srun itself would kill them."""
    if job.spec.nodes > 1:
        _signal_nodes("TERM")
    else:
        child.terminate()


def _signal_nodes(name: str) -> None:
    """Send a signal to what srun started, on every node; not to the job's own script."""
    with suppress(subprocess.TimeoutExpired):
        command = ["scancel", f"--signal={name}", os.environ["SLURM_JOB_ID"]]
        subprocess.run(command, check=False, timeout=SIGNAL_SECONDS)


def _end_all(job: Job, child: subprocess.Popen[bytes]) -> None:
    """Kill the ranks; torchrun itself would give them the whole cancel_grace, and ends when they are gone."""
    if job.spec.nodes > 1:
        _signal_nodes("KILL")
        return
    for pid in _children(child.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _failure(job: Job, code: int) -> TuneyardError:
    failures = sorted((read_json(file) for file in job.attempt.rank_failures()), key=lambda f: f["time"])
    killed = _killed(job)
    if killed and not any(_is_cause(f) for f in failures):
        return RunError(
            f"a training process was ended by {killed}; the others then lost their connection to it",
            way_out="SIGKILL often means that memory ran out: a smaller batch, ZeRO or fewer data workers"
            if killed == "SIGKILL"
            else None,
        )
    if failures:
        return _as_error(next((f for f in failures if _is_cause(f)), failures[0]))
    return RunError(f"torchrun ended with exit code {code}, and no training process left a result")


_LOST = re.compile(r"Connection (?:closed|reset)|Broken pipe|NCCL|Gloo|connectFullMesh|ProcessGroup|collective", re.I)


def _is_cause(failure: dict[str, Any]) -> bool:
    """Whether a rank failed by itself, not because another was gone."""
    return not _LOST.search(failure["message"])


def _killed(job: Job) -> str | None:
    for line in reversed(log_tail(job.attempt.stderr)):
        if match := _SIGNALLED.search(line):
            return match.group(1) if match.group(1) != "SIGTERM" else None
    return None


def _as_error(failure: dict[str, Any]) -> TuneyardError:
    kinds: dict[str, type[TuneyardError]] = {"request": RequestError, "setup": SetupError}
    error = kinds.get(failure["kind"], RunError)(
        f"training process {failure['rank']}: {failure['message']}",
        where=failure.get("where"),
        way_out=failure.get("way_out"),
    )
    if failure["kind"] == "out_of_memory":
        error.kind = "out_of_memory"  # type: ignore[misc]
    return error
