"""The environments that workers run in: where they are, what variables they get, and asking a worker a question."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.control.process_tree import SUPERVISES_VARIABLE
from tuneyard.control.workspace import WORKSPACE_VARIABLE, Workspace
from tuneyard.core.cache import cache_folder
from tuneyard.core.errors import RequestError, RunError, SetupError, TuneyardError
from tuneyard.core.files import write_json
from tuneyard.core.processes import ATTEMPT_VARIABLE, PIPE_VARIABLE, RUN_ID_VARIABLE

ANSWER_SECONDS = 300.0
"""How long a worker may take to answer; importing its library on a cold disk takes most of it."""

RUN_VARIABLES = (RUN_ID_VARIABLE, ATTEMPT_VARIABLE, PIPE_VARIABLE, SUPERVISES_VARIABLE)
"""What binds a process to a run. A run that is started from inside another one must not carry that one's."""

_DROPPED = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", *RUN_VARIABLES)
_DROPPED_PREFIXES = ("PIXI_", "CONDA_")


def environment_prefix(workspace: Workspace, name: str) -> Path:
    """The folder of an environment, whose Python is `bin/python`.

    An interpreter named in tuneyard.yaml comes first, then what pixi built, then what pixiw built.

    Raises:
        SetupError: it has not been built, or the interpreter named for it is not there.
    """
    own = _own_interpreter(workspace, name)
    if own is not None:
        return own.parent.parent
    for prefix in (workspace.path / ".pixi" / "envs" / name, workspace.path / ".pixi" / "uv" / name):
        if (prefix / "bin" / "python").exists():
            return prefix.resolve()  # pixiw's is a link to the newest build: what runs stays in the one it began in
    raise SetupError(
        f"the environment {name!r} has not been built",
        where=str(workspace.path),
        way_out=f"./pixiw install -e {name}, or name an interpreter that has it in tuneyard.yaml "
        f"(environments.{name}.interpreter)",
    )


def worker_python(workspace: Workspace, name: str) -> Path:
    """The interpreter of an environment; raises as `environment_prefix` does."""
    return _own_interpreter(workspace, name) or environment_prefix(workspace, name) / "bin" / "python"


def _own_interpreter(workspace: Workspace, name: str) -> Path | None:
    if not workspace.has_settings:
        return None
    settings = workspace.settings.environments.get(name)
    if settings is None or settings.interpreter is None:
        return None
    path = workspace.resolve(settings.interpreter)
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise SetupError(
            f"environments.{name}.interpreter is not a program that can be run: {path}",
            where=str(workspace.settings_file),
            way_out="name the python of an environment, such as ~/miniconda3/envs/NAME/bin/python",
        )
    return path


def worker_command(workspace: Workspace, name: str, *arguments: str) -> list[str]:
    """The command that runs a worker. -P keeps the folder it runs in from shadowing its libraries."""
    return [str(worker_python(workspace, name)), "-P", "-m", f"tuneyard.{name}", *arguments]


def worker_environment(workspace: Workspace, name: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a worker: built from the caller's, so that no other environment leaks into it.

    Args:
        workspace: names the hub's endpoint and cache in its settings.
        name: the worker's environment.
        extra: variables that are added last, such as HF_HUB_OFFLINE.
    """
    built = {k: v for k, v in os.environ.items() if k not in _DROPPED and not k.startswith(_DROPPED_PREFIXES)}
    own = _own_interpreter(workspace, name)
    built["PATH"] = _path(workspace, environment_prefix(workspace, name))
    built[WORKSPACE_VARIABLE] = str(workspace.path)
    built["PYTHONUNBUFFERED"] = "1"  # a log that is read while it grows, and whole when the worker is killed
    if own is None:
        built["PYTHONNOUSERSITE"] = "1"  # ~/.local would be shared by all environments
    return {**built, **_hub_variables(workspace), **(extra or {})}


@dataclass(frozen=True)
class WorkerStart:
    """All that is needed to start a worker, settled where the user stands and handed to the supervisor."""

    command: list[str]
    variables: dict[str, str]
    extra: dict[str, str]
    """The variables among them that concern the hub: the preparation of the data gets them too."""
    folder: str
    """Where it runs: the workspace."""


def worker_start(
    workspace: Workspace, name: str, *arguments: str, extra: Mapping[str, str] | None = None
) -> WorkerStart:
    """How to start a worker.

    Raises:
        SetupError: its environment has not been built.
    """
    given = {**_hub_variables(workspace), **(extra or {})}
    return WorkerStart(
        command=worker_command(workspace, name, *arguments),
        variables=worker_environment(workspace, name, given),
        extra=given,
        folder=str(workspace.path),
    )


def _path(workspace: Workspace, prefix: Path) -> str:
    """PATH with the environment's own programs first and those of the caller's environments left out."""
    others = [os.environ[v] for v in ("VIRTUAL_ENV", "CONDA_PREFIX") if os.environ.get(v)]
    others.append(str(workspace.path / ".pixi"))
    kept = [
        entry
        for entry in os.environ.get("PATH", os.defpath).split(os.pathsep)
        if entry and not any(entry == other or entry.startswith(other + os.sep) for other in others)
    ]
    return os.pathsep.join([str(prefix / "bin"), *kept])


def _hub_variables(workspace: Workspace) -> dict[str, str]:
    if not workspace.has_settings:
        return {}
    hub = workspace.settings.hub
    variables = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": hub.cache and str(workspace.resolve(hub.cache))}
    return {name: value for name, value in variables.items() if value}


def ask_worker(
    workspace: Workspace,
    name: str,
    verb: str,
    *arguments: str,
    timeout: float = ANSWER_SECONDS,
    extra: Mapping[str, str] | None = None,
) -> Any:
    """Ask a worker something that takes no device: `schema`, `arguments`, `fingerprint`, `check`.

    Args:
        workspace: where its environment is.
        name: the worker: train or eval.
        verb: one of the verbs that print JSON.
        arguments: of the verb.
        timeout: seconds until it is ended.
        extra: variables for it, such as HF_HUB_OFFLINE.

    Raises:
        TuneyardError: of the class that the worker itself raised.
        SetupError: the environment is missing or broken: the worker ended without an answer.
        RunError: no answer within `timeout`.
    """
    command = worker_command(workspace, name, verb, *arguments)
    variables = worker_environment(workspace, name, extra)
    code, answer, log = communicate(command, variables, workspace.path, timeout, f"{name} {verb}")
    try:
        value = json.loads(answer)
    except ValueError:
        raise _no_answer(name, verb, code, log) from None
    if code != 0:
        raise raised_error(value.get("error") if isinstance(value, dict) else None) or _no_answer(name, verb, code, log)
    return value


def communicate(
    command: list[str], variables: dict[str, str], cwd: Path, timeout: float, what: str, *, given: bytes | None = None
) -> tuple[int, bytes, str]:
    """Run a command in a process group of its own, which never outlives this call.

    Args:
        command: the words of it.
        variables: its environment.
        cwd: the folder it runs in.
        timeout: seconds until it is ended.
        what: what it is called in messages.
        given: what it reads on stdin; None: nothing.

    Returns:
        Its exit code, what it wrote to stdout, and to stderr.

    Raises:
        SetupError: it cannot be started.
        RunError: it did not end in time.
    """
    try:
        process = subprocess.Popen(
            command,
            env=variables,
            cwd=cwd,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except OSError as error:
        raise cannot_start(command[0], error) from error
    try:
        answer, log = process.communicate(given, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RunError(f"`{what}` gave no answer within {timeout:.0f} s") from None
    finally:
        _end_group(process)
    return process.returncode, answer, log.decode("utf-8", "replace")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    import signal
    from contextlib import suppress

    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def cannot_start(program: str, error: OSError) -> SetupError:
    """The error for an interpreter that the system refuses to start."""
    return SetupError(
        f"cannot be started: {error.strerror or error}", where=program, way_out="./pixiw install builds it anew"
    )


def raised_error(error: Any) -> TuneyardError | None:
    """The error that another process raised, from the object it printed under `error`; None if it is no such object."""
    if not isinstance(error, dict) or "message" not in error:
        return None
    kinds = {RequestError.kind: RequestError, SetupError.kind: SetupError}
    kind = kinds.get(error.get("kind", ""), RunError)
    return kind(error["message"], where=error.get("where"), way_out=error.get("way_out"))


def _no_answer(name: str, verb: str, code: int, log: str) -> SetupError:
    from tuneyard.core.masking import mask_secrets
    from tuneyard.core.signatures import likely_cause

    tail = "\n".join(mask_secrets(log).strip().splitlines()[-10:])
    known = likely_cause(tail)
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    cause = f" (likely cause: {known.cause})" if known else ""
    return SetupError(
        f"the worker {name!r} {ended} and did not answer `{verb}`{cause}" + (f":\n{tail}" if tail else ""),
        way_out=known.way_out if known else f"./pixiw install -e {name}",
    )


def engine_schema(workspace: Workspace, name: str) -> dict[str, Any]:
    """What the library of an environment accepts under `engine`, as the worker's `schema` says it.

    Kept in the user's cache for each set of installed versions, so that only the first question after an install
    starts the worker.
    """
    place = cache_folder() / "schemas" / f"{name}-{_versions_key(workspace, name)}.json"
    try:
        return json.loads(place.read_bytes())
    except (OSError, ValueError):
        schema = ask_worker(workspace, name, "schema")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, schema)
    except (OSError, SetupError):
        pass  # a cache that cannot be written only costs time
    return schema


def _versions_key(workspace: Workspace, name: str) -> str:
    """A hash that changes with any installed version and with the worker's own source."""
    import hashlib

    python = worker_python(workspace, name)
    prefix = environment_prefix(workspace, name)
    installed = sorted(p.name for p in prefix.glob("lib/python3*/site-packages/*.dist-info"))
    source = sorted((workspace.path / "packages" / name / "src").rglob("*.py"))
    facts = [str(python), os.path.realpath(python), str(python.stat().st_mtime_ns), *installed]
    facts += [f"{path} {path.stat().st_mtime_ns}" for path in source]
    return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:24]
