"""The command of the data package.

    python -m tuneyard.data prepare runs/ID     write the data of a run

The last line on stdout is JSON: {"datasets": {name: rows}}, or {"error": {kind, message, where, way_out, exit_code}}.
Exit codes: 0, 1 it failed, 2 the request is wrong, 3 the set-up is wrong.
"""

from __future__ import annotations

import json
import sys

from tuneyard.core.errors import RunError, TuneyardError


def main(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    if len(argv) != 2 or argv[0] != "prepare":
        print("usage: python -m tuneyard.data prepare FOLDER_OF_A_RUN", file=sys.stderr)
        return 0 if argv[:1] in ([], ["-h"], ["--help"]) else 2
    try:
        from tuneyard.data.prepare import prepare

        manifest = prepare(argv[1])
    except TuneyardError as error:
        return _failed(error)
    except Exception as error:  # whatever else went wrong is told as such, with its traceback in the log
        import traceback

        traceback.print_exc()
        return _failed(RunError(f"preparing the data failed: {type(error).__name__}: {error}"))
    print(json.dumps({"datasets": {entry.name: entry.rows for entry in manifest.datasets}}))
    return 0


def _failed(error: TuneyardError) -> int:
    print(error, file=sys.stderr)
    print(json.dumps({"error": error.as_dict()}, ensure_ascii=False))
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
