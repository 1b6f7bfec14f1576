"""A run's job on the first node that SLURM gave it: which attempt it is, its devices, and why SLURM ends it.

    python -m tuneyard.control.slurm.node FOLDER [COMMAND ...]

The command is run at the end where the run has failed for want of memory: whoever submitted it may try it with less.
The job's exit code is 0 only where the run succeeded, which is what the jobs that wait for it go by.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneyard.control.devices import VISIBLE_VARIABLE, gpus
from tuneyard.control.endings import end_unstarted
from tuneyard.control.leases import Lease
from tuneyard.control.process_tree import Guarded, run_guarded
from tuneyard.core.errors import SetupError
from tuneyard.core.run_folder import Attempt, RunFolder
from tuneyard.core.slurm_jobs import Job, Silent, ask, facts, job_here, read_job

if TYPE_CHECKING:
    from tuneyard.core.results import Failure

KILL_SECONDS = 20.0
"""What a worker is given to end in when SLURM ends the job: less than SLURM's KillWait, whose default is 30 s."""

AGAIN = frozenset({"preempted", "time_limit"})
"""Kinds of failure after which the run goes on in the same job, as its next attempt."""


class Allocation:
    """What SLURM gave a run: the devices of a job, and the signals with which it takes them back."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        self.number = os.environ.get("SLURM_JOB_ID") or str(job)
        """SLURM's own number of this job, of an array's task too."""
        self.next: Attempt | None = None
        """The attempt in which the run goes on when SLURM starts the job again."""
        self._again: Literal["", "by itself", "on demand"] = ""
        """Whether SLURM starts the job again after it has ended it."""

    def lease(self, count: int) -> Lease:
        """The devices of the job; nobody else has them, so there is nothing to wait for.

        Raises:
            SetupError: the job has fewer than the run wants.
        """
        named = os.environ.get(VISIBLE_VARIABLE)
        visible = gpus() if named is None else [device for device in named.split(",") if device]
        if count > len(visible):
            raise SetupError(
                f"the run wants {count} GPUs and SLURM gave its job {len(visible)}",
                where=f"SLURM job {self.job}",
                way_out="`yard show` has the options it was submitted with in job.sh; gres asks for GPUs",
            )
        return Lease(tuple(visible[:count]), ())

    def cores(self) -> int:
        """CPU cores of the job on this node."""
        return int(os.environ.get("SLURM_CPUS_ON_NODE") or 1)

    def why_ended(self) -> tuple[str, str, str | None]:
        """Kind, message and way out of an end that SLURM brought about (TERM)."""
        try:
            now = facts(self.number)
        except Silent:
            return "cancelled", f"SLURM ended job {self.job}", None
        if int(now["Restarts"]) > self.restarts:
            self._again = "by itself"
            return "preempted", f"SLURM took the devices of job {self.job} away and starts it again", None
        if now.get("Reason") == "TimeLimit" or now.get("JobState") == "TIMEOUT":
            return "time_limit", *self._time_is_over()
        if now.get("PreemptTime", "None") != "None":
            return "preempted", f"SLURM gave the devices of job {self.job} to another", "`yard resume` goes on"
        return "cancelled", f"job {self.job} was cancelled in SLURM", None

    def time_nearly_over(self) -> tuple[str, str, str | None]:
        """Kind, message and way out of an end that SLURM gave notice of (USR1)."""
        self._again = "on demand"
        return "time_limit", *self._time_is_over()

    def _time_is_over(self) -> tuple[str, str]:
        way_out = "a longer time (slurm.time); `yard resume` goes on from the last checkpoint"
        return f"the time limit of SLURM job {self.job} is over", way_out

    def make_next(self, run: RunFolder, attempt: Attempt, failure: Failure) -> None:
        """Where the job is to begin again, make its next attempt: before this one's result is written, so that nobody
        who waits for the run takes that for its end."""
        if failure.kind not in AGAIN or attempt.cancel_requests():
            return
        if self._again == "on demand" and not (self._may_requeue() and _left_checkpoint(attempt)):
            self._again = ""
        if self._again:
            self.next = run.claim_attempt(attempt.number + 1)
        if self.next is not None:
            self.job.write(self.next.job)

    def _restarts(self) -> bool:
        """Whether SLURM is going to start the job again."""
        for _ in range(3):  # SLURM may end what asks it, together with the job
            with suppress(Silent):
                return int(facts(self.number)["Restarts"]) > self.restarts
        return False

    def _may_requeue(self) -> bool:
        """Whether the job allows it, and nobody is ending it: to requeue a job that is cancelled would revive it."""
        with suppress(Silent):
            now = facts(self.number)
            return (now["Requeue"], now["JobState"]) == ("1", "RUNNING")
        return False

    def go_on(self, run: RunFolder) -> None:
        """Have SLURM start the job again, where it does not by itself."""
        if self.next is None or self._again != "on demand":
            return
        if not self._may_requeue():
            end_unstarted(run, self.next, f"job {self.job} was cancelled in SLURM", "cancelled")
            return
        try:
            ask(["scontrol", "requeue", self.number])
        except Silent as silence:
            if not self._restarts():
                message = f"SLURM did not start job {self.job} again: {silence}"
                end_unstarted(run, self.next, message, "time_limit")


def _left_checkpoint(attempt: Attempt) -> bool:
    """Whether an attempt came further than where it began. One that did not would only begin again, for ever."""
    from tuneyard.control.summary import last_event

    return last_event(attempt, "checkpoint") is not None


def complete_spec(run: RunFolder) -> dict[str, Any]:
    """The run's spec, with the model that was still being made when it was submitted; written back once.

    Raises:
        TuneyardError: that model is not there.
    """
    spec = run.read_spec()
    model = spec.get("model")
    if not (isinstance(model, dict) and model.get("run") and not model.get("path") and not model.get("adapter")):
        return spec
    from tuneyard.control.resolving.hub import hub_of
    from tuneyard.control.resolving.models import resolve_model
    from tuneyard.control.workspace import find_workspace
    from tuneyard.core.files import write_json
    from tuneyard.core.references import ModelRef

    workspace = find_workspace()
    reference = ModelRef(reference=model["reference"])
    spec["model"] = resolve_model(reference, workspace.runs, hub_of(workspace)).model_dump(mode="json")
    write_json(run.spec, spec)
    return spec


def turn_of(run: RunFolder, job: Job) -> Attempt | None:
    """The attempt that a job is to work on; None where there is nothing to do.

    It is the one that was submitted with the job; the next one where SLURM started the job again, or where a person
    submitted job.sh.
    """
    latest = run.latest()
    if latest is None:
        return _mark(run.claim_attempt(1), job)
    if not latest.supervisor.exists():
        return _mark(latest, job)
    status = run.status()
    if status.state == "succeeded" or latest.cancel_requests() or latest.supervisor_lives():
        return None
    given = read_job(latest.job)
    same = given is not None and (given.id, given.task) == (job.id, job.task)
    restarted = same and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    if same and not restarted:
        return None  # it was ended before it began
    return _mark(run.claim_attempt(latest.number + 1), job) if restarted or status.ended else None


def _mark(attempt: Attempt | None, job: Job) -> Attempt | None:
    if attempt is not None:
        job.write(attempt.job)
    return attempt


def main(argv: list[str]) -> None:
    """Work on the run that the first argument names, as the job that this process is in."""
    run, job = RunFolder(Path(argv[0]).absolute()), job_here()
    if job is None:
        sys.exit("this is started by SLURM: `sbatch job.sh` in the run folder")
    attempt = turn_of(run, job)
    if attempt is None:
        print(f"nothing to do: {run.id} is {run.status().state}", file=sys.stderr)
        sys.exit(0 if run.status().state == "succeeded" else 1)
    with open(attempt.supervisor_log, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    run_guarded(lambda guard: _work(run, attempt, guard, Allocation(job), argv[1:]), run.id, attempt.number, signals)


def _work(
    run: RunFolder, attempt: Attempt, guard: Guarded, allocation: Allocation, when_out_of_memory: Sequence[str]
) -> int:
    from tuneyard.control.supervisor import supervise

    supervise(run, attempt, guard, allocation=allocation)
    allocation.go_on(run)
    if when_out_of_memory and run.ran_out_of_memory():
        subprocess.run(when_out_of_memory, check=False)  # what goes wrong is in this attempt's supervisor.log
    return 0 if run.status().state == "succeeded" else 1


if __name__ == "__main__":
    main(sys.argv[1:])
