"""The supervisor of one attempt: prepares the data, waits for a device, runs the worker, sees to its end.

    python -m tuneyard.control.supervisor FOLDER [ATTEMPT] [--detached FD]

`yard run` starts it with --detached and hands it how to start the worker on its standard input; in a job of SLURM,
slurm_node calls `supervise`. It ends when the attempt has ended and nothing of it is left, with exit code 0: how the
attempt ended stands in its result.json.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.control import endings
from tuneyard.control.devices import VISIBLE_VARIABLE, threads_per_slot
from tuneyard.control.environments import WorkerStart, cannot_start, raised_error, worker_start
from tuneyard.control.leases import POLL_SECONDS, Lease, lease
from tuneyard.control.process_tree import Guarded, collect, end_tree, run_guarded
from tuneyard.control.record import Record, claim
from tuneyard.control.workspace import find_workspace
from tuneyard.core.errors import SetupError, TuneyardError
from tuneyard.core.files import explain_os_error
from tuneyard.core.kinds import environment_of, needs_device
from tuneyard.core.processes import ATTEMPT_VARIABLE, PIPE_VARIABLE, RUN_ID_VARIABLE, STOPPED_EXIT
from tuneyard.core.run_folder import HEARTBEAT_SECONDS, Attempt, RunFolder

if TYPE_CHECKING:
    from tuneyard.control.slurm.node import Allocation
    from tuneyard.core.results import Failure

CANCEL_GRACE = 60.0
"""Seconds between TERM and KILL where the spec does not say."""

STRAY_GRACE = 1.0
"""Seconds in which what a succeeded worker left behind may end by itself, to tidy up shared memory."""

LEAVING_SECONDS = 30.0
"""How long a worker may take to leave after its result: one that hangs in its exit would keep its devices for ever."""

LATE_TERM_SECONDS = 2.0
"""How long after a worker SLURM's TERM may come here: it goes to all processes of a job, one after the other."""

_WARM_UP_AFTER = 2.0


class Stopped(Exception):
    """The attempt is to end before its work is done."""

    def __init__(self, kind: str, message: str, way_out: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.way_out = way_out


class WorkerEnded(Exception):
    """A process of the attempt ended without having told how."""

    def __init__(self, code: int, what: str = "the worker", out_of_memory: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.what = what
        self.out_of_memory = out_of_memory


class Supervisor:
    """One attempt from its claim to its end."""

    def __init__(
        self,
        run: RunFolder,
        attempt: Attempt,
        record: Record,
        guard: Guarded,
        worker: WorkerStart | None,
        *,
        allocation: Allocation | None = None,
    ) -> None:
        self.run = run
        self.attempt = attempt
        self.record = record
        self.guard = guard
        self.worker = worker
        """How the worker is started; None to find out here, on the machine where it will run."""
        self.allocation = allocation
        """What SLURM gave the run; None where nobody but the leases says which devices are free."""
        self.started = time.time()
        self.spec: dict[str, Any]
        self._wakeup = _wakeups()
        self._term_signals = 0
        self._notices = 0
        self._next_beat = time.monotonic() + HEARTBEAT_SECONDS
        self._deadline: float | None = None
        self._lease: Lease | None = None

    def supervise(self) -> None:
        """See the attempt through; whatever happens, its ending is written and nothing of it is left."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_term)
        if self.allocation:
            signal.signal(signal.SIGUSR1, self._on_notice)
        failure = self._failure_of_work()
        if failure is not None:
            if self.allocation:
                self.allocation.make_next(self.run, self.attempt, failure)
            self._write_ending(failure)
        endings.release_room(self.attempt)

    def _failure_of_work(self) -> Failure | None:
        """Do the work. The one boundary at which whatever goes wrong becomes the attempt's failure."""
        try:
            self._work()
        except Stopped as stop:
            from tuneyard.core.failures import failure_of_kind

            return failure_of_kind(stop.kind, stop.message, self.attempt, stop.way_out)
        except WorkerEnded as end:
            return self._failure_of_exit(end)
        except Exception as error:
            import traceback

            from tuneyard.core.failures import failure_from_exception

            if not isinstance(error, TuneyardError):
                traceback.print_exc()
            return failure_from_exception(error, self.attempt)
        return None

    def _work(self) -> None:
        endings.reserve_room(self.attempt)
        self.spec = self._read_spec()
        self._stop_if_asked()
        worker = self.worker or worker_start(find_workspace(), environment_of(self.spec), "run", str(self.run.path))
        if self.spec.get("dataset") and not self.run.data_manifest.exists():
            self._prepare_data(worker)
        self.record.phase("waiting")
        self._lease = self._leased()
        try:
            self.guard.entrust(0, self._lease.descriptors)
            self._run_worker(worker, self._lease)
        finally:
            self._lease.release()

    def _read_spec(self) -> dict[str, Any]:
        if self.allocation is None:
            return self.run.read_spec()
        from tuneyard.control.slurm.node import complete_spec

        return complete_spec(self.run)

    # The data

    def _prepare_data(self, worker: WorkerStart) -> None:
        command = [sys.executable, "-P", "-m", "tuneyard.data", "prepare", str(self.run.path)]
        said = self.attempt.stdout.stat().st_size if self.attempt.stdout.exists() else 0
        variables = {**os.environ, **worker.extra, **self._own_variables()}
        preparation = replace(worker, command=command, variables=variables)
        with self._started(preparation) as process:
            while process.poll() is None:
                self._stop_if_asked()
                self._pause(process)
        if process.returncode != 0:
            raise raised_error(_error_said(self.attempt.stdout, said)) or WorkerEnded(
                process.returncode, "the preparation of the data"
            )

    # The device

    def _leased(self) -> Lease:
        if not needs_device(self.spec):
            return Lease((), ())
        if self.allocation:
            return self.allocation.lease(self.spec.get("gpus") or 0)
        return lease(self.spec.get("gpus") or 0, self.run.id, self._wait_for_device)

    def _wait_for_device(self, reason: str, seconds: float) -> None:
        self._stop_if_asked()
        if reason != self.record.waiting_for:
            self.record.write(waiting_for=reason)
        self._pause(seconds=seconds)

    # The worker

    def _run_worker(self, worker: WorkerStart, held: Lease) -> None:
        self._stop_if_asked()
        kills = endings.oom_kills()
        self.record.phase("running", lease={"devices": held.devices})
        limit = self.spec.get("time_limit")
        self._deadline = time.monotonic() + limit if limit else None
        reading, writing = os.pipe()
        variables = {**worker.variables, **self._worker_variables(held), PIPE_VARIABLE: str(reading)}
        with self._started(replace(worker, variables=variables), (reading, *held.descriptors)) as process:
            os.close(reading)
            stopped, asked_at = self._watch(process)
        os.close(writing)
        code = -signal.SIGKILL if process.returncode is None else process.returncode
        self._conclude(code, stopped, asked_at, endings.oom_kills() > kills)

    def _worker_variables(self, held: Lease) -> dict[str, str]:
        variables = {**self._own_variables(), VISIBLE_VARIABLE: ",".join(held.gpus)}
        return variables if held.gpus else {**variables, **self._threads()}

    def _threads(self) -> dict[str, str]:
        """How a worker on a CPU shares it. Threads that spin while they wait are ten times slower on a busy machine."""
        cores = self.allocation.cores() if self.allocation else threads_per_slot()
        threads = max(1, cores // (self.spec.get("processes") or 1))
        wanted = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        return {name: value for name, value in wanted.items() if name not in os.environ}

    def _own_variables(self) -> dict[str, str]:
        return {RUN_ID_VARIABLE: self.run.id, ATTEMPT_VARIABLE: str(self.attempt.number)}

    def _watch(self, process: subprocess.Popen[bytes]) -> tuple[Stopped | None, float]:
        """Wait for the worker's end; when it is asked to end, give it `cancel_grace` and no more."""
        stopped, asked_at, kill_at, leave_by = None, 0.0, 0.0, 0.0
        grace = self.spec.get("cancel_grace", CANCEL_GRACE)
        warm_at = time.monotonic() + _WARM_UP_AFTER
        while process.poll() is None:
            if stopped is None:
                stopped = self._reason_to_stop()
                if stopped is not None:
                    asked_at, kill_at = time.time(), time.monotonic() + self._bounded(grace)
                    process.terminate()
            elif time.monotonic() >= kill_at or self._asked_to_hurry():
                break
            if not leave_by and self.attempt.result.exists():
                leave_by = time.monotonic() + LEAVING_SECONDS
            if leave_by and time.monotonic() >= leave_by:
                print(f"the worker had not left {LEAVING_SECONDS:g} s after its result; it is ended", file=sys.stderr)
                break
            self._pause(process)
            if warm_at and time.monotonic() > warm_at:
                warm_at = _import_what_an_ending_needs()
        if stopped is None and self.allocation and process.returncode in (-signal.SIGTERM, STOPPED_EXIT):
            stopped = self._reason_that_comes_late()
        return stopped, asked_at

    def _reason_that_comes_late(self) -> Stopped | None:
        """Why a worker was ended that nobody here has asked to."""
        deadline = time.monotonic() + LATE_TERM_SECONDS
        while (reason := self._reason_to_stop()) is None and time.monotonic() < deadline:
            self._pause()
        return reason

    def _bounded(self, grace: float) -> float:
        """What SLURM leaves of the worker's time to end, where SLURM ends the job."""
        if self.allocation is None or not self._term_signals:
            return grace
        from tuneyard.control.slurm.node import KILL_SECONDS

        return min(grace, KILL_SECONDS)

    def _conclude(self, code: int, stopped: Stopped | None, asked_at: float, out_of_memory: bool) -> None:
        """A valid result stands, whatever the exit code; a failure that the request to end brought about does not."""
        result = endings.valid_result(self.attempt, self.run.id)
        if stopped is not None:
            written = self.attempt.result.stat().st_mtime if result else 0.0
            if result is None or (result.status == "failed" and written >= asked_at):
                raise stopped
        elif result is None:
            raise WorkerEnded(code, out_of_memory=out_of_memory and code == -signal.SIGKILL)

    # Processes

    @contextmanager
    def _started(self, what: WorkerStart, descriptors: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
        """A process of the attempt, in a group of its own; at the end of the block nothing of it is left."""
        with open(self.attempt.stdout, "ab") as out, open(self.attempt.stderr, "ab") as err:
            try:
                process = subprocess.Popen(
                    what.command,
                    env=what.variables,
                    cwd=what.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    process_group=0,
                    pass_fds=descriptors,
                )
            except OSError as error:
                raise cannot_start(what.command[0], error) from error
        self.guard.entrust(process.pid)
        try:
            yield process
        finally:
            self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        finished = process.returncode is not None and self.attempt.result.exists()
        grace = STRAY_GRACE if finished else 0.0
        left = end_tree(self.run.id, self.attempt.number, process.pid, child=process, grace=grace)
        if left:
            print(f"the system does not end these processes: {left}", file=sys.stderr)
        else:
            process.wait()
        self.guard.entrust()

    # Waiting

    def _pause(self, child: subprocess.Popen[bytes] | None = None, seconds: float = POLL_SECONDS) -> None:
        """Sleep until something may have changed: a child's end, a signal, or the time to look for a request."""
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + HEARTBEAT_SECONDS
            self.record.write()
            if self._lease:
                self._lease.refresh()
        ready, _, _ = select.select([self._wakeup], [], [], seconds)
        if ready:
            os.read(self._wakeup, 4096)
        collect(child)

    def _stop_if_asked(self) -> None:
        reason = self._reason_to_stop()
        if reason is not None:
            raise reason

    def _reason_to_stop(self) -> Stopped | None:
        if requests := self.attempt.cancel_requests():
            return Stopped("cancelled", f"cancelled by {requests[0]['who']}")
        if self._term_signals:
            if self.allocation:
                return Stopped(*self.allocation.why_ended())
            return Stopped("cancelled", "the supervisor was asked to end (SIGTERM)")
        if self._notices and self.allocation:
            return Stopped(*self.allocation.time_nearly_over())
        if self._deadline is not None and time.monotonic() >= self._deadline:
            limit = self.spec["time_limit"]
            way_out = f"set a longer time_limit; `yard resume {self.run.id}` goes on from the last checkpoint"
            return Stopped("time_limit", f"its time limit of {limit:g} s was over", way_out)
        return None

    def _asked_to_hurry(self) -> bool:
        """Whether somebody asked a second time."""
        # SLURM's TERM reaches every process of a job, and this one by its guard too: two of them are one
        again = self._term_signals > 1 and self.allocation is None
        return again or len(self.attempt.cancel_requests()) > 1

    def _on_term(self, number: int, frame: Any) -> None:
        self._term_signals += 1

    def _on_notice(self, number: int, frame: Any) -> None:
        self._notices += 1

    # Endings

    def _failure_of_exit(self, end: WorkerEnded) -> Failure:
        from tuneyard.core.failures import failure_from_exit

        code = -signal.SIGTERM if end.code == 128 + signal.SIGTERM else end.code
        failure = failure_from_exit(code, self.attempt, out_of_memory=end.out_of_memory, what=end.what)
        return endings.with_full_disk(failure, self.attempt)

    def _write_ending(self, failure: Failure) -> None:
        try:
            endings.write_ending(self.attempt, self.run.id, failure, self.started)
        except Exception as error:  # it cannot be told where it belongs; the record, which has its room, takes it
            self.record.write(last_words=f"{failure.message}; the result could not be written: {error}"[:2000])
            raise


def _error_said(log: Path, offset: int) -> Any:
    """The object under `error` in the last line that was said from `offset` on, if that is what it is."""
    with open(log, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(offset, size - 65536))
        lines = file.read().splitlines()
    try:
        return json.loads(lines[-1])["error"]
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _wakeups() -> int:
    """A descriptor that becomes readable when a child ends or a signal comes."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return reading


def _import_what_an_ending_needs() -> float:
    """Have it at hand when the worker ends; before its start it would only delay it."""
    from tuneyard.core import failures, results  # noqa: F401

    return 0.0


def main(argv: list[str]) -> None:
    """Supervise the attempt that the arguments name."""
    arguments = [a for a in argv if a != "--detached"]
    ready = int(arguments.pop()) if "--detached" in argv else None
    if ready is not None and os.fork():
        os._exit(0)  # whoever started it has no child to wait for
    run = RunFolder(Path(arguments[0]).absolute())
    attempt = run.attempt(int(arguments[1])) if len(arguments) > 1 else run.new_attempt()
    run_guarded(lambda guard: _supervise(run, attempt, guard, ready), run.id, attempt.number)


def _supervise(run: RunFolder, attempt: Attempt, guard: Guarded, ready: int | None) -> int:
    worker = None if ready is None else WorkerStart(**json.load(sys.stdin))
    supervise(run, attempt, guard, worker=worker, ready=ready)
    return 0


def supervise(
    run: RunFolder,
    attempt: Attempt,
    guard: Guarded,
    *,
    worker: WorkerStart | None = None,
    ready: int | None = None,
    allocation: Allocation | None = None,
) -> None:
    """Take an attempt and see it through; nothing where another has it.

    Args:
        run: its spec.json is written.
        attempt: one of its attempts.
        guard: of this process.
        worker: how it is started. Default: as this machine's settings say.
        ready: descriptor on which to tell whether it could be taken. Default: nobody asks.
        allocation: what SLURM gave the run. Default: devices are leased.
    """
    try:
        record = claim(attempt)
        if record is not None:
            record.phase("preparing")
    except OSError as error:
        _answer(ready, {"error": _explained(error, attempt).as_dict()})
        raise
    _answer(ready, {"ready": True})
    if record is not None:  # else it was cancelled before it began
        Supervisor(run, attempt, record, guard, worker, allocation=allocation).supervise()


def _explained(error: OSError, attempt: Attempt) -> SetupError:
    explained = explain_os_error(error, attempt.folder)
    return explained if isinstance(explained, SetupError) else SetupError(str(error), where=str(attempt.folder))


def _answer(ready: int | None, word: dict[str, Any]) -> None:
    """Tell whoever started this process, who may have gone meanwhile."""
    if ready is not None:
        with suppress(BrokenPipeError), open(ready, "w") as line:
            json.dump(word, line)


if __name__ == "__main__":
    main(sys.argv[1:])
