"""Where a server is reached: the address it may listen on, and the base URL of one that runs."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tuneyard.core.errors import RequestError
from tuneyard.core.files import read_json_lines
from tuneyard.core.run_folder import RunFolder, find_run

KEY_VARIABLE = "TUNEYARD_API_KEY"
"""The key that a server of ours asks for and that our clients send."""

READY_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Endpoint:
    """A server that answers in place of a model."""

    url: str
    """Base URL of its OpenAI-style interface, ending in /v1."""
    run: str | None = None
    """The run that serves; None for a server of somebody else's."""


def check_address(host: str, port: int) -> int:
    """The port to listen on, looked at now, so that nobody loads a model to find it taken; 0 becomes a free one.

    Raises:
        RequestError: another program listens there, the address is none of this machine's, or it is open to other
            machines and there is no API key.
    """
    if not is_loopback(host) and not os.environ.get(KEY_VARIABLE):
        raise RequestError(
            f"{host} can be reached from other machines, and there is no API key",
            where="host",
            way_out=f"set the variable {KEY_VARIABLE}, or leave `host` at 127.0.0.1",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise RequestError(
                f"{host}:{port} cannot be listened on: {reason}", where="port", way_out="port=0 takes a free one"
            ) from error
        return probe.getsockname()[1]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def find_endpoint(text: str, runs: Path) -> Endpoint:
    """The server that `run:ID` or a URL names.

    Raises:
        RequestError: no such run, one that does not serve or is not ready, or no URL of a server.
    """
    if text.startswith("run:"):
        run = find_run(runs, text)
        return Endpoint(served_url(run), run.id)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.username or parts.query:
        raise RequestError(
            f"{text!r} is no address of a server", where="endpoint", way_out="run:ID, or http://127.0.0.1:8000/v1"
        )
    base = text.rstrip("/")
    return Endpoint(base if base.endswith("/v1") else f"{base}/v1")


def wait_until_ready(run: RunFolder) -> str:
    """Base URL of a run that serves, as soon as it is ready.

    Raises:
        RequestError: it is no server, or has ended.
    """
    while run.kind == "serve" and not run.status().ended and not _ready(run):
        time.sleep(READY_POLL_SECONDS)
    return served_url(run)


def _ready(run: RunFolder) -> list[str]:
    latest = run.latest()
    events = read_json_lines(latest.events) if latest else ()
    return [event["url"] for event, _ in events if event.get("event") == "ready"]


def served_url(run: RunFolder) -> str:
    """Base URL of a run that serves and has said that it is ready.

    Raises:
        RequestError: it is no server, has ended, or is not ready yet.
    """
    if run.kind != "serve":
        raise RequestError(f"{run.id} serves nothing: it is a run of kind {run.kind}", where="endpoint")
    status = run.status()
    if status.ended:
        raise RequestError(f"{run.id} is {status.state}: it serves no longer", where="endpoint", way_out="serve again")
    ready = _ready(run)
    if not ready:
        raise RequestError(
            f"{run.id} is {status.state} and not ready yet", where="endpoint", way_out=f"yard logs {run.id} -f"
        )
    return ready[-1]
