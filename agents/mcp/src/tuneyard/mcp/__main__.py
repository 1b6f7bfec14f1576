"""The MCP server.

    python -m tuneyard.mcp                  on stdin and stdout, as a client starts it
    python -m tuneyard.mcp --http           over HTTP on this machine, with a bearer token

Stdout carries the protocol alone; the log goes to stderr.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from tuneyard.core.errors import TuneyardError


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, stream=sys.stderr)
    code = 0
    try:
        _serve(options)
    except TuneyardError as error:
        print(f"tuneyard.mcp: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    sys.stderr.flush()
    os._exit(code)  # a thread that waits for a worker's answer must not keep the server alive


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tuneyard.mcp", description="The MCP server of tuneyard.", allow_abbrev=False)
    parser.add_argument("--workspace", type=Path, metavar="DIR", help="the workspace (default: that of this task)")
    parser.add_argument("--verbose", action="store_true", help="tell every call on stderr")
    parser.add_argument("--http", action="store_true", help="serve over HTTP in place of stdin and stdout")
    parser.add_argument("--host", default="127.0.0.1", help="with --http: where to listen (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8765, help="with --http: default 8765; 0 takes a free one")
    parser.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME:PORT", help="with --http: a further Host header"
    )
    parser.add_argument(
        "--allowed-origin", action="append", default=[], metavar="URL", help="with --http: a further Origin header"
    )
    return parser.parse_args(arguments)


def _serve(options: argparse.Namespace) -> None:
    import anyio

    from tuneyard.mcp.server import build
    from tuneyard.mcp.stdio import find_workspace_of_server, over_stdio

    server = build(lambda: find_workspace_of_server(options.workspace))
    if not options.http:
        anyio.run(over_stdio, server)
        return
    from tuneyard.mcp.http import Address, over_http

    names, origins = tuple(options.allowed_host), tuple(options.allowed_origin)
    anyio.run(over_http, server, Address(options.host, options.port, names, origins))


if __name__ == "__main__":
    main()
