"""What acts on one run; it takes the whole id."""

from __future__ import annotations

import getpass

from pydantic import Field

from tuneyard.control import launch
from tuneyard.control.run import resume_notes, resume_variables
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.run_folder import find_run
from tuneyard.mcp.answers import Answer, Arguments, call_text
from tuneyard.mcp.tool import Call, in_thread


class ChangeArguments(Arguments):
    run_id: str = Field(min_length=1, max_length=200)
    """The whole id of the run; a beginning is not enough."""


class CancelArguments(ChangeArguments):
    pass


class ResumeArguments(ChangeArguments):
    pass


class ServeStopArguments(ChangeArguments):
    pass


class ChangeAnswer(Answer):
    id: str
    state: str
    """State right after; a run that was asked to end may still take a while."""
    told: str
    """What was done."""
    next: list[str]
    """Calls that come next."""

    def text(self) -> str:
        return f"{self.id}: {self.told}\nnext: {'; '.join(self.next)}"


async def run_cancel(call: Call, asked: CancelArguments) -> ChangeAnswer:
    """Ask for the end of a run. It leaves a checkpoint where it can; asked a second time, what still runs is killed.
    Needs the whole run id. What the run has written stays; run_resume goes on from the last checkpoint.
    """
    return await in_thread(_cancel, call.workspace, asked.run_id)


async def serve_stop(call: Call, asked: ServeStopArguments) -> ChangeAnswer:
    """End a server, which gives its device back. Needs the whole run id, and refuses runs that serve nothing. Requests
    that it is answering are broken off.
    """
    return await in_thread(_stop, call.workspace, asked.run_id)


async def run_resume(call: Call, asked: ResumeArguments) -> ChangeAnswer:
    """Start a run again that failed, was cancelled or was lost: its next attempt goes on from the last checkpoint, with
    everything of the earlier attempts kept. Needs the whole run id. Refused for a run that succeeded or still runs.
    """
    return await in_thread(_resume, call.workspace, asked.run_id)


def _cancel(workspace: Workspace, name: str) -> ChangeAnswer:
    run = find_run(workspace.runs, name, exact=True)
    latest = run.latest()
    again = latest is not None and bool(latest.cancel_requests())
    launch.cancel(workspace, run, f"{getpass.getuser()} (MCP)")
    told = "what still runs is being killed" if again else "it was asked to end"
    waiting = call_text("run_status", run_id=run.id, wait_seconds=50, wait_for="end")
    return ChangeAnswer(id=run.id, state=run.status().state, told=told, next=[waiting])


def _stop(workspace: Workspace, name: str) -> ChangeAnswer:
    run = find_run(workspace.runs, name, exact=True)
    if run.kind != "serve":
        raise RequestError(f"{run.id} serves nothing: it is a run of kind {run.kind}", way_out="run_cancel ends it")
    return _cancel(workspace, name)


def _resume(workspace: Workspace, name: str) -> ChangeAnswer:
    run = find_run(workspace.runs, name, exact=True)
    notes = resume_notes(run)
    attempt = launch.resume(workspace, run, resume_variables(workspace, run))
    told = "; ".join([f"attempt {attempt.number} is started", *notes])
    waiting = call_text("run_status", run_id=run.id, wait_seconds=50)
    return ChangeAnswer(id=run.id, state=run.status().state, told=told, next=[waiting])
