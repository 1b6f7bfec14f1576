"""The server on stdin and stdout, and the workspace that it works in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.stdio import stdio_server

from tuneyard.control.workspace import WORKSPACE_VARIABLE, Workspace, find_workspace


def find_workspace_of_server(named: Path | None) -> Workspace:
    """The workspace that the server was started for; from then on the process stands in it.

    A client starts the server from any folder, so the folder that the task belongs to comes before where it was typed.
    """
    root = named or os.environ.get(WORKSPACE_VARIABLE) or os.environ.get("PIXI_PROJECT_ROOT")
    workspace = find_workspace(Path(root) if root else None)
    os.chdir(workspace.path)
    os.environ["INIT_CWD"] = str(workspace.path)  # what relative paths in a spec are meant from
    return workspace


async def over_stdio(server: Server[Any]) -> None:
    """Serve one client until it closes stdin. While this goes on, whatever prints to stdout prints to stderr."""
    options = server.create_initialization_options(NotificationOptions())
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, options)
