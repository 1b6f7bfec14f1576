"""The harness of every worker: five verbs, one boundary where failures are attributed, files written once.

    python -m tuneyard.train run runs/ID         do the work of a run (started by its supervisor)
    python -m tuneyard.train arguments SPEC      the library's own arguments for a resolved spec, as JSON
    python -m tuneyard.train schema              the library's keys, types, choices and defaults, as JSON
    python -m tuneyard.train fingerprint MODEL   how this environment encodes a model's tokens, as JSON
    python -m tuneyard.train check FILE          whether a task, callback or dataset file can be used, as JSON

`run` writes into the attempt's folder; the other verbs print one JSON value on stdout, whatever the libraries print.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tuneyard.core import events
from tuneyard.core.documents import validate
from tuneyard.core.edited_code import keep_edited
from tuneyard.core.errors import RequestError, TuneyardError
from tuneyard.core.failures import failure_from_exception
from tuneyard.core.files import append_line, read_json, sha256_of, size_of, write_json
from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.processes import ATTEMPT_VARIABLE, PIPE_VARIABLE, STOPPED_EXIT, processes_of, signal_all
from tuneyard.core.references import ModelRef
from tuneyard.core.results import Artifact, Ending, Failure, Metric, Result
from tuneyard.core.run_folder import Attempt, RunFolder, now
from tuneyard.core.specs import Spec, parse_spec

ONE_REQUEST_SECONDS = 1.0
"""TERMs within this time are one request: SLURM sends it to every process of a job, and the supervisor passes it on."""


class Stopped(BaseException):
    """The supervisor asked the worker to end. Not an Exception, so that no library swallows it."""


@dataclass
class Job:
    """What a worker's `run` is given, and what it tells through."""

    folder: RunFolder
    attempt: Attempt
    spec: Any
    """The resolved spec: a TrainSpec or an EvalSpec, whichever the worker works for."""
    rank: int = 0
    """Rank of this process in a distributed run; only rank 0 writes."""
    metrics: dict[str, Metric] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    stop_requested: threading.Event = field(default_factory=threading.Event)
    """Set by the first TERM."""
    stops_itself: bool = False
    """True while the worker looks at `stop_requested` by itself; else TERM raises Stopped where it stands."""
    _artifacts: dict[str, Path] = field(default_factory=dict)

    def emit(self, event: type[events._Event], **fields: Any) -> None:
        """Append one event to events.jsonl, stamped with the time; nothing where this is not rank 0."""
        if self.rank == 0:
            line = event(time=now(), **fields).model_dump_json(exclude_none=True)
            append_line(self.attempt.events, line)

    def warn(self, message: str) -> None:
        """Tell something a person should know although the run goes on."""
        print(f"warning: {message}", file=sys.stderr, flush=True)
        self.emit(events.Warned, message=message)

    def metric(self, name: str, value: float, standard_error: float | None = None, n: int | None = None) -> None:
        """Put a value into the result."""
        self.metrics[name] = Metric(value=value, standard_error=standard_error, n=n)

    def artifact(self, name: str, path: Path) -> None:
        """Name a file or folder below the run folder in the result; hashed when the run ends."""
        self._artifacts[name] = path

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Measure a part of the work: its seconds stand in the result's `timing`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timing[part] = round(self.timing.get(part, 0.0) + time.perf_counter() - start, 3)

    def artifacts(self) -> list[Artifact]:
        """The artifacts that exist, with hash and size."""
        return [
            Artifact(
                name=name,
                path=path.relative_to(self.folder.path).as_posix(),
                sha256=sha256_of(path),
                size=size_of(path),
            )
            for name, path in self._artifacts.items()
            if path.exists()
        ]

    def describe_environment(self) -> None:
        """Write environment.json again, now that torch is imported and can tell of itself and the GPUs."""
        if self.rank == 0:
            known = read_json(self.attempt.environment) if self.attempt.environment.exists() else {}
            write_json(self.attempt.environment, {**known, "torch": describe_torch()})


@dataclass(frozen=True)
class Worker:
    """A worker: the library behind five verbs. The functions import the library; this module never does."""

    name: str
    """The environment, the kind of run and the last part of the module's name: train or eval."""
    run: Callable[[Job], None]
    """Does the work and tells through the job; returns when all is written, raises what went wrong."""
    arguments: Callable[[Spec], dict[str, Any]]
    """{"arguments": the library's own, "file": them as text, "file_name": …, "command": the library's command}."""
    schema: Callable[[], dict[str, Any]]
    """{"keys": {name: {"type", "choices", "default", "help"}}, "versions": {…}}."""
    fingerprint: Callable[[ModelRef], Fingerprint]
    """The ids that this worker really gives to the fixed text and conversation."""
    check: Callable[[Path, str | None], dict[str, Any]]
    """Looks at a file (and a name in it) as the library would use it; raises RequestError."""
    distributions: tuple[str, ...] = ()
    """Packages whose versions stand in every result."""


def main(worker: Worker, argv: list[str] | None = None) -> NoReturn:
    """Run one verb and exit: 0, 1 the run failed, 2 the request is wrong, 3 the set-up is wrong, 143 asked to end."""
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["help"]
    if verb == "run" and len(rest) == 1:
        code = _run(worker, Path(rest[0]).absolute())
        if code == STOPPED_EXIT:
            _leave(code)
        sys.exit(code)
    if verb in ("arguments", "schema", "fingerprint", "check"):
        sys.exit(_answer(worker, verb, rest))
    print(
        f"usage: python -m tuneyard.{worker.name} run FOLDER | arguments SPEC | schema | fingerprint MODEL | check FILE"
    )
    sys.exit(0 if verb in ("help", "-h", "--help") else 2)


def _leave(code: int) -> NoReturn:
    """End at once: threads of a library that still compute would abort the process while the interpreter ends."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or its disk is full
            stream.flush()
    os._exit(code)


def _answer(worker: Worker, verb: str, rest: list[str]) -> int:
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints goes to stderr: stdout carries one JSON value
    try:
        value, code = _ask(worker, verb, rest), 0
    except TuneyardError as error:
        value, code = {"error": error.as_dict()}, error.exit_code
    with open(answer, "w") as file:
        json.dump(value, file, ensure_ascii=False, default=str)
    return code


def _ask(worker: Worker, verb: str, rest: list[str]) -> Any:
    if verb == "schema":
        return worker.schema()
    if not rest:
        raise RequestError(f"`{verb}` needs an argument")
    if verb == "arguments":
        return worker.arguments(parse_spec(read_json(Path(rest[0])), rest[0]))
    if verb == "fingerprint":
        text = rest[0]
        data = json.loads(text) if text.startswith("{") else text
        return worker.fingerprint(validate(ModelRef, data, "MODEL")).model_dump()
    return worker.check(Path(rest[0]).absolute(), rest[1] if len(rest) > 1 else None)


def _run(worker: Worker, path: Path) -> int:
    folder = RunFolder(path)
    attempt = _attempt_of(folder)
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0:
        _watch_supervisor(folder.id)
    started, clock = now(), time.perf_counter()
    job = Job(folder, attempt, parse_spec(read_json(folder.spec), str(folder.spec)), rank)
    job.versions = {n: v for n, v in installed().items() if n in worker.distributions}
    _listen_for_term(job)
    failure, status, code = _attempt_work(worker, job)
    if failure is not None and "RANK" in os.environ:
        # whoever started the ranks decides which failure came first; the others follow from it
        write_json(attempt.rank_failure(rank), {**failure.model_dump(), "rank": rank, "time": time.time()})
        return code
    if rank == 0 and status is not None and not _rank_0_wrote(attempt):
        _write_result(job, status, failure, started, time.perf_counter() - clock)
    return code


def _attempt_work(worker: Worker, job: Job) -> tuple[Failure | None, Ending | None, int]:
    """Do the work. The one boundary at which whatever a library raises becomes the run's failure."""
    try:
        if job.rank == 0:
            job.folder.artifacts.mkdir(exist_ok=True)
            job.emit(events.Started, worker=worker.name, pid=os.getpid())
            write_json(job.attempt.environment, describe_environment())
            _tell_of_edits(job)
        worker.run(job)
    except Stopped:
        return None, None, STOPPED_EXIT  # the supervisor knows why it asked, and writes the ending
    except Exception as error:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        if job.stop_requested.is_set():
            return None, None, STOPPED_EXIT  # what broke after the request to end, broke because of it
        code = error.exit_code if isinstance(error, TuneyardError) else 1
        return failure_from_exception(error, job.attempt), "failed", code
    return None, "succeeded", 0


def _tell_of_edits(job: Job) -> None:
    if "RANK" in os.environ:
        return  # whoever started the ranks has told
    for note in keep_edited(job.folder, job.spec):
        job.warn(note)


def _rank_0_wrote(attempt: Attempt) -> bool:
    """Whether rank 0 of a distributed run, a child of this process, has already told how it ended."""
    return attempt.result.exists()


def _write_result(job: Job, status: Ending, failure: Failure | None, started: str, seconds: float) -> None:
    result = Result(
        run=job.folder.id,
        attempt=job.attempt.number,
        status=status,
        metrics=job.metrics,
        artifacts=job.artifacts(),
        failure=failure,
        started=started,
        ended=now(),
        seconds=round(seconds, 3),
        timing=job.timing,
        versions=job.versions,
        details=job.details,
    )
    write_json(job.attempt.result, result.model_dump())


def _attempt_of(folder: RunFolder) -> Attempt:
    number = os.environ.get(ATTEMPT_VARIABLE)
    attempt = folder.attempt(int(number)) if number else folder.latest()
    if attempt is None:
        raise SystemExit(
            f"{folder.path} has no attempt; `yard run` starts runs, `yard resume {folder.id}` starts them again"
        )
    return attempt


def _listen_for_term(job: Job) -> None:
    first = 0.0

    def on_term(number: int, frame: Any) -> None:
        nonlocal first
        again = job.stop_requested.is_set()
        if again and time.monotonic() - first < ONE_REQUEST_SECONDS:
            return
        first = first or time.monotonic()
        job.stop_requested.set()
        if again or not job.stops_itself:
            raise Stopped

    signal.signal(signal.SIGTERM, on_term)


def _watch_supervisor(run_id: str) -> None:
    """End this process and all below it when the supervisor is gone: nobody would write their ending."""
    descriptor = os.environ.get(PIPE_VARIABLE)
    if descriptor is None:
        return

    def watch() -> None:
        while os.read(int(descriptor), 1):
            pass
        print("the supervisor is gone; this run ends", file=sys.stderr, flush=True)
        signal_all(processes_of(run_id), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="supervisor watch", daemon=True).start()


_DIST_INFO = re.compile(r"^([\w.-]+?)-([^-]+)\.dist-info$")


def installed() -> dict[str, str]:
    """Every installed distribution and its version, from the names of their folders: quick, nothing is parsed."""
    found: dict[str, str] = {}
    for folder in sys.path:
        with suppress(OSError):
            for name in os.listdir(folder or "."):
                if match := _DIST_INFO.match(name):
                    found.setdefault(match.group(1).lower().replace("_", "-").replace(".", "-"), match.group(2))
    return dict(sorted(found.items()))


def describe_environment() -> dict[str, Any]:
    """What environment.json holds before torch is imported: Python, platform, versions, names of variables, git."""
    import platform

    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "versions": installed(),
        "variables": sorted(os.environ),
        "git": describe_git(Path(os.environ.get("TUNEYARD_WORKSPACE", "."))),
    }


def describe_git(workspace: Path) -> dict[str, str] | None:
    """Commit and uncommitted patch (at most 1 MB of it) of the workspace; None where it is no git checkout."""
    import subprocess

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(workspace), *arguments]
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10, check=True).stdout

    try:
        return {"commit": git("rev-parse", "HEAD").strip(), "patch": git("diff", "HEAD")[:1_000_000]}
    except (OSError, subprocess.SubprocessError):
        return None


def describe_torch() -> dict[str, Any] | None:
    """Version, CUDA and GPUs as torch sees them, where a worker has imported it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    gpus = []
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            gpus.append({"name": card.name, "memory": card.total_memory, "capability": f"{card.major}.{card.minor}"})
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "driver": _nvidia_driver(),
    }


def _nvidia_driver() -> str | None:
    try:
        match = re.search(r"Kernel Module\D*([\d.]+)", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        return None
    return match.group(1) if match else None
