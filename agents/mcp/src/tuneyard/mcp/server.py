"""The server: what clients ask in either era of the protocol, and who answers it.

Thin: tools, resources and prompts only put what tuneyard.control knows into the protocol's form. Nothing is kept in
memory that is not in files, so that any number of servers agree, and a new one knows every run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import anyio
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, SubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    PromptMessage,
    ReadResourceRequestParams,
    ReadResourceResult,
    TextContent,
)

from tuneyard.control.run_list import RunList
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import TuneyardError, unknown
from tuneyard.core.masking import mask_secrets
from tuneyard.mcp.tasks import as_task, serve_tasks
from tuneyard.mcp.tool import Call, failed, in_thread
from tuneyard.mcp.tools import TOOLS
from tuneyard.mcp.watching import Watch

INSTRUCTIONS = (
    "tuneyard fine-tunes, evaluates and serves language models. Runs go on when this conversation ends: start one with "
    "train, evaluate or serve, which return at once, then ask run_status (wait_seconds spares asking again) and "
    "run_logs. describe tells what can be asked for, so nothing has to be guessed; dry_run shows what would be done. "
    "Only files inside the workspace are read or run. When you have changed code, call record_recent_changes, and "
    "set_current_tasks when the tasks changed: AGENTS.md is how whoever comes next knows."
)

_FOR_AN_HOUR = CacheHint(ttl_ms=3_600_000, scope="public")
UNCHANGING: dict[CacheableMethod, CacheHint] = {
    "tools/list": _FOR_AN_HOUR,
    "prompts/list": _FOR_AN_HOUR,
    "resources/templates/list": _FOR_AN_HOUR,
}
"""What stays the same for as long as a server runs, so that clients need not ask again."""

MOST_COMPLETIONS = 100
"""As many as the protocol allows."""


class Handlers:
    """Who answers what clients ask. The workspace is found when it is first needed; modules likewise."""

    def __init__(self, find: Callable[[], Workspace], bus: SubscriptionBus) -> None:
        self._find = find
        self._workspace: Workspace | None = None
        self._settings_time: int | None = None
        self._runs: RunList | None = None
        self.watch = Watch(self._look, bus)

    @property
    def workspace(self) -> Workspace:
        """The workspace, with its settings as they are now; raises SetupError where there is none yet."""
        known = self._workspace or self._find()
        changed = settings_time(known)
        if self._workspace is None or changed != self._settings_time:
            self._workspace, self._settings_time = Workspace(known.path), changed
        return self._workspace

    @property
    def runs(self) -> RunList:
        """What is known of the runs."""
        folder = self.workspace.runs
        if self._runs is None or self._runs.folder != folder:
            self._runs = RunList(folder)
        return self._runs

    async def list_tools(self, ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=await in_thread(lambda: [tool.definition for tool in TOOLS.values()]))

    async def call_tool(self, ctx: Any, params: CallToolRequestParams) -> CallToolResult | Any:
        tool = TOOLS.get(params.name)
        if tool is None:
            return failed(str(unknown("tool", params.name, TOOLS)))
        try:
            call = Call(self.workspace, self.runs, ctx.session.report_progress)
        except TuneyardError as error:
            return failed(str(error))
        result = await tool(call, params.arguments or {})
        return as_task(ctx, params.name, result, self.workspace) or result

    async def list_resources(self, ctx: Any, params: PaginatedRequestParams | None) -> ListResourcesResult:
        from tuneyard.mcp.resources import listed

        return ListResourcesResult(resources=await self._answered(lambda: listed(self.workspace)))

    async def list_templates(self, ctx: Any, params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        from tuneyard.mcp.resources import templates

        return ListResourceTemplatesResult(resource_templates=templates())

    async def read_resource(self, ctx: Any, params: ReadResourceRequestParams) -> ReadResourceResult:
        from tuneyard.mcp.resources import read

        contents = await self._answered(lambda: read(self.workspace, str(params.uri)), uri=str(params.uri))
        return ReadResourceResult(contents=[contents])

    async def list_prompts(self, ctx: Any, params: PaginatedRequestParams | None) -> ListPromptsResult:
        from tuneyard.mcp.prompts import PROMPTS

        return ListPromptsResult(prompts=[form.definition(name) for name, form in PROMPTS.items()])

    async def get_prompt(self, ctx: Any, params: GetPromptRequestParams) -> GetPromptResult:
        from tuneyard.mcp.prompts import PROMPTS, prompt_text

        text = await self._answered(lambda: prompt_text(self.workspace, params.name, params.arguments or {}))
        message = PromptMessage(role="user", content=TextContent(text=text))
        return GetPromptResult(description=PROMPTS[params.name].description, messages=[message])

    async def complete(self, ctx: Any, params: CompleteRequestParams) -> CompleteResult:
        """Run ids, for the arguments of prompts and addresses that take one."""
        if params.argument.name not in ("id", "run_id", "a", "b"):
            return CompleteResult(completion=Completion(values=[]))
        kind = "eval" if params.argument.name in ("a", "b") else None
        page = await self._answered(
            lambda: self.runs.page(kind=kind, text=params.argument.value, limit=MOST_COMPLETIONS)
        )
        values = [row[0] for row in page.rows]
        return CompleteResult(completion=Completion(values=values, total=page.total, has_more=page.after is not None))

    def _look(self, address: str) -> Any:
        from tuneyard.mcp.resources import look

        try:
            return look(self.workspace, address)
        except TuneyardError:
            return None  # there is no workspace yet

    async def _answered(self, function: Callable[[], Any], **data: str) -> Any:
        """What a function gives; our errors become those of the protocol."""
        try:
            return await in_thread(function)
        except TuneyardError as error:
            raise MCPError(INVALID_PARAMS, mask_secrets(str(error)), data or None) from error


def settings_time(workspace: Workspace) -> int | None:
    """When tuneyard.yaml was last changed; None where there is none."""
    try:
        return workspace.settings_file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def build(find: Callable[[], Workspace], bus: SubscriptionBus | None = None) -> Server[Any]:
    """The server for one workspace.

    Args:
        find: finds the workspace; raises SetupError where there is none, which every answer then tells.
        bus: carries notices to clients that listen. Default: one of its own.
    """
    handlers = Handlers(find, bus or InMemorySubscriptionBus())

    @asynccontextmanager
    async def lifespan(server: Server[Any]) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(handlers.watch.run)
            yield
            tasks.cancel_scope.cancel()

    server = Server(
        "tuneyard",
        version=version("tuneyard-mcp"),
        title="tuneyard",
        instructions=INSTRUCTIONS,
        lifespan=lifespan,
        cache_hints=UNCHANGING,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
        on_subscribe_resource=handlers.watch.subscribe,
        on_unsubscribe_resource=handlers.watch.unsubscribe,
        on_subscriptions_listen=handlers.watch.listen,
        on_list_prompts=handlers.list_prompts,
        on_get_prompt=handlers.get_prompt,
        on_completion=handlers.complete,
    )
    serve_tasks(server, lambda: handlers.workspace)
    return server
