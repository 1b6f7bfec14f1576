"""The server together with the tools, resources and prompts that the official conformance suite asks for.

    python conformance_server.py WORKSPACE PORT

For tests alone: it listens without a token. The fixtures are an MCPServer of their own; our server answers the rest.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import Message
from mcp.server.request_state import RequestStateBoundary
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolRequestParams,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    GetPromptRequestParams,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    ReadResourceRequestParams,
    SamplingMessage,
    SetLevelRequestParams,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

from tuneyard.control.workspace import Workspace
from tuneyard.mcp.http import Address, application
from tuneyard.mcp.server import build

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
WAV = b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0"

bus = InMemorySubscriptionBus()
fixtures = MCPServer("fixtures", subscriptions=bus)


def text(value: str) -> TextContent:
    return TextContent(text=value)


def image() -> ImageContent:
    return ImageContent(data=base64.b64encode(PNG).decode(), mime_type="image/png")


def embedded(uri: str, content: str, mime: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, text=content, mime_type=mime))


def elicit(message: str, schema: dict[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def form(message: str, name: str, kind: str = "string") -> ElicitRequest:
    """A question with one required answer."""
    return elicit(message, {"type": "object", "properties": {name: {"type": kind}}, "required": [name]})


def sample(question: str, tokens: int = 100) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=text(question))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=tokens))


def answer(ctx: Context, key: str) -> dict[str, Any]:
    """What the client answered to one question; empty while it has not, or not in the right form."""
    found = (ctx.input_responses or {}).get(key)
    return found.model_dump(by_alias=True, exclude_none=True) if isinstance(found, BaseModel) else {}


def content(ctx: Context, key: str, name: str) -> Any:
    """One field of what the client accepted."""
    return (answer(ctx, key).get("content") or {}).get(name)


# Tools of both eras.


@fixtures.tool()
def test_simple_text() -> TextContent:
    """Text."""
    return text("This is a simple text response for testing.")


@fixtures.tool()
def test_image_content() -> ImageContent:
    """An image."""
    return image()


@fixtures.tool()
def test_audio_content() -> AudioContent:
    """A sound."""
    return AudioContent(data=base64.b64encode(WAV).decode(), mime_type="audio/wav")


@fixtures.tool()
def test_embedded_resource() -> EmbeddedResource:
    """A resource inside the answer."""
    return embedded("test://embedded-resource", "This is an embedded resource content.")


@fixtures.tool()
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Several at once."""
    mixed = embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json")
    return [text("Multiple content types test:"), image(), mixed]


@fixtures.tool()
def test_error_handling() -> TextContent:
    """An error."""
    raise ToolError("This tool intentionally returns an error for testing")


async def steps(tell: Callable[[int], Any]) -> None:
    for number in range(3):
        await tell(number)
        await anyio.sleep(0.05)


@fixtures.tool()
async def test_tool_with_progress(ctx: Context) -> TextContent:
    """Progress."""
    await steps(lambda number: ctx.report_progress(number * 50, 100))
    return text("done")


@fixtures.tool()
async def test_tool_with_logging(ctx: Context) -> TextContent:
    """Log messages."""
    said = ("Tool execution started", "Tool processing data", "Tool execution completed")
    await steps(lambda number: ctx.log("info", said[number]))  # pyright: ignore[reportDeprecated]
    return text("done")


@fixtures.tool()
async def test_logging_tool(ctx: Context) -> TextContent:
    """A log message, which only those see who asked for it."""
    await ctx.log("info", "a message")  # pyright: ignore[reportDeprecated]
    return text("done")


# Tools of the handshake era, which ask the client in the middle of a call.


@fixtures.tool()
async def test_sampling(prompt: str, ctx: Context) -> TextContent:
    """Asks the client's model."""
    message = SamplingMessage(role="user", content=text(prompt))
    said = await ctx.session.create_message([message], max_tokens=100)  # pyright: ignore[reportDeprecated]
    return text(f"LLM response: {getattr(said.content, 'text', '')}")


class User(BaseModel):
    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


@fixtures.tool()
async def test_elicitation(message: str, ctx: Context) -> TextContent:
    """Asks the user."""
    return text(f"User response: {await ctx.elicit(message, User)}")


class Defaults(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


@fixtures.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> TextContent:
    """Asks the user, with defaults."""
    found = await ctx.elicit("Please review", Defaults)
    return text(f"Elicitation completed: action={found.action}, content={getattr(found, 'data', None)}")


OPTIONS = ["option1", "option2", "option3"]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": OPTIONS},
    "titledSingle": {
        "type": "string",
        "oneOf": [{"const": f"value{n}", "title": t} for n, t in ((1, "First Option"), (2, "Second Option"))],
    },
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": [{"const": "value1", "title": "First Choice"}]}},
}


@fixtures.tool()
async def test_elicitation_sep1330_enums(ctx: Context) -> TextContent:
    """Asks the user to choose."""
    found = await ctx.session.elicit_form("Choose", {"type": "object", "properties": ENUMS})
    return text(f"Elicitation completed: action={found.action}, content={found.content}")


# Tools of 2026-07-28, which answer with what they still need.


@fixtures.tool()
def test_input_required_result_elicitation(ctx: Context) -> TextContent | InputRequiredResult:
    """Needs a name."""
    name = content(ctx, "user_name", "name")
    if isinstance(name, str):
        return text(f"Hello, {name}!")
    return InputRequiredResult(input_requests={"user_name": form("What is your name?", "name")})


@fixtures.tool()
def test_input_required_result_sampling(ctx: Context) -> TextContent | InputRequiredResult:
    """Needs the client's model."""
    said = answer(ctx, "capital_question")
    if said:
        return text(str(said.get("content")))
    return InputRequiredResult(input_requests={"capital_question": sample("What is the capital of France?")})


@fixtures.tool()
def test_input_required_result_list_roots(ctx: Context) -> TextContent | InputRequiredResult:
    """Needs the client's roots."""
    roots = answer(ctx, "client_roots").get("roots")
    return text(str(roots)) if roots else InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})


def confirmed(ctx: Context, state: str) -> TextContent | InputRequiredResult:
    if ctx.request_state == state and content(ctx, "confirm", "ok"):
        return text("state-ok")
    asked = form("Please confirm", "ok", "boolean")
    return InputRequiredResult(input_requests={"confirm": asked}, request_state=state)


@fixtures.tool()
def test_input_required_result_request_state(ctx: Context) -> TextContent | InputRequiredResult:
    """Needs a confirmation, and its state back."""
    return confirmed(ctx, "asked")


@fixtures.tool()
def test_input_required_result_tampered_state(ctx: Context) -> TextContent | InputRequiredResult:
    """Needs a confirmation, and its state back as it was."""
    return confirmed(ctx, "untouched")


@fixtures.tool()
def test_input_required_result_multiple_inputs(ctx: Context) -> TextContent | InputRequiredResult:
    """Needs three things."""
    if all(answer(ctx, key) for key in ("user_name", "greeting", "client_roots")):
        return text("all there")
    asked = {
        "user_name": form("What is your name?", "name"),
        "greeting": sample("Generate a greeting", 50),
        "client_roots": ListRootsRequest(),
    }
    return InputRequiredResult(input_requests=asked, request_state="three")


@fixtures.tool()
def test_input_required_result_multi_round(ctx: Context) -> TextContent | InputRequiredResult:
    """Needs one thing after another."""
    if ctx.request_state == "second" and (color := content(ctx, "step2", "color")):
        return text(f"{color} it is")
    if ctx.request_state == "first" and content(ctx, "step1", "name"):
        asked = form("Step 2: What is your favorite color?", "color")
        return InputRequiredResult(input_requests={"step2": asked}, request_state="second")
    return InputRequiredResult(
        input_requests={"step1": form("Step 1: What is your name?", "name")}, request_state="first"
    )


@fixtures.tool()
def test_input_required_result_capabilities(ctx: Context) -> TextContent | InputRequiredResult:
    """Asks for what the client can do, and for nothing else."""
    able = ctx.client_capabilities
    asked: dict[str, Any] = {}
    if able and able.elicitation is not None:
        asked["user_name"] = form("What is your name?", "name")
    if able and able.sampling is not None:
        asked["greeting"] = sample("Generate a greeting")
    if able and able.roots is not None:
        asked["client_roots"] = ListRootsRequest()
    return InputRequiredResult(input_requests=asked) if asked else text("nothing to ask")


@fixtures.tool()
def test_streaming_elicitation(ctx: Context) -> TextContent | InputRequiredResult:
    """Needs a name, on a stream."""
    return test_input_required_result_elicitation(ctx)


@fixtures.tool()
def test_missing_capability(ctx: Context) -> TextContent:
    """Cannot do without the client's model."""
    if ctx.client_capabilities and ctx.client_capabilities.sampling is not None:
        return text("done")
    needed = {"requiredCapabilities": {"sampling": {}}}
    raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "sampling is required", needed)


@fixtures.tool()
async def test_trigger_tool_change(ctx: Context) -> TextContent:
    """Tells listeners that the tools have changed."""
    await ctx.notify_tools_changed()
    return text("done")


@fixtures.tool()
async def test_trigger_prompt_change(ctx: Context) -> TextContent:
    """Tells listeners that the prompts have changed."""
    await ctx.notify_prompts_changed()
    return text("done")


# Resources and prompts.


@fixtures.resource("test://static-text", description="A text", mime_type="text/plain")
def static_text() -> str:
    return "This is the content of the static text resource."


@fixtures.resource("test://static-binary", description="An image", mime_type="image/png")
def static_binary() -> bytes:
    return PNG


@fixtures.resource("test://template/{id}/data", description="By id", mime_type="application/json")
def template(id: str) -> dict[str, Any]:
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


@fixtures.prompt()
def test_simple_prompt() -> str:
    """A text."""
    return "This is a simple prompt for testing."


@fixtures.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A text with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@fixtures.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:
    """A resource and a text."""
    resource = embedded(resourceUri, "Embedded resource content for testing.")
    return [Message(resource, role="user"), Message("Please process the embedded resource above.", role="user")]


@fixtures.prompt()
def test_prompt_with_image() -> list[Message]:
    """An image and a text."""
    return [Message(image(), role="user"), Message("Please analyze the image above.", role="user")]


@fixtures.prompt()
def test_input_required_result_prompt(ctx: Context) -> str | InputRequiredResult:
    """Needs a context."""
    given = content(ctx, "user_context", "context")
    if given:
        return f"Context: {given}"
    return InputRequiredResult(input_requests={"user_context": form("What context should the prompt use?", "context")})


def together(workspace: Path) -> Server[Any]:
    """Our server, whose answers the fixtures add theirs to."""
    ours = build(lambda: Workspace(workspace), bus)
    theirs = fixtures._lowlevel_server

    def merge(method: str, key: str) -> None:
        """Both lists, one behind the other."""
        one, other = ours.get_request_handler(method), theirs.get_request_handler(method)
        assert one is not None and other is not None

        async def both(ctx: Any, params: Any) -> Any:
            first: Any = await one.handler(ctx, params)
            second: Any = await other.handler(ctx, params)
            return first.model_copy(update={key: [*getattr(first, key), *getattr(second, key)]})

        ours.add_request_handler(method, one.params_type, both)

    def split(method: str, params_type: type[Any], is_fixture: Callable[[Any], bool]) -> None:
        """The fixtures where they know the thing, we elsewhere."""
        one, other = ours.get_request_handler(method), theirs.get_request_handler(method)
        assert one is not None and other is not None

        async def either(ctx: Any, params: Any) -> Any:
            return await (other if is_fixture(params) else one).handler(ctx, params)

        ours.add_request_handler(method, params_type, either)

    merge("tools/list", "tools")
    merge("resources/list", "resources")
    merge("resources/templates/list", "resource_templates")
    merge("prompts/list", "prompts")
    split("tools/call", CallToolRequestParams, lambda params: params.name.startswith("test_"))
    known = ("test://static-", "test://template/")
    split("resources/read", ReadResourceRequestParams, lambda params: str(params.uri).startswith(known))
    split("prompts/get", GetPromptRequestParams, lambda params: params.name.startswith("test_"))

    async def set_level(ctx: Any, params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    ours.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    ours.middleware.extend(m for m in fixtures.middleware if isinstance(m, RequestStateBoundary))
    return ours


if __name__ == "__main__":
    place, port = Path(sys.argv[1]), int(sys.argv[2])
    uvicorn.run(application(together(place), Address(port=port)), port=port, log_level="warning")
