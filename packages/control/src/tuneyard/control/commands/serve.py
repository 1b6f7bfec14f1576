"""`yard serve list | stop | add-adapter | remove-adapter`: the servers that run, and their adapters."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from typing import Any

from tuneyard.control import launch
from tuneyard.control.commands.arguments import Arguments
from tuneyard.control.resolving.anchors import standing_folder
from tuneyard.control.run import user_name
from tuneyard.control.servers import Served, running
from tuneyard.control.workspace import Workspace, find_workspace
from tuneyard.core.errors import RequestError, RunError
from tuneyard.core.references import ModelRef, kind_of
from tuneyard.core.run_folder import RunFolder, find_run

STOP_PATIENCE = 30.0
"""Seconds beyond a server's own `cancel_grace` until `stop` gives up waiting."""


def main(command: str, arguments: list[str]) -> int:
    options = _parse(command, arguments)
    workspace = find_workspace()
    actions = {"list": _list, "stop": _stop, "add-adapter": _add, "remove-adapter": _remove}
    seen, text = actions[options.action](workspace, options)
    print(json.dumps(seen, ensure_ascii=False) if options.json else text)
    return 0


def _parse(command: str, arguments: list[str]) -> Namespace:
    parser = Arguments(command, "The servers that run here. `./pixiw run -e serve serve` starts one.")
    parser.add_argument("action", choices=("list", "stop", "add-adapter", "remove-adapter"))
    parser.add_argument("run", nargs="?", metavar="RUN", help="whole id of a server")
    parser.add_argument("adapter", nargs="?", metavar="ADAPTER", help="run:ID, a folder or a hub id; to remove, a name")
    parser.add_argument("--name", help="name for requests (default: the adapter's run, or its folder's name)")
    parser.add_argument(
        "--allow-token-mismatch", action="store_true", help="add an adapter that was trained on other tokens"
    )
    parser.add_json()
    options = parser.parse_args(arguments)
    wanted = {"list": 0, "stop": 1}.get(options.action, 2)
    given = sum(value is not None for value in (options.run, options.adapter))
    if given != wanted:
        needs = ("nothing", "RUN", "RUN and ADAPTER")[wanted]
        raise RequestError(f"`{options.action}` takes {needs}", where=parser.prog, way_out=parser.format_usage())
    return options


def _server(workspace: Workspace, options: Namespace) -> RunFolder:
    run = find_run(workspace.runs, options.run, exact=True)
    if run.kind != "serve":
        raise RequestError(f"{run.id} serves nothing: it is a run of kind {run.kind}", way_out="yard serve list")
    return run


def _list(workspace: Workspace, options: Namespace) -> tuple[Any, str]:
    servers = running(workspace)
    lines = []
    for each in servers:
        lines.append(f"{each['id']}  {each['state']}  {each['url'] or 'not ready yet'}")
        lines += [f"  {name}" for name in each["names"] or []]
        lines += [f"  {each['problem']}"] if "problem" in each else []
    return servers, "\n".join(lines) or "nothing is served"


def _stop(workspace: Workspace, options: Namespace) -> tuple[Any, str]:
    run = _server(workspace, options)
    launch.cancel(workspace, run, user_name())
    status = launch.wait(run, run.read_spec()["cancel_grace"] + STOP_PATIENCE)
    if not status.ended:
        raise RunError(f"{run.id} was asked to end and is still {status.state}", way_out=f"yard cancel {run.id}")
    return {"id": run.id, "state": status.state}, f"{run.id} serves no longer"


def _add(workspace: Workspace, options: Namespace) -> tuple[Any, str]:
    from tuneyard.control.resolving.hub import hub_of

    server = Served(_server(workspace, options))
    text = options.adapter
    if kind_of(text) == "folder":
        text = os.path.normpath(standing_folder() / os.path.expanduser(text))
    name = server.add_adapter(
        ModelRef(reference=text),
        hub_of(workspace),
        options.name,
        allow_token_mismatch=options.allow_token_mismatch,
    )
    return {"id": server.run.id, "name": name, "url": server.url}, f"{server.run.id} now also answers to {name}"


def _remove(workspace: Workspace, options: Namespace) -> tuple[Any, str]:
    server = Served(_server(workspace, options))
    server.remove_adapter(options.adapter)
    return {"id": server.run.id, "name": options.adapter}, f"{server.run.id} no longer answers to {options.adapter}"
