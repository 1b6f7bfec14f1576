"""Starting a run for a program: nothing outside the workspace, and the same thing not twice by mistake."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuneyard.control import launch
from tuneyard.control.endpoints import is_loopback
from tuneyard.control.environments import ask_worker
from tuneyard.control.index import listing
from tuneyard.control.paths import inside
from tuneyard.control.resolving.anchors import Keys, role
from tuneyard.control.resolving.request import Request, create
from tuneyard.control.resolving.resolve import Resolved, to_mapping
from tuneyard.control.resolving.scheduled import where_it_runs
from tuneyard.control.turns import turn
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.files import write_json
from tuneyard.core.kinds import environment_of
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import RunSpec

UNFINISHED = ("queued", "preparing", "waiting", "running", "unknown")
"""States in which a run still does what its spec says, as far as one can tell."""

LOCK_SECONDS = 30.0


@dataclass(frozen=True)
class Started:
    """What became of a request."""

    run: RunFolder
    existing: bool
    """Whether this run did the same already, so that nothing was started."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of how the request was understood."""


def start_once(
    workspace: Workspace,
    request: Request,
    kind: str,
    *,
    again: bool = False,
    slurm: Mapping[str, Any] | None = None,
) -> Started:
    """Start what is asked for, unless a run that has not ended does the very same.

    Args:
        workspace: where the run is made.
        request: its paths have been checked.
        kind: train or eval.
        again: start it in any case.
        slurm: sbatch's options (`slurm.options_on`) for a run that SLURM is to start. None: it is started here.

    Raises:
        RequestError, SetupError: as `Request.resolve` and `launch.start` do.
    """
    with where_it_runs(slurm):
        resolved = request.resolve(workspace, kind)
    with turn(workspace.runs / ".start.lock", LOCK_SECONDS):  # two who ask at the same moment
        running = None if again else unfinished_like(workspace, resolved.spec, kind)
        if running is not None:
            return Started(running, True, resolved.notes)
        run = create(workspace, resolved.spec, request.as_given())
    launch.start(workspace, run, resolved.variables, slurm)
    return Started(run, False, resolved.notes)


def unfinished_like(workspace: Workspace, spec: RunSpec, kind: str) -> RunFolder | None:
    """The newest run with this very spec that has not ended."""
    wanted = spec.model_dump(mode="json")
    for row in listing(workspace.runs, kind, UNFINISHED)[0]:
        run = RunFolder(workspace.runs / row[0])
        try:
            if run.read_spec() == wanted:
                return run
        except (OSError, ValueError):
            continue  # another release's, or it is being made or removed right now
    return None


def library_arguments(workspace: Workspace, resolved: Resolved) -> dict[str, Any]:
    """The library's own arguments for a resolved spec, as its worker makes them; nothing is started or left."""
    with tempfile.TemporaryDirectory(prefix="tuneyard-") as folder:
        path = Path(folder) / "spec.json"
        write_json(path, resolved.spec.model_dump(mode="json"))
        return ask_worker(
            workspace, environment_of(resolved.spec.model_dump()), "arguments", str(path), extra=resolved.variables
        )


def job_text(workspace: Workspace, resolved: Resolved, slurm: Mapping[str, Any]) -> str:
    """What sbatch would be given for a resolved spec; nothing is submitted or left."""
    from tuneyard.control.slurm.script import job_script, needs

    spec = resolved.spec.model_dump(mode="json")
    run = RunFolder(workspace.runs / f"{spec['kind']}-{spec['name']}-(date)")
    return job_script(workspace, run, needs(spec, slurm), resolved.variables)


def check_paths(workspace: Workspace, request: Request, kind: str) -> None:
    """Whether every file and server that a request names lies where an agent may reach, before any of them is read.

    Looked at are the fields and settings that are known to name files, and whatever else names something that exists or
    that could be made.

    Raises:
        RequestError: a path, or the link it leads through, lies outside the workspace and its `allowed_paths`; or
            another machine is to be asked, to which data and the key for servers would be sent.
    """
    _check(workspace, request.given, request.base)
    mapping, _ = to_mapping(request.given, request.base, request.overrides, kind, request.where)
    _check(workspace, mapping, request.base)
    _check_endpoint(mapping.get("endpoint"))


def _check_endpoint(endpoint: Any) -> None:
    if not isinstance(endpoint, str) or endpoint.startswith("run:"):
        return
    if not is_loopback(urlsplit(endpoint).hostname or ""):
        raise RequestError(
            f"{endpoint} is no server on this machine, and an agent sends data to none elsewhere",
            where="endpoint",
            way_out="endpoint=run:ID; or a person starts it: yard run SPEC",
        )


def _check(workspace: Workspace, value: Any, base: Path) -> None:
    for keys, text in _texts(value, ()):
        for name in _names(text):
            path = os.path.join(base, os.path.expanduser(name))
            known = role(keys) is not None and name.startswith(("/", "~"))
            if known or os.path.lexists(path) or _could_be_made(name, path):
                inside(workspace, path)


def _could_be_made(name: str, path: str) -> bool:
    """Whether a text is a new name in a folder that exists. `/word` is not: texts begin so that are no paths."""
    folder = os.path.dirname(path)
    return "/" in name and folder != "/" and os.path.isdir(folder)


def _texts(value: Any, keys: Keys) -> Iterator[tuple[Keys, str]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _texts(entry, (*keys, str(key)))
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry, keys)
    elif isinstance(value, str):
        yield keys, value


def _names(text: str) -> set[str]:
    """What a text may name: itself, and the file of `file.py:function` and `file.py@task`."""
    return {text, text.rpartition(":")[0] or text, text.partition("@")[0] or text}
