"""Over HTTP: on this machine alone, with a token, whatever a web page or a stranger sends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from raw_client import NEW, OLD, TRAIN

from tuneyard.control.workspace import Workspace
from tuneyard.mcp.tools import TOOLS

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": OLD, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


class HttpServer:
    """A server over HTTP, its port and its token."""

    def __init__(self, workspace: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tuneyard.mcp", "--http", "--port", "0", *arguments],
            env={**os.environ, "TUNEYARD_WORKSPACE": str(workspace)},
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stderr is not None
        self.told = self.process.stderr.readline() + self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/mcp", self.told)
        assert found, self.told + self.process.stderr.read()
        self.port = int(found[1])
        self.token_file = Path(os.environ["XDG_CONFIG_HOME"]) / "tuneyard" / "mcp-token"
        self.token = self.token_file.read_text().strip()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def post(self, body: bytes | dict[str, Any], **headers: str | None) -> tuple[int, str]:
        """Status and text of a request; a header that is None is left out."""
        sent = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {self.token}",
            **headers,
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request("POST", "/mcp", data, {k: v for k, v in sent.items() if v is not None})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


@pytest.fixture
def server(desk: Workspace) -> Iterator[HttpServer]:
    made = HttpServer(desk.path)
    yield made
    made.end()


def with_client(server: HttpServer, era: str, work: Callable[[Client], Any]) -> Any:
    """Let the SDK's own client work with the server."""

    async def run() -> Any:
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {server.token}"}, timeout=60) as web:
            transport = streamable_http_client(server.url, http_client=web)
            async with Client(transport, mode="legacy" if era == OLD else era) as client:
                return await work(client)

    return anyio.run(run)


@pytest.mark.parametrize("era", [OLD, NEW])
def test_the_same_tools_are_served(server: HttpServer, era: str) -> None:
    async def work(client: Client) -> tuple[int, str]:
        tools = await client.list_tools()
        started = await client.call_tool("train", {"fields": TRAIN})
        assert started.structured_content
        run = started.structured_content["runs"][0]["id"]
        asked = {"run_id": run, "wait_seconds": 60, "wait_for": "end"}
        seen = (await client.call_tool("run_status", asked)).structured_content
        assert seen
        return len(tools.tools), seen["state"]

    assert with_client(server, era, work) == (len(TOOLS), "succeeded")


def test_many_calls_at_once_are_all_answered(server: HttpServer) -> None:
    async def work(client: Client) -> int:
        answered = 0
        limit = anyio.CapacityLimiter(20)

        async def one(number: int) -> None:
            nonlocal answered
            async with limit:
                tool = ("list_runs", "describe", "env_diagnose")[number % 3]
                result = await client.call_tool(tool, {})
                answered += not result.is_error

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(one, number)
        return answered

    assert with_client(server, NEW, work) == 200


def test_the_token_is_required_private_and_kept(desk: Workspace, server: HttpServer) -> None:
    assert server.token_file.stat().st_mode & 0o777 == 0o600
    assert server.token not in server.told
    assert str(server.token_file) in server.told
    for header in (None, "", "Bearer", "Bearer ", f"Bearer {server.token}x", f"Basic {server.token}", server.token):
        assert server.post(INITIALIZE, Authorization=header)[0] == 401
    assert server.post(INITIALIZE, Authorization=f"bearer {server.token}")[0] == 200
    other = HttpServer(desk.path)
    assert other.token == server.token
    other.end()


def test_nothing_but_the_protocol_is_served_without_the_token(server: HttpServer) -> None:
    for path in ("/", "/mcp", "/docs", "/.well-known/oauth-protected-resource"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status == 401
        connection.close()


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_a_token_that_others_may_read_is_not_used(desk: Workspace, mode: int) -> None:
    file = Path(os.environ["XDG_CONFIG_HOME"]) / "tuneyard" / "mcp-token"
    file.parent.mkdir(parents=True)
    file.write_text("x" * 40)
    file.chmod(mode)
    done = run_http(desk, "--port", "0")
    assert done.returncode == 3
    assert "others may read the token" in done.stderr


def test_servers_that_start_at_once_agree_on_the_token(desk: Workspace) -> None:
    with ThreadPoolExecutor(4) as pool:
        servers = list(pool.map(lambda _: HttpServer(desk.path), range(4)))
    assert len({s.token for s in servers}) == 1
    for server in servers:
        server.end()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil:1"])
def test_a_foreign_host_header_is_refused(server: HttpServer, host: str) -> None:
    assert server.post(INITIALIZE, Host=host)[0] in (400, 421)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example:80", "file://"])
def test_a_foreign_origin_is_refused(server: HttpServer, origin: str) -> None:
    assert server.post(INITIALIZE, Origin=origin)[0] == 403
    assert server.post(INITIALIZE, Origin=f"http://127.0.0.1:{server.port}")[0] == 200


def test_a_large_body_is_refused(server: HttpServer) -> None:
    assert server.post(b'{"x": "' + b"a" * 5_000_000 + b'"}')[0] == 413
    assert server.post(INITIALIZE)[0] == 200


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"\xff", b"{}", b"[" * 100_000])
def test_bodies_that_are_no_messages(server: HttpServer, body: bytes) -> None:
    assert 400 <= server.post(body)[0] < 500
    assert server.post(INITIALIZE)[0] == 200


def run_http(desk: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tuneyard.mcp", "--http", *arguments]
    environment = {**os.environ, "TUNEYARD_WORKSPACE": str(desk.path)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_other_machines_need_a_name_to_ask_for(desk: Workspace) -> None:
    done = run_http(desk, "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "--allowed-host" in done.stderr


def test_a_named_host_is_accepted(desk: Workspace) -> None:
    server = HttpServer(desk.path, "--allowed-host", "lab.example:8765", "--allowed-origin", "https://lab.example")
    assert server.post(INITIALIZE, Host="lab.example:8765", Origin="https://lab.example")[0] == 200
    assert server.post(INITIALIZE, Host="other.example:8765")[0] == 421
    assert server.end() in (0, -signal.SIGTERM)


def test_a_port_that_is_taken_is_said_so(desk: Workspace, server: HttpServer) -> None:
    done = run_http(desk, "--port", str(server.port))
    assert done.returncode == 3
    assert "cannot listen" in done.stderr
