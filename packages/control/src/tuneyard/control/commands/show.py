"""`yard show RUN`: what a run's files tell."""

from __future__ import annotations

import json
from typing import Any

from tuneyard.control.commands.arguments import Arguments
from tuneyard.control.progress import ready_text
from tuneyard.control.summary import describe, ending_parts, progress_text, spec_lines, state_line, table
from tuneyard.control.workspace import find_workspace
from tuneyard.core.masking import mask_secrets
from tuneyard.core.run_folder import find_run


def main(command: str, arguments: list[str]) -> int:
    parser = Arguments(command, "One run: state, progress, metrics, failure, artifacts, and what to type next.")
    parser.add_run("id of a run, or the beginning of one")
    parser.add_json()
    options = parser.parse_args(arguments)
    seen = describe(find_run(find_workspace().runs, options.run))
    print(mask_secrets(json.dumps(seen, indent=2, ensure_ascii=False) if options.json else _text(seen)))
    return 0


def _text(seen: dict[str, Any]) -> str:
    lines = [*spec_lines(seen["kind"], seen["spec"]), ("folder", seen["path"])]
    parts = [state_line(seen), table(lines)]
    if seen["waiting_for"]:
        parts.append(f"waiting for {seen['waiting_for']}")
    if seen["serves"]:
        parts.append(ready_text(seen["serves"]))
    if seen["result"] is None and (progress := progress_text(seen["progress"])):
        parts.append(f"progress: {progress}")
    return "\n\n".join([*parts, *ending_parts(seen)])
