"""The tasks extension of the protocol: a training or evaluation as a task, for clients that declare it.

A task is a run and its id the run's, so that tasks outlive the server like runs do, and any other server knows them.
All other clients use run ids and run_status.
"""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Any

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY, CallToolResult, RequestParams, TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from tuneyard.control import launch
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.run_folder import RunFolder, RunStatus, find_run
from tuneyard.mcp.answers import CONCISE, clip, masked
from tuneyard.mcp.tool import in_thread

EXTENSION = "io.modelcontextprotocol/tasks"
STARTING = ("train", "evaluate")
"""Tools whose calls may become tasks."""

POLL_MS = 2000


class TaskParams(RequestParams):
    """Which task."""

    task_id: str = Field(alias="taskId", max_length=200)


def declared(ctx: Any) -> bool:
    """Whether the client of a request can do tasks."""
    able = ctx.session.client_capabilities
    return bool(able and able.extensions and EXTENSION in able.extensions)


def as_task(ctx: Any, tool: str, result: CallToolResult, workspace: Workspace) -> dict[str, Any] | None:
    """The answer to a call as a new task; None where it is none: another tool, an error, a dry run, several runs."""
    fits = tool in STARTING and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and declared(ctx)
    runs = (result.structured_content or {}).get("runs", []) if fits and not result.is_error else []
    if len(runs) != 1:
        return None
    run = RunFolder(workspace.runs / runs[0]["id"])
    return {"resultType": "task", **_task(run, run.status())}


def serve_tasks(server: Server[Any], workspace: Any) -> None:
    """Let clients ask about tasks.

    Args:
        server: gets the methods tasks/get, tasks/update and tasks/cancel.
        workspace: called for the workspace.
    """

    async def get(ctx: Any, params: TaskParams) -> dict[str, Any]:
        return await in_thread(lambda: _detailed(_run(ctx, workspace(), params.task_id)))

    async def update(ctx: Any, params: TaskParams) -> dict[str, Any]:
        await in_thread(lambda: _run(ctx, workspace(), params.task_id))
        return {}  # a run never asks for anything

    async def cancel(ctx: Any, params: TaskParams) -> dict[str, Any]:
        await in_thread(lambda: _cancel(workspace(), _run(ctx, workspace(), params.task_id)))
        return {}

    for name, handler in (("get", get), ("update", update), ("cancel", cancel)):
        server.add_request_handler(f"tasks/{name}", TaskParams, handler)
    server.extensions[EXTENSION] = {}


def _run(ctx: Any, workspace: Workspace, task: str) -> RunFolder:
    if not declared(ctx):
        needed = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, f"the client has not declared {EXTENSION}", needed)
    try:
        return find_run(workspace.runs, task, exact=True)
    except RequestError as error:
        raise MCPError(INVALID_PARAMS, str(error), {"taskId": task}) from error


def _cancel(workspace: Workspace, run: RunFolder) -> None:
    try:
        launch.cancel(workspace, run, f"{getpass.getuser()} (MCP)")
    except RequestError:
        return  # it has ended: asking again is no error


def _task(run: RunFolder, status: RunStatus) -> dict[str, Any]:
    latest = run.attempt(status.attempt) if status.attempt else None
    changed = latest.result if latest and latest.result.exists() else run.path
    return {
        "taskId": run.id,
        "status": _status(status),
        "statusMessage": status.state + (f": {status.reason}" if status.reason else ""),
        "createdAt": _time(run.spec.stat().st_mtime),
        "lastUpdatedAt": _time(status.phase_since or changed.stat().st_mtime),
        "ttlMs": None,  # a run stays until somebody removes it
        "pollIntervalMs": POLL_MS,
    }


def _detailed(run: RunFolder) -> dict[str, Any]:
    """A task with its result, when it has one: that of the call it began with."""
    status = run.status()
    told = _task(run, status)
    return {**told, "result": _result(run, status)} if told["status"] == "completed" else told


def _status(status: RunStatus) -> str:
    if status.state == "cancelled":
        return "cancelled"
    return "completed" if status.ended else "working"  # a run that failed is a result; `failed` is for the protocol


def _result(run: RunFolder, status: RunStatus) -> dict[str, Any]:
    from tuneyard.mcp.tools.start import StartAnswer, StartedRun
    from tuneyard.mcp.tools.status import RunStatusArguments, answer

    seen = answer(run, RunStatusArguments(run_id=run.id), None)
    started = StartAnswer(runs=[StartedRun(id=run.id, state=status.state, existing=False)], next=seen.next)
    result = CallToolResult(
        content=[TextContent(text=clip(masked(seen.text()), CONCISE))],
        structured_content=started.data(CONCISE),
        is_error=status.state != "succeeded",
    )
    return result.model_dump(by_alias=True, mode="json", exclude_none=True)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
