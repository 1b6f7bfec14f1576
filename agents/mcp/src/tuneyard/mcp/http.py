"""The server over HTTP: on this machine alone unless told otherwise, and only for whoever has the token."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import explain_os_error

PATH = "/mcp"
LARGEST_BODY = 4 * 1024 * 1024
"""Bytes that a request may have; more is refused with 413 before it is read."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Address:
    """Where the server listens, and under which names it may be asked."""

    host: str = "127.0.0.1"
    port: int = 8765
    """0 takes one that is free."""
    names: Sequence[str] = ()
    """Further values of the Host header, with their port: `lab.example:8765`."""
    origins: Sequence[str] = field(default_factory=tuple)
    """Further values of the Origin header, as browsers send it."""

    def security(self) -> TransportSecuritySettings:
        """Which Host and Origin headers are accepted; a page in a browser cannot pretend to be one of these."""
        return TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=[*(f"{host}:*" for host in LOOPBACK), *self.names],
            allowed_origins=[*(f"http://{host}:*" for host in LOOPBACK), *self.origins],
        )

    def check(self) -> None:
        """Raise RequestError where others could reach the server and nobody said under which name."""
        if not _is_loopback(self.host) and not self.names:
            raise RequestError(
                f"--host {self.host} is open to other machines",
                way_out="name what clients call it, --allowed-host NAME:PORT; or keep to this machine and use ssh",
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RequireToken:
    """Lets nobody pass without the bearer token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and not self._has_token(scope):
            refusal = Response("a bearer token is required", 401, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _has_token(self, scope: Scope) -> bool:
        headers = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, given = headers[0].partition(b" ") if len(headers) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token)


def application(server: Server[Any], address: Address) -> Starlette:
    """The protocol as a web application, without the token."""
    return server.streamable_http_app(
        streamable_http_path=PATH,
        transport_security=address.security(),
        max_request_body_size=LARGEST_BODY,
        host=address.host,
    )


async def over_http(server: Server[Any], address: Address) -> None:
    """Serve until the process is told to end.

    Raises:
        RequestError: others could reach it and nobody said under which name.
        SetupError: the token file is open to others or cannot be written, or the port is taken.
    """
    address.check()
    file = token_file()
    app = RequireToken(application(server, address), read_token(file))
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    sock = _listen(address)
    host = f"[{address.host}]" if ":" in address.host else address.host
    print(f"serving MCP at http://{host}:{sock.getsockname()[1]}{PATH}", file=sys.stderr)
    print(f"the bearer token is in {file}", file=sys.stderr, flush=True)
    await uvicorn.Server(config).serve([sock])


def _listen(address: Address) -> Any:
    import socket

    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, address.port))
        sock.listen(128)  # before its address is told
    except OSError as error:
        sock.close()
        raise SetupError(
            f"cannot listen: {error.strerror or error}", where=f"{address.host}:{address.port}", way_out="--port N"
        ) from error
    return sock


def token_file() -> Path:
    """Where this user's token is kept."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "tuneyard" / "mcp-token"


def read_token(file: Path) -> str:
    """The token; made where there is none, readable by its owner alone.

    Raises:
        SetupError: others may read it, it is empty, or it cannot be written.
    """
    if not file.exists():
        _make_token(file)
    info = file.stat()
    if stat.S_IMODE(info.st_mode) & 0o077 or info.st_uid != os.geteuid():
        raise SetupError("others may read the token", where=str(file), way_out=f"rm {file}; a new one is made")
    token = file.read_text().strip()
    if len(token) < 16:
        raise SetupError("holds no token", where=str(file), way_out=f"rm {file}; a new one is made")
    return token


def _make_token(file: Path) -> None:
    """Make the file whole and private in one step; of two servers that start at once, one's token is both's."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(secrets.token_urlsafe(32) + "\n")
        with suppress(FileExistsError):
            os.link(temporary, file)
    except OSError as error:
        raise explain_os_error(error, file) from error
    finally:
        temporary.unlink(missing_ok=True)
