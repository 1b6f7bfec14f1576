"""The server: what clients ask in either era of the protocol, and who answers it.

Thin: tools, resources and prompts only put what tuneyard.control knows into the protocol's form. Nothing is kept in
memory that is not in files, so that any number of servers agree, and a new one knows every run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from typing import Any

from mcp.server.lowlevel import Server
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

from tuneyard.control.run_list import RunList
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import SetupError, unknown
from tuneyard.mcp.tool import Call, failed, in_thread
from tuneyard.mcp.tools import TOOLS

INSTRUCTIONS = (
    "tuneyard fine-tunes and evaluates language models. Runs go on when this conversation ends: start one with train "
    "or evaluate, which return at once, then ask run_status (wait_seconds spares asking again) and run_logs. describe "
    "tells what can be asked for, so nothing has to be guessed; dry_run shows what would be done. Only files inside "
    "the workspace are read or run. When you have changed code, call record_recent_changes, and set_current_tasks when "
    "the tasks changed: AGENTS.md is how whoever comes next knows."
)


class Yard:
    """What the handlers share: the workspace, found when it is first needed, and what is known of its runs."""

    def __init__(self, find: Callable[[], Workspace]) -> None:
        self._find = find

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace; raises SetupError where there is none, at every call until there is one."""
        return self._find()

    @cached_property
    def runs(self) -> RunList:
        return RunList(self.workspace.runs)


def build(find: Callable[[], Workspace]) -> Server[Any]:
    """The server for one workspace.

    Args:
        find: finds the workspace; raises SetupError where there is none, which every call then tells.
    """
    yard = Yard(find)

    async def list_tools(ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=await in_thread(lambda: [tool.definition for tool in TOOLS.values()]))

    async def call_tool(ctx: Any, params: CallToolRequestParams) -> CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            return failed(str(unknown("tool", params.name, TOOLS)))
        try:
            call = Call(yard.workspace, yard.runs, ctx.session.report_progress)
        except SetupError as error:
            return failed(str(error))
        return await tool(call, params.arguments or {})

    return Server(
        "tuneyard",
        version=version("tuneyard-mcp"),
        title="tuneyard",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
