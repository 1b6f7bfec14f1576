"""`yard index rebuild`: make the index of runs anew."""

from __future__ import annotations

from tuneyard.control.commands.arguments import Arguments
from tuneyard.control.index import index_file, rebuild
from tuneyard.control.workspace import find_workspace


def main(command: str, arguments: list[str]) -> int:
    parser = Arguments(command, "The index of runs is derived from their files and may be made anew at any time.")
    parser.add_argument("action", choices=("rebuild",), help="throw it away and read every run")
    parser.add_json()
    options = parser.parse_args(arguments)
    runs = find_workspace().runs
    count = rebuild(runs)
    if options.json:
        import json

        print(json.dumps({"runs": count, "path": str(index_file(runs))}))
    else:
        print(f"{count} runs are in {index_file(runs)}")
    return 0
