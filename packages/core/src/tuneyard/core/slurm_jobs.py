"""What SLURM says of the jobs that attempts were given to; asked only where a run's own files do not tell.

One question serves every run: `squeue` is asked for all jobs of a user, and the answer is kept for some seconds.
`sacct`, which may be half a minute behind and is not everywhere, is asked for what squeue has forgotten.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneyard.core.run_folder import State

ANSWER_SECONDS = 15.0
"""How long SLURM's programs may take to answer."""

KEPT_SECONDS = 3.0
"""Age up to which an answer is used again."""

SILENCE_SECONDS = 20.0
"""How long not to ask a controller again that did not answer."""

SUBMIT_SECONDS = 60.0
"""How long a submission may take until the job counts as never submitted."""

ACCOUNTS_DAYS = 30
"""How far back before a job sacct is asked at once, so that the question serves older ones too."""

_FORMAT = "%F|%K|%T|%r|%V|%j"
_WAITS = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_WORKS = frozenset({"RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "COMPLETING"})


class Silent(Exception):
    """SLURM does not answer, or not here; the message says why."""


@dataclass(frozen=True)
class Job:
    """attempts/N/slurm.json: the job that an attempt was given to."""

    id: str | None
    """SLURM's number; of an array, the array's. None while it is being submitted."""
    task: int | None
    """Index in the array; None outside one."""
    name: str
    """Its name in the queue, by which it is found where whoever submitted it died before knowing its number."""
    user: str
    """Who submitted it."""
    submitted: float
    """Unix time at which this was written."""

    def __str__(self) -> str:
        """As `squeue` and `scancel` write it: `12` or `12_3`."""
        return str(self.id) if self.task is None else f"{self.id}_{self.task}"

    def write(self, path: Path) -> None:
        from tuneyard.core.files import write_json

        write_json(path, asdict(self))


@dataclass(frozen=True)
class JobState:
    """What SLURM says of a job."""

    state: str
    """SLURM's own word, such as PENDING or NODE_FAIL."""
    reason: str
    """Why it waits or ended, in SLURM's own word; empty for none."""
    id: str
    """SLURM's number."""
    submitted: str = ""
    """When, as SLURM writes it; the later of two sorts behind the earlier."""


def read_job(path: Path) -> Job | None:
    """The job that a file names, or None where there is no such file."""
    try:
        return Job(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None


def state_of(job: Job, *, supervised: bool) -> tuple[State, str]:
    """The state of an attempt whose files do not tell, as its job tells it; and why.

    Args:
        job: the attempt's.
        supervised: whether its supervisor was started and is silent now.
    """
    try:
        found = look_up(job)
    except Silent as silence:
        return "unknown", f"SLURM job {job}: {silence}"
    return _unknown_to_slurm(job) if found is None else _told(job, found, supervised)


def _unknown_to_slurm(job: Job) -> tuple[State, str]:
    if job.id is not None:
        return "lost", f"SLURM no longer knows job {job}"
    if time.time() - job.submitted < SUBMIT_SECONDS:
        return "queued", "it is being submitted"
    return "lost", "it never came into SLURM's queue"


def _told(job: Job, found: JobState, supervised: bool) -> tuple[State, str]:
    reason = f" ({found.reason})" if found.reason else ""
    if found.state in _WAITS:
        return "queued", f"SLURM job {job}{reason}"
    if found.state in _WORKS:
        text = f"SLURM job {job} is {found.state}"
        return ("unknown", f"its supervisor is silent, {text}") if supervised else ("queued", text)
    if found.state == "CANCELLED":  # the reason may be an old one, from when it waited
        why = ": what it waited for did not succeed" if found.reason.startswith("Dependency") else ""
        return "cancelled", f"SLURM job {job} was cancelled{why}"
    return "lost", f"SLURM job {job} ended as {found.state}{reason}"


def look_up(job: Job) -> JobState | None:
    """What SLURM knows of a job: from the queue, else from the accounts; None where neither has it.

    Raises:
        Silent: SLURM is not here, or does not answer.
    """
    queue = _queue(job.user, newer_than=job.submitted)
    if job.id is None:
        same = [state for key, state in queue.by_name.items() if key[:2] == (job.name, job.task)]
        return max(same, key=lambda state: int(state.id), default=None)
    found = queue.jobs.get((job.id, job.task)) or _accounts(job).get((job.id, job.task))
    if found is None and job.user != _user():
        raise Silent(f"the jobs of {job.user} may be hidden from {_user()}")
    return found


class _Queue:
    """One answer of squeue."""

    def __init__(self, asked: float, text: str) -> None:
        self.asked = asked
        self.jobs: dict[tuple[str, int | None], JobState] = {}
        self.by_name: dict[tuple[str, int | None, str], JobState] = {}
        for line in text.splitlines():
            number, task, state, reason, submitted, name = line.split("|", 5)
            index = int(task) if task.isdecimal() else None
            found = JobState(state, "" if reason == "None" else reason, number, submitted)
            self.jobs[number, index] = self.by_name[name, index, number] = found


_queues: dict[str, _Queue] = {}
_silences: dict[str, tuple[float, str]] = {}
_accounted: dict[str, tuple[float, float, dict[tuple[str, int | None], JobState]]] = {}


def forget() -> None:
    """Ask anew next time: something has just been submitted or cancelled."""
    _queues.clear()
    _silences.clear()


def _queue(user: str, newer_than: float) -> _Queue:
    """All jobs of a user, from an answer that can hold a job submitted at `newer_than`."""
    now = time.time()
    known = _queues.get(user)
    if known and now - known.asked < KEPT_SECONDS and known.asked > newer_than:
        return known
    silent_since, why = _silences.get(user, (0.0, ""))
    if now - silent_since < SILENCE_SECONDS:
        raise Silent(why)
    command = ["squeue", "--noheader", "--states=all", "--array", f"--user={user}", f"--format={_FORMAT}"]
    try:
        answer = _Queue(now, ask(command))
    except Silent as silence:
        _silences[user] = (time.time(), str(silence))
        raise
    _queues[user] = answer
    return answer


def _accounts(job: Job) -> dict[tuple[str, int | None], JobState]:
    """Jobs of a user in SLURM's accounts; empty where there are none."""
    now = time.time()
    asked, since, known = _accounted.get(job.user, (0.0, now, {}))
    if now - asked < 10 * KEPT_SECONDS and since <= job.submitted:
        return known
    since = job.submitted - ACCOUNTS_DAYS * 86400
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
    command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--user={job.user}", f"--starttime={start}"]
    try:
        known = read_accounts(ask([*command, "--format=JobID,State,Submit"]))
    except Silent:  # no accounts are kept on this cluster, or they cannot be reached: the queue was asked already
        known = {}
    _accounted[job.user] = (now, since, known)
    return known


def read_accounts(text: str) -> dict[tuple[str, int | None], JobState]:
    """What `sacct --parsable2` prints of JobID, State and Submit; of a job that was requeued, the last line stands."""
    found: dict[tuple[str, int | None], JobState] = {}
    for line in text.splitlines():
        number, state, submitted = line.split("|", 2)
        job, _, task = number.partition("_")
        index = int(task) if task.isdecimal() else None
        word, _, rest = state.partition(" ")  # `CANCELLED by 0`
        found[job, index] = JobState(word, rest, job, submitted)
    return found


def ask(command: list[str], variables: Mapping[str, str] | None = None) -> str:
    """The output of one of SLURM's programs.

    Args:
        command: the program and its arguments; no shell sees them.
        variables: its environment. Default: this process's.

    Raises:
        Silent: it is not installed, failed, or gave no answer in `ANSWER_SECONDS`.
    """
    environment = {**(os.environ if variables is None else variables), "SLURM_TIME_FORMAT": "standard"}
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_SECONDS,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise Silent(f"there is no `{command[0]}` on this machine") from None
    except subprocess.TimeoutExpired as late:
        said = _last_line(late.stderr)
        raise Silent(f"`{command[0]}` gave no answer within {ANSWER_SECONDS:g} s{said and f' ({said})'}") from None
    if answer.returncode != 0:
        raise Silent(_last_line(answer.stderr) or f"`{command[0]}` ended with exit code {answer.returncode}")
    return answer.stdout.decode(errors="replace")


def _last_line(said: bytes | None) -> str:
    lines = (said or b"").decode(errors="replace").strip().splitlines()
    return re.sub(r"^\w+: error: ", "", lines[-1]) if lines else ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry in its passwd; SLURM takes the number too
        return str(os.getuid())


def new_job(name: str, task: int | None = None, id: str | None = None) -> Job:
    """A job of this user's, submitted now."""
    return Job(id, task, name, _user(), time.time())


def job_here() -> Job | None:
    """The job that this process runs in, from SLURM's variables; None outside one."""
    number = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    if not number:
        return None
    task = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    return new_job(os.environ.get("SLURM_JOB_NAME", ""), int(task) if task.isdecimal() else None, number)


def facts(number: str) -> dict[str, Any]:
    """What `scontrol show job` says of a job, by its own names, such as Restarts and Reason.

    Raises:
        Silent: SLURM does not answer or no longer knows it.
    """
    words = ask(["scontrol", "show", "job", "--oneliner", number]).split()
    return dict(word.split("=", 1) for word in words if "=" in word)
