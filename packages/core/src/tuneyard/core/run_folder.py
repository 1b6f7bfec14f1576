"""The run folder: every file name in it, who writes it, and the state that follows from the files.

    spec.json                       control, once, before the start
    spec.yaml                       control, the document as it was given
    code/                           control, copies of the user's files that the run imports; `edited_code`, of those
                                    that were edited since, as they are used
    data/                           `tuneyard.data prepare`, before a device is taken
    job.sh                          control, for SLURM: what `sbatch` is given
    job.log                         SLURM: what job.sh said before and after the supervisor
    attempts/N/supervisor.json      the supervisor; locked while it lives, with its heartbeat and phase in it
    attempts/N/slurm.json           whoever gives the attempt to SLURM: its job
    attempts/N/supervisor.log       the supervisor, what it has to say itself; empty as a rule
    attempts/N/reserve              the supervisor: room for the result on a full disk; gone when the attempt has ended
    attempts/N/stdout.log, stderr.log   the supervisor: the worker's streams
    attempts/N/events.jsonl         the worker, rank 0
    attempts/N/environment.json     the worker
    attempts/N/cancel               whoever asks first, by exclusive creation; whoever asks again adds a line
    attempts/N/rank-R.json          the worker's rank R, where several train and this one failed
    attempts/N/result.json          the worker; the supervisor only where the worker ended without one
    artifacts/                      the worker

Nothing here imports pydantic: reading thousands of runs must cost no more than reading their files.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tuneyard.core.errors import RequestError

State = Literal["queued", "preparing", "waiting", "running", "succeeded", "failed", "cancelled", "lost", "unknown"]
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "lost"})
"""States that a run leaves only by a new attempt."""

HEARTBEAT_SECONDS = 10.0
"""How often a supervisor writes its heartbeat."""

HEARTBEAT_LATE = 60.0
"""Age in seconds at which a heartbeat of another host no longer proves that its supervisor lives."""

START_PATIENCE = 30.0
"""Seconds that a run may be without its first attempt before its start is held to have failed."""

SILENT_END = "its supervisor ended without a word"
"""Why a run is lost whose supervisor was killed."""

SUPERVISOR_BYTES = 8192
"""Fixed size of supervisor.json: it is rewritten in place by one write, since replacing it would drop its lock."""

_RUN_ID = re.compile(r"[a-z][a-z0-9-]*-\d{6}-\d{4}-[a-z0-9]{3}\Z")
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # without l, o, 0 and 1, which people confuse


def now() -> str:
    """The time in UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def slug(text: str) -> str:
    """`text` in the form of a name: a-z, 0-9 and -, at most 24 characters; `run` where nothing is left."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:24].strip("-")
    return plain or "run"


@cache
def host() -> str:
    """Name of this machine."""
    return socket.gethostname()


@cache
def boot_id() -> str:
    """What changes when this machine is started anew; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class RunStatus:
    """A run's state, as read from its files."""

    state: State
    attempt: int
    """Number of the attempt it speaks of; 0 for none yet."""
    reason: str = ""
    """Why, where the state alone does not say: for lost and unknown."""
    phase_since: float | None = None
    """Unix time at which the state began, where known."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class Attempt:
    """One try of a run: `attempts/N`."""

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @property
    def supervisor(self) -> Path:
        return self.folder / "supervisor.json"

    @property
    def job(self) -> Path:
        return self.folder / "slurm.json"

    @property
    def supervisor_log(self) -> Path:
        return self.folder / "supervisor.log"

    @property
    def reserve(self) -> Path:
        return self.folder / "reserve"

    @property
    def stdout(self) -> Path:
        return self.folder / "stdout.log"

    @property
    def stderr(self) -> Path:
        return self.folder / "stderr.log"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def environment(self) -> Path:
        return self.folder / "environment.json"

    @property
    def cancel(self) -> Path:
        return self.folder / "cancel"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    def rank_failure(self, rank: int) -> Path:
        return self.folder / f"rank-{rank}.json"

    def rank_failures(self) -> list[Path]:
        """The files of the ranks that failed, in no order."""
        return list(self.folder.glob("rank-*.json"))

    def read_result(self) -> dict[str, Any] | None:
        """The result as it was written; None while there is none, or where the file is no result."""
        try:
            result = json.loads(self.result.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return result if isinstance(result, dict) and result.get("status") in ENDED else None

    def read_supervisor(self) -> dict[str, Any] | None:
        """What the supervisor last wrote, or None before it wrote anything."""
        for _ in range(3):  # a reader may meet the one write in the middle
            try:
                return json.loads(self.supervisor.read_bytes())
            except FileNotFoundError:
                return None
            except ValueError:
                time.sleep(0.01)
        return None

    def supervisor_lives(self) -> bool:
        """Whether someone on this host holds the lock on supervisor.json."""
        try:
            descriptor = os.open(self.supervisor, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    def ask_cancel(self, who: str) -> bool:
        """Ask for the end of this attempt; False where somebody has asked already, which then is asked to hurry."""
        line = (json.dumps({"who": who, "when": now()}) + "\n").encode()
        try:
            descriptor = os.open(self.cancel, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            descriptor = os.open(self.cancel, os.O_WRONLY | os.O_APPEND)
            asked_before = True
        else:
            asked_before = False
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        return not asked_before

    def cancel_requests(self) -> list[dict[str, Any]]:
        """Who asked for the end of this attempt, the first one first. A file made by hand counts as one request."""
        try:
            lines = self.cancel.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [_cancel_request(line) for line in lines] or [_cancel_request("")]

    def state(self) -> RunStatus:
        """The state of this attempt."""
        result = self.read_result()
        if result is not None:
            return RunStatus(result["status"], self.number)
        record = self.read_supervisor()
        if record is None:
            return self._without_supervisor()
        if record["host"] != host():
            return self._elsewhere(record)
        if record["boot_id"] == boot_id() and self.supervisor_lives():
            return RunStatus(record["phase"], self.number, phase_since=record.get("phase_since"))
        # The supervisor may have written the result and gone between the two looks.
        result = self.read_result()
        if result is not None:
            return RunStatus(result["status"], self.number)
        booted = record["boot_id"] != boot_id()
        reason = "the machine was started anew" if booted else record.get("last_words") or SILENT_END
        return self._as_slurm_says(supervised=True) or RunStatus("lost", self.number, reason)

    def _as_slurm_says(self, *, supervised: bool) -> RunStatus | None:
        """The state of an attempt that SLURM was given, where no file tells it; None for any other attempt."""
        if not self.job.exists():
            return None
        from tuneyard.core.slurm_jobs import read_job, state_of

        job = read_job(self.job)
        if job is None:
            return None
        state, reason = state_of(job, supervised=supervised)
        result = self.read_result()  # it may have been written while SLURM was asked
        return RunStatus(result["status"], self.number) if result else RunStatus(state, self.number, reason)

    def _without_supervisor(self) -> RunStatus:
        known = self._as_slurm_says(supervised=False)
        if known is not None:
            return known
        if time.time() - self.folder.stat().st_mtime < START_PATIENCE:
            return RunStatus("queued", self.number)
        return RunStatus("lost", self.number, "its supervisor never started")

    def _elsewhere(self, record: dict[str, Any]) -> RunStatus:
        age = time.time() - record["heartbeat"]
        if age < HEARTBEAT_LATE:
            return RunStatus(record["phase"], self.number, f"on {record['host']}", record.get("phase_since"))
        return self._as_slurm_says(supervised=True) or RunStatus(
            "unknown", self.number, f"unknown from here: no heartbeat from {record['host']} for {age:.0f} s"
        )


def _cancel_request(line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except ValueError:
        request = None
    return request if isinstance(request, dict) and "who" in request else {"who": "somebody"}


@dataclass(frozen=True)
class RunFolder:
    """One run: `runs/ID`."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def kind(self) -> str:
        return self.id.split("-", 1)[0]

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    @property
    def given_spec(self) -> Path:
        return self.path / "spec.yaml"

    @property
    def job_script(self) -> Path:
        return self.path / "job.sh"

    @property
    def job_log(self) -> Path:
        return self.path / "job.log"

    @property
    def code(self) -> Path:
        return self.path / "code"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def data_manifest(self) -> Path:
        return self.data / "manifest.json"

    @property
    def inputs(self) -> Path:
        """What a generation puts to its model, a line for each."""
        return self.data / "inputs.jsonl"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def model(self) -> Path:
        """Folder of the weights that a run made: fully trained, or an adapter merged into its base."""
        return self.artifacts / "model"

    @property
    def adapter(self) -> Path:
        """Folder of the adapter that a run made."""
        return self.artifacts / "adapter"

    @property
    def samples(self) -> Path:
        return self.artifacts / "samples.jsonl"

    @property
    def responses(self) -> Path:
        """Every row of a generation, in order."""
        return self.artifacts / "responses.jsonl"

    @property
    def responses_part(self) -> Path:
        """The rows of a generation that goes on, as they came."""
        return self.artifacts / "responses.part.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.artifacts / "evaluation.json"

    @property
    def fingerprint(self) -> Path:
        """The token fingerprint that training left, for every later reader of the model."""
        return self.artifacts / "fingerprint.json"

    @property
    def raw(self) -> Path:
        """`raw/N`: what attempt N's library wrote, as it wrote it."""
        return self.artifacts / "raw"

    @property
    def attempts_folder(self) -> Path:
        return self.path / "attempts"

    def attempt(self, number: int) -> Attempt:
        return Attempt(self.attempts_folder / str(number))

    def attempts(self) -> list[Attempt]:
        """Every attempt, the oldest first."""
        try:
            names = os.listdir(self.attempts_folder)
        except FileNotFoundError:
            return []
        return [self.attempt(n) for n in sorted(int(name) for name in names if name.isdigit())]

    def latest(self) -> Attempt | None:
        """The highest attempt, or None before the first."""
        attempts = self.attempts()
        return attempts[-1] if attempts else None

    def new_attempt(self) -> Attempt:
        """Make the folder of the next attempt, whichever number that is."""
        while True:
            latest = self.latest()
            attempt = self.claim_attempt(latest.number + 1 if latest else 1)
            if attempt is not None:
                return attempt

    def claim_attempt(self, number: int) -> Attempt | None:
        """Make the folder of attempt `number`; None where another was quicker: exclusive mkdir decides."""
        self.attempts_folder.mkdir(exist_ok=True)
        attempt = self.attempt(number)
        try:
            attempt.folder.mkdir()
        except FileExistsError:
            return None
        os.utime(self.path)  # tells readers of the index that this run changed
        return attempt

    def read_spec(self) -> dict[str, Any]:
        """spec.json as it was written."""
        return json.loads(self.spec.read_bytes())

    def status(self) -> RunStatus:
        """The state of the highest attempt."""
        latest = self.latest()
        if latest is not None:
            status = latest.state()
            # the next attempt of a run that SLURM starts again is made before this one's result is written
            again = status.ended and status.state != "succeeded" and self.attempt(latest.number + 1).folder.exists()
            return self.status() if again else status
        try:
            age = time.time() - self.spec.stat().st_mtime
        except FileNotFoundError:
            age = time.time() - self.path.stat().st_mtime
        if age < START_PATIENCE:
            return RunStatus("queued", 0)
        return RunStatus("lost", 0, "it was never started")

    def ran_out_of_memory(self) -> bool:
        """Whether the highest attempt has failed for want of memory."""
        latest = self.latest()
        result = latest.read_result() if latest else None
        return ((result or {}).get("failure") or {}).get("kind") == "out_of_memory"


def create_run(runs: Path, kind: str, name: str) -> RunFolder:
    """Make the folder of a new run in `runs`; mkdir decides when two choose the same id."""
    runs.mkdir(parents=True, exist_ok=True)
    while True:
        letters = "".join(random.SystemRandom().choices(_LETTERS, k=3))
        run = RunFolder(runs / f"{kind}-{slug(name)}-{datetime.now(UTC):%y%m%d-%H%M}-{letters}")
        try:
            run.path.mkdir()
        except FileExistsError:
            continue
        return run


def is_run_id(text: str) -> bool:
    """Whether `text` has the form of a whole run id."""
    return bool(_RUN_ID.match(text))


def find_run(runs: Path, reference: str, *, exact: bool = False) -> RunFolder:
    """The run that `reference` names: its id, or, to read, any prefix of it that only one run has.

    Args:
        runs: the folder of all runs.
        reference: an id or the beginning of one; `run:` in front is ignored.
        exact: take a whole id only, as what changes a run must.

    Raises:
        RequestError: there is no such run, or more than one.
    """
    wanted = reference.removeprefix("run:").strip("/")
    if wanted and "/" not in wanted and wanted not in (".", "..") and (runs / wanted / "spec.json").is_file():
        return RunFolder(runs / wanted)
    try:
        names = sorted(n for n in os.listdir(runs) if is_run_id(n))
    except FileNotFoundError:
        names = []
    matches = [n for n in names if wanted and n.startswith(wanted)]
    if not matches:
        raise _no_run(wanted, names, runs)
    if len(matches) > 1:
        some = ", ".join(matches[:5]) + (" …" if len(matches) > 5 else "")
        raise RequestError(f"{wanted!r} is the beginning of {len(matches)} runs", way_out=f"write one whole id: {some}")
    if exact:
        raise RequestError(f"{wanted!r} is not a whole run id", way_out=f"write {matches[0]}")
    return RunFolder(runs / matches[0])


def _no_run(wanted: str, names: list[str], runs: Path) -> RequestError:
    from tuneyard.core.errors import nearest

    guess = nearest(wanted, names)
    return RequestError(
        f"there is no run {wanted!r}",
        where=str(runs),
        way_out=f"did you mean {guess}?" if guess else "`yard runs` lists the runs",
    )
