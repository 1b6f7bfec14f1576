"""A hook for the end of an agent's turn: code that changed without an entry in AGENTS.md gets one.

    ./pixiw run python agents/hooks/record_changes.py            records a draft made from the git diff
    ./pixiw run python agents/hooks/record_changes.py --ask      asks the agent to write a better one itself

For Claude Code, in .claude/settings.json (docs/agents.md has it ready to copy). It does what the tool
`record_recent_changes` does, is silent when nothing changed, and never fails a turn: what went wrong is told on stderr.
"""

from __future__ import annotations

import json
import sys

from tuneyard.control.agents_md.notes import record_change
from tuneyard.control.agents_md.unrecorded import draft, unrecorded
from tuneyard.control.workspace import find_workspace
from tuneyard.core.errors import TuneyardError


def main(arguments: list[str]) -> None:
    told = json.loads(sys.stdin.read() or "{}") if not sys.stdin.isatty() else {}
    workspace = find_workspace()
    changes = unrecorded(workspace)
    if not any(change.is_code for change in changes):
        return
    if "--ask" in arguments and not told.get("stop_hook_active"):  # asked once already: record it ourselves
        reason = f"Code has changed. Call record_recent_changes with a better summary than: {draft(changes)}"
        print(json.dumps({"decision": "block", "reason": reason}))
        return
    print(f"AGENTS.md: {record_change(workspace, draft(changes)).entry}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (TuneyardError, ValueError) as error:
        print(f"no entry was written: {error}", file=sys.stderr)
