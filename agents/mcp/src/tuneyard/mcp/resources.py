"""Resources: runs, their files, AGENTS.md and the documentation, by address.

    tuneyard://runs/ID                what run_status tells in detail, as JSON
    tuneyard://runs/ID/spec           the resolved spec
    tuneyard://runs/ID/result         what came of the latest attempt
    tuneyard://runs/ID/log            the end of its stderr
    tuneyard://servers                the servers that run: where they answer, and to which names
    tuneyard://agents-md              AGENTS.md
    tuneyard://docs/PAGE              docs/PAGE.md

A text that is longer than an answer may be comes in parts: `?part=2` gives the second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_types import Resource, ResourceTemplate, TextResourceContents

from tuneyard.control.agents_md.notes import NOTES, notes_file
from tuneyard.control.log_views import tail
from tuneyard.control.paths import inside
from tuneyard.control.servers import known, running
from tuneyard.control.summary import describe
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.masking import mask_secrets
from tuneyard.core.run_folder import RunFolder, find_run
from tuneyard.mcp.answers import masked

PART = 19_000
"""Characters of a text that are given at once."""

LOG_LINES = 150
_ADDRESS = re.compile(r"tuneyard://(?P<path>[\w./-]+?)/?(?:\?part=(?P<part>[1-9]\d{0,5}))?")
_JSON, _MARKDOWN, _PLAIN = "application/json", "text/markdown", "text/plain"


@dataclass(frozen=True)
class RunFile:
    """One way to look at a run."""

    description: str
    mime: str
    read: Callable[[RunFolder], str]


def listed(workspace: Workspace) -> list[Resource]:
    """The resources that have a name of their own; runs are found by list_runs."""
    pages = sorted(path.stem for path in (workspace.path / "docs").glob("*.md"))
    docs = [_listed(f"tuneyard://docs/{page}", f"docs/{page}.md", "A page of the documentation") for page in pages]
    notes = _listed("tuneyard://agents-md", NOTES, "Notes for coding agents: current tasks, recent changes")
    servers = Resource(
        uri="tuneyard://servers",
        name="servers",
        description="The servers that run here: run id, state, base URL and the names of their models",
        mime_type=_JSON,
    )
    return [*([notes] if notes_file(workspace).exists() else []), servers, *docs]


def _listed(address: str, name: str, description: str) -> Resource:
    return Resource(uri=address, name=name, description=description, mime_type=_MARKDOWN)


def templates() -> list[ResourceTemplate]:
    """The addresses that hold an id or a name."""
    runs = [
        ResourceTemplate(
            uri_template=f"tuneyard://runs/{{id}}{'/' + name if name else ''}{{?part}}",
            name=f"run{'-' + name if name else ''}",
            description=file.description,
            mime_type=file.mime,
        )
        for name, file in RUN_FILES.items()
    ]
    docs = "A page of the documentation"
    page = ResourceTemplate(
        uri_template="tuneyard://docs/{page}{?part}", name="docs", description=docs, mime_type=_MARKDOWN
    )
    return [*runs, page]


def read(workspace: Workspace, address: str) -> TextResourceContents:
    """What stands at an address, in parts where it is long, secrets masked.

    Raises:
        RequestError: there is nothing at that address.
    """
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise RequestError(f"{address[:200]!r} is no address", way_out="resources/templates/list tells the forms")
    mime, text = _read(workspace, match["path"].split("/"))
    return TextResourceContents(uri=address, mime_type=mime, text=_part(text, address, int(match["part"] or 1)))


def look(workspace: Workspace, address: str) -> Any:
    """What differs when what stands at an address has changed: a run's state, a file's time; None for nothing."""
    match = _ADDRESS.fullmatch(address)
    path = match["path"].split("/") if match else []
    try:
        if path[:1] == ["runs"] and len(path) > 1:
            status = find_run(workspace.runs, path[1]).status()
            return status.state, status.attempt
        if path == ["servers"]:
            return [(each["id"], each["state"], each["url"]) for each in known(workspace)]
        file = _page(workspace, path[1]) if path[:1] == ["docs"] and len(path) == 2 else notes_file(workspace)
        info = file.stat()
    except (RequestError, OSError):
        return None
    return info.st_mtime_ns, info.st_size


def _read(workspace: Workspace, path: list[str]) -> tuple[str, str]:
    match path:
        case ["servers"]:
            return _JSON, _as_json(running(workspace))
        case ["agents-md"]:
            return _MARKDOWN, _text(notes_file(workspace))
        case ["docs", page]:
            return _MARKDOWN, _text(_page(workspace, page))
        case ["runs", name, *rest] if len(rest) < 2:
            file = RUN_FILES.get("".join(rest))
            if file is None:
                raise unknown("file of a run", rest[0], [n for n in RUN_FILES if n])
            return file.mime, file.read(find_run(workspace.runs, name))
    raise RequestError(f"there is nothing at tuneyard://{'/'.join(path)}", way_out="resources/templates/list")


def _page(workspace: Workspace, page: str) -> Path:
    known = {path.stem: path for path in (workspace.path / "docs").glob("*.md")}
    if page not in known:
        raise unknown("page", page, known, where="docs")
    return inside(workspace, str(known[page]))  # a link may lead elsewhere


def _text(path: Path) -> str:
    try:
        return mask_secrets(path.read_text(encoding="utf-8-sig", errors="replace"))
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def _part(text: str, address: str, number: int) -> str:
    start = (number - 1) * PART
    if start >= len(text) and number > 1:
        raise RequestError(f"there is no part {number}", where=address, way_out=address.partition("?")[0])
    part = text[start : start + PART]
    rest = len(text) - start - len(part)
    following = f"{address.partition('?')[0]}?part={number + 1}"
    return f"{part}\n\n… {rest} more characters: {following}" if rest > 0 else part


def _as_json(value: Any) -> str:
    return json.dumps(masked(value), indent=1, ensure_ascii=False)


def _spec(run: RunFolder) -> str:
    try:
        return _as_json(run.read_spec())
    except ValueError as error:
        raise RequestError(f"not valid JSON: {error}", where=str(run.spec)) from error


def _result(run: RunFolder) -> str:
    latest = run.latest()
    result = latest.read_result() if latest else None
    if result is None:
        raise RequestError(f"{run.id} has no result yet: it is {run.status().state}")
    return _as_json(result)


def _log(run: RunFolder) -> str:
    latest = run.latest()
    if latest is None:
        raise RequestError(f"{run.id} has not begun yet")
    return "\n".join(tail(latest.stderr, LOG_LINES).lines)


RUN_FILES: dict[str, RunFile] = {
    "": RunFile("State, progress, metrics, failure and artifacts of a run", _JSON, lambda run: _as_json(describe(run))),
    "spec": RunFile("The resolved spec of a run", _JSON, _spec),
    "result": RunFile("What came of the latest attempt of a run", _JSON, _result),
    "log": RunFile("The end of a run's stderr; run_logs gives any other part", _PLAIN, _log),
}
"""What stands behind a run's id in an address."""
