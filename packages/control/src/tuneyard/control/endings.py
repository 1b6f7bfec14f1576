"""How an attempt ended, where its worker did not say: result.json by the supervisor."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.control.record import claim
from tuneyard.core.errors import SetupError, TuneyardError
from tuneyard.core.files import explain_os_error, write_json
from tuneyard.core.run_folder import Attempt, RunFolder, now

if TYPE_CHECKING:  # pydantic is imported while the worker works, not before it starts
    from tuneyard.core.results import Failure, Result

RESERVE_BYTES = 96 * 1024
"""More than the largest result that a supervisor writes."""


def reserve_room(attempt: Attempt) -> None:
    """Set a file aside whose removal makes room for the result when the disk has become full.

    Raises:
        SetupError: the disk is full already.
    """
    try:
        with open(attempt.reserve, "wb") as file:
            file.write(os.urandom(RESERVE_BYTES))  # zeros might take no room
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            attempt.reserve.unlink()
        raise explain_os_error(error, attempt.reserve) from error


def valid_result(attempt: Attempt, run_id: str) -> Result | None:
    """The result that the worker left; one that does not hold to the form is moved aside and does not count."""
    from tuneyard.core.documents import read_document
    from tuneyard.core.results import Result

    if not attempt.result.exists():
        return None
    try:
        result = read_document(attempt.result, Result)
        problem = None if (result.run, result.attempt) == (run_id, attempt.number) else "it is another attempt's"
    except (TuneyardError, OSError) as error:
        result, problem = None, str(error)
    if problem is None:
        return result
    aside = attempt.result.with_name("result.invalid.json")
    print(f"the worker's result does not count: {problem}; it is kept as {aside.name}", file=sys.stderr)
    os.replace(attempt.result, aside)
    return None


def write_ending(
    attempt: Attempt, run_id: str, failure: Failure, started: float, details: dict[str, Any] | None = None
) -> None:
    """Write the result of an attempt that has failed or was cancelled (`failure.kind` says which).

    Args:
        attempt: the attempt.
        run_id: id of its run.
        failure: why it did not succeed.
        started: Unix time at which the attempt began.
        details: what else there is to tell.

    Raises:
        SetupError, OSError: it cannot be written, not even into the room that was set aside.
    """
    from tuneyard.core.results import Result

    result = Result(
        run=run_id,
        attempt=attempt.number,
        status="cancelled" if failure.kind == "cancelled" else "failed",
        failure=failure,
        started=_moment(started),
        ended=now(),
        seconds=round(time.time() - started, 3),
        details=details or {},
    ).model_dump()
    try:
        write_json(attempt.result, result)
    except (OSError, SetupError):
        release_room(attempt)
        write_json(attempt.result, result)


def end_unstarted(run: RunFolder, attempt: Attempt, message: str, kind: str) -> bool:
    """Write the ending of an attempt that no supervisor has; False where one has it, which sees to its own ending."""
    from tuneyard.core.failures import failure_of_kind

    record = claim(attempt)
    if record is None:
        return False
    try:
        record.phase("preparing")
        write_ending(attempt, run.id, failure_of_kind(kind, message, attempt), time.time())
    finally:
        record.close()
    return True


def with_full_disk(failure: Failure, attempt: Attempt) -> Failure:
    """The failure with a full disk as its cause, where no other is known: what the log had to say was lost with it."""
    from tuneyard.core.signatures import SIGNATURES

    if failure.cause is not None or not _disk_is_full(attempt.folder):
        return failure
    known = next(s for s in SIGNATURES if s.id == "disk-full")
    return failure.model_copy(update={"cause": known.cause, "way_out": known.way_out})


def _disk_is_full(folder: Path) -> bool:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < RESERVE_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


def release_room(attempt: Attempt) -> None:
    """Give back what `reserve_room` took."""
    with suppress(OSError):
        attempt.reserve.unlink(missing_ok=True)


def _moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def oom_kills() -> int:
    """How many processes the kernel has ended for want of memory: in this control group, else on this machine."""
    for path, key in (*_cgroup_counters(), (Path("/proc/vmstat"), "oom_kill")):
        with suppress(OSError):
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == key:
                    return int(count)
    return 0


def _cgroup_counters() -> list[tuple[Path, str]]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    counters = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        for place in (group, ""):  # inside a container the name may be the host's, and its own group the root
            if controllers == "":
                counters.append((Path(f"/sys/fs/cgroup{place}/memory.events"), "oom_kill"))
            elif "memory" in controllers.split(","):
                counters.append((Path(f"/sys/fs/cgroup/memory{place}/memory.oom_control"), "oom_kill"))
    return counters
