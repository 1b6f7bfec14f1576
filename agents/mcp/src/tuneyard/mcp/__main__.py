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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tuneyard.mcp", description="The MCP server of tuneyard.", allow_abbrev=False)
    parser.add_argument(
        "--workspace", type=Path, metavar="DIR", help="the workspace (default: the one around this task)"
    )
    parser.add_argument("--verbose", action="store_true", help="tell every call on stderr")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, stream=sys.stderr)
    _serve(options)
    sys.stderr.flush()
    os._exit(0)  # a thread that waits for a worker's answer must not keep the server alive


def _serve(options: argparse.Namespace) -> None:
    import anyio

    from tuneyard.mcp.server import build
    from tuneyard.mcp.transports import find_workspace_of_server, over_stdio

    anyio.run(over_stdio, build(lambda: find_workspace_of_server(options.workspace)))


if __name__ == "__main__":
    main()
