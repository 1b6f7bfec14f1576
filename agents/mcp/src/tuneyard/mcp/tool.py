"""A tool: a function of typed arguments with a typed answer, and what clients are told of it."""

from __future__ import annotations

import json
import logging
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from typing import Any

import anyio.to_thread
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from mcp_types import Tool as ToolDefinition

from tuneyard.control.run_list import RunList
from tuneyard.control.workspace import Workspace
from tuneyard.core.documents import validate
from tuneyard.core.errors import RequestError, TuneyardError
from tuneyard.core.masking import mask_secrets
from tuneyard.mcp.answers import CONCISE, Answer, Arguments, clip

LARGEST = 1_000_000
"""Characters that the arguments of one call may have."""

log = logging.getLogger(__name__)

Report = Callable[[float, float | None, str], Awaitable[None]]


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    workspace: Workspace
    runs: RunList
    report: Report
    """Tells the client how far the call is: done, of how much (None: unknown), in words."""


@dataclass(frozen=True)
class Tool:
    """One tool. Its module is imported when it is first listed or called, so that starting a server costs nothing."""

    name: str
    title: str
    module: str
    """Below tuneyard.mcp.tools; its function has the tool's name."""
    reads_only: bool = False
    destroys: bool = False
    """Whether what it does cannot be taken back."""
    idempotent: bool = False
    """Whether asking for the same twice does no more than asking once."""
    open_world: bool = False
    """Whether it may reach beyond the machine, such as to the hub."""

    @cached_property
    def function(self) -> Callable[[Call, Any], Awaitable[Answer]]:
        return getattr(import_module(f"tuneyard.mcp.tools.{self.module}"), self.name)

    @cached_property
    def _types(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function)

    @property
    def arguments(self) -> type[Arguments]:
        return self._types["asked"]

    @property
    def answer(self) -> type[Answer]:
        return self._types["return"]

    @cached_property
    def definition(self) -> ToolDefinition:
        """What clients are told of it."""
        return ToolDefinition(
            name=self.name,
            title=self.title,
            description=" ".join((self.function.__doc__ or "").split()),
            input_schema=_plain(self.arguments.model_json_schema()),
            output_schema=_plain(self.answer.model_json_schema(mode="serialization")),
            annotations=ToolAnnotations(
                title=self.title,
                read_only_hint=self.reads_only,
                destructive_hint=self.destroys,
                idempotent_hint=self.idempotent,
                open_world_hint=self.open_world,
            ),
        )

    async def __call__(self, call: Call, arguments: dict[str, Any]) -> CallToolResult:
        """Check the arguments, do it, and put the answer into its form; whatever goes wrong is told in the result."""
        try:
            asked = validate(self.arguments, _bounded(arguments), f"arguments of {self.name}")
            answer = await self.function(call, asked)
            # masked here, where it leaves: the tools themselves need not think of it
            return CallToolResult(
                content=[TextContent(text=clip(mask_secrets(answer.text()), asked.room))],
                structured_content=await in_thread(answer.data, asked.room),
            )
        except TuneyardError as error:
            return failed(str(error))
        except Exception as error:
            log.exception("%s failed", self.name)
            return failed(
                f"{self.name} failed: {type(error).__name__}: {error}\n"
                "  way out: this is an error of the server; its stderr has the details"
            )


def failed(text: str) -> CallToolResult:
    """A result that says what went wrong and the way out."""
    return CallToolResult(content=[TextContent(text=clip(mask_secrets(text), CONCISE))], is_error=True)


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function gives that waits for files or processes. A client that goes away does not wait for it."""
    return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), abandon_on_cancel=True)


def _bounded(arguments: dict[str, Any]) -> dict[str, Any]:
    length = len(json.dumps(arguments))
    if length > LARGEST:
        raise RequestError(
            f"the arguments have {length} characters; {LARGEST} are the most",
            way_out="write a spec file into the workspace and name it",
        )
    return arguments


def _plain(schema: Any) -> Any:
    """A JSON schema without the titles that pydantic makes of names, and docstrings on one line."""
    if isinstance(schema, list):
        return [_plain(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(entry) for key, entry in schema.items() if not (key == "title" and isinstance(entry, str))}
    if isinstance(plain.get("description"), str):
        plain["description"] = " ".join(plain["description"].split())
    return plain
