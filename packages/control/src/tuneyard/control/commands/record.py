"""`yard record "…"`: an entry under the recent changes of AGENTS.md; whether one is due; a draft of its text."""

from __future__ import annotations

import json

from tuneyard.control.agents_md.notes import CHANGES, KEPT, NOTES, OLDER_NOTES, record_change
from tuneyard.control.agents_md.unrecorded import draft, unrecorded
from tuneyard.control.commands.arguments import Arguments
from tuneyard.control.workspace import Workspace, find_workspace
from tuneyard.core.errors import RequestError

SHOWN = 10
"""Files that a check names; --json names all."""


def main(command: str, arguments: list[str]) -> int:
    parser = Arguments(
        command,
        f'Put an entry, dated today, on top of "{CHANGES}" in {NOTES}. {KEPT} stay, older ones go to {OLDER_NOTES}.',
    )
    parser.add_argument("summary", nargs="?", help="what was changed and why, in a line")
    parser.add_argument("--files", nargs="+", default=[], metavar="FILE", help="files that it speaks of")
    parser.add_argument(
        "--run", action="append", default=[], metavar="RUN", help="a run that it speaks of; may be repeated"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if code changed since the newest entry")
    parser.add_argument("--draft", action="store_true", help="print a summary of what changed since the newest entry")
    parser.add_json()
    options = parser.parse_args(arguments)
    asked = [name for name in ("check", "draft") if getattr(options, name)]
    if len(asked) + (options.summary is not None) > 1:
        raise RequestError("one of a summary, --check and --draft", where=parser.prog)
    workspace = find_workspace()
    if options.check:
        return _check(workspace, options.json)
    if options.draft:
        return _draft(workspace, options.json)
    if options.summary is None:
        raise RequestError(
            "there is no summary", where=parser.prog, way_out='yard record "WHAT AND WHY"; --draft offers one'
        )
    return _record(workspace, options.summary, options.files, options.run, options.json)


def _record(workspace: Workspace, summary: str, files: list[str], runs: list[str], as_json: bool) -> int:
    if files:
        from tuneyard.control.resolving.anchors import standing_folder  # brings pydantic with it

        files = [str(standing_folder() / file) for file in files]
    done = record_change(workspace, summary, files=files, run_ids=runs)
    if as_json:
        print(json.dumps({"entry": done.entry, "added": done.added, "moved": done.moved}, ensure_ascii=False))
        return 0
    print(f"{NOTES}: {done.entry}" if done.added else f"{NOTES} has this entry already: {done.entry}")
    for entry in done.moved:
        print(f"moved to {OLDER_NOTES}: {entry}")
    return 0


def _check(workspace: Workspace, as_json: bool) -> int:
    files = [change.path for change in unrecorded(workspace) if change.is_code]
    if as_json:
        print(json.dumps({"recorded": not files, "files": files}, ensure_ascii=False))
    elif files:
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        print(f'changed since the newest entry under "{CHANGES}" in {NOTES}: {", ".join(files[:SHOWN])}{more}')
        print('way out: yard record "WHAT AND WHY"; yard record --draft offers a text')
    else:
        print(f"no code has changed since the newest entry in {NOTES}")
    return 1 if files else 0


def _draft(workspace: Workspace, as_json: bool) -> int:
    changes = unrecorded(workspace)
    text = draft(changes)
    if as_json:
        print(json.dumps({"summary": text, "files": [change.path for change in changes]}, ensure_ascii=False))
    else:
        print(text or f"nothing has changed since the newest entry in {NOTES}")
    return 0
