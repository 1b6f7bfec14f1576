"""Showing a run that was just started, until it ends; then a table and the next command to type."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

from tuneyard.control import launch
from tuneyard.control.progress import Signals, View, view_for, watch
from tuneyard.control.run import user_name
from tuneyard.control.summary import YARD, describe, ending_parts, state_line
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.masking import mask_secrets
from tuneyard.core.run_folder import RunFolder

CANCELLED = 130

KIND_CODES = {RequestError.kind: RequestError.exit_code, SetupError.kind: SetupError.exit_code}
"""Exit codes of runs that failed because of what was asked, or of the set-up; any other failure is 1."""


def started(run: RunFolder, as_json: bool) -> int:
    """Tell of a run that goes on by itself."""
    if as_json:
        print(json.dumps({"id": run.id, "state": run.status().state, "path": str(run.path)}, ensure_ascii=False))
    else:
        print(f"{run.id} is started\n\nnext:\n  {YARD} logs {run.id} -f\n  {YARD} show {run.id}")
    return 0


def follow(workspace: Workspace, run: RunFolder, signals: Signals, as_json: bool) -> int:
    """Show a run until it ends; its exit code.

    Ctrl-C asks for its end and goes on showing, a second one has it killed. A closed terminal changes nothing.
    """
    view = view_for(sys.stderr, silent=as_json)
    with suppress(OSError):  # the terminal may be gone already
        view.write(f"{run.id} in {run.path}")
    status = watch(run, view, signals, lambda: _interrupt(workspace, run, view))
    if status is None:
        return 0
    seen = describe(run)
    if as_json:
        print(mask_secrets(json.dumps(seen, ensure_ascii=False)), flush=True)
    else:
        print(mask_secrets("\n\n".join([state_line(seen), *ending_parts(seen)])), flush=True)
    return exit_code(seen)


def _interrupt(workspace: Workspace, run: RunFolder, view: View) -> None:
    if run.status().ended:
        return
    latest = run.latest()
    again = latest is not None and bool(latest.cancel_requests())
    try:
        launch.cancel(workspace, run, f"{user_name()} (Ctrl-C)")
    except RequestError:
        return  # it has ended meanwhile
    if again:
        view.write("it is being killed")
    else:
        leaves = "" if run.kind == "serve" else ", and leaves a checkpoint where it can"
        view.write(f"it was asked to end{leaves}; Ctrl-C again kills it")


def exit_code(seen: dict[str, Any]) -> int:
    """The exit code for how a run ended."""
    if seen["state"] == "succeeded":
        return 0
    if seen["state"] == "cancelled":
        return CANCELLED
    failure = (seen["result"] or {}).get("failure") or {}
    return KIND_CODES.get(failure.get("kind", ""), 1)
