"""The command `yard`: finds the module of the command that is named, and nothing else is imported.

    yard run SPEC [key=value ...]     start a run and show how it goes
    yard runs, show, logs, compare    look at runs
    yard cancel, resume, rm           act on one; whole ids only
    yard --help                       everything there is

Exit codes: 0; 1 the run failed or was lost; 2 the request is wrong; 3 the set-up is wrong; 130 cancelled.
"""

from __future__ import annotations

import os
import sys

from tuneyard.core.errors import SetupError, TuneyardError, unknown

COMMANDS = {
    "run": ("run", "start a run: run SPEC [key=value ...]; --dry-run shows what would be done"),
    "runs": ("runs", "list the runs, the newest first"),
    "show": ("show", "one run: state, progress, metrics, failure, artifacts"),
    "logs": ("logs", "what a run's worker wrote; -f follows it"),
    "compare": ("compare", "two evaluations, document by document"),
    "cancel": ("change", "ask for the end of a run"),
    "resume": ("change", "start a run again that did not succeed; it goes on from its last checkpoint"),
    "rm": ("change", "delete a run and its files"),
    "serve": ("serve", "the servers that run: list, stop, add-adapter, remove-adapter"),
    "record": ("record", "an entry in AGENTS.md under the recent changes; --check, --draft"),
    "index": ("index", "`index rebuild` makes the index of runs anew"),
}
"""Command -> the module of tuneyard.control.commands that has it, and what it does."""

GROUP = "tuneyard.commands"
"""Entry points with further commands: functions of the arguments that return an exit code. Loaded only when named."""

CLOSED_PIPE = 141
"""Exit code where nobody reads the output any more, as `yard runs | head` ends."""


def main() -> None:
    """The program `yard`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; its exit code. Errors are told on stderr, with --json as JSON on stdout."""
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except TuneyardError as error:
        return _tell(error, "--json" in arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more when it ends
        return CLOSED_PIPE
    except OSError as error:  # a disk or a permission, in a place that knows nothing better to say
        return _tell(SetupError(error.strerror or str(error), where=error.filename), "--json" in arguments)
    return code


def _dispatch(arguments: list[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if name == "--version":
        print(f"yard {_version()}")
        return 0
    if name in COMMANDS:
        from importlib import import_module

        return import_module(f"tuneyard.control.commands.{COMMANDS[name][0]}").main(name, rest)
    return _foreign(name, rest)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tuneyard-control")
    except PackageNotFoundError:
        return "from a folder that is not installed"


def _foreign(name: str, rest: list[str]) -> int:
    """A command of another package."""
    found = _entry_points()
    if name not in found:
        raise unknown("command", name, [*COMMANDS, *found])
    return found[name].load()(rest) or 0


def _entry_points():
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def _usage() -> str:
    lines = ["usage: yard COMMAND [...]", ""]
    lines += [f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    lines += [f"  {name:<10} (from {point.value.partition(':')[0]})" for name, point in sorted(_entry_points().items())]
    return "\n".join([*lines, "", "yard COMMAND --help tells the options of one; --json gives JSON."])


def _tell(error: TuneyardError, as_json: bool) -> int:
    if as_json:
        import json

        print(json.dumps({"error": error.as_dict()}, ensure_ascii=False))
    else:
        from tuneyard.core.masking import mask_secrets

        print(mask_secrets(f"yard: {error}"), file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    main()
