"""`yard show RUN`: what a run's files tell."""

from __future__ import annotations

import json
from typing import Any

from tuneyard.control.commands.arguments import Arguments
from tuneyard.control.summary import describe, duration, failure_lines, metric_lines, progress_text, spec_lines, table
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
    parts = [_first_line(seen), table([*spec_lines(seen["kind"], seen["spec"]), ("folder", seen["path"])])]
    result, progress = seen["result"], progress_text(seen["progress"])
    if seen["waiting_for"]:
        parts.append(f"waiting for {seen['waiting_for']}")
    if progress and result is None:
        parts.append(f"progress: {progress}")
    if result:
        parts += _result_parts(seen, result)
    if seen["next"]:
        parts.append("next:\n" + "\n".join(f"  {command}" for command in seen["next"]))
    return "\n\n".join(parts)


def _first_line(seen: dict[str, Any]) -> str:
    line = f"{seen['id']}: {seen['state']}"
    if seen["attempt"] > 1:
        line += f" (attempt {seen['attempt']})"
    if seen["result"]:
        line += f" after {duration(seen['result']['seconds'])}"
    return line + (f": {seen['reason']}" if seen["reason"] else "")


def _result_parts(seen: dict[str, Any], result: dict[str, Any]) -> list[str]:
    parts = []
    if result.get("failure"):
        parts.append("\n".join(failure_lines(result["failure"])))
    if metrics := metric_lines(result):
        parts.append("metrics\n" + table(metrics))
    if seen["artifacts"]:
        parts.append("artifacts\n" + table(list(seen["artifacts"].items())))
    return parts
