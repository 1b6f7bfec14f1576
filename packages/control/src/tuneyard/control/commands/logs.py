"""`yard logs RUN`: what a run's worker wrote, secrets masked; a bounded piece of it, or all that comes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from tuneyard.control.commands.arguments import Arguments
from tuneyard.control.workspace import find_workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.failures import log_tail
from tuneyard.core.masking import masking
from tuneyard.core.run_folder import Attempt, RunFolder, find_run

MOST_LINES = 5000
POLL_SECONDS = 0.25
_BLOCK = 64 * 1024


def main(command: str, arguments: list[str]) -> int:
    parser = Arguments(command, "What a run's worker wrote on stderr, where libraries log; secrets are masked.")
    parser.add_run("id of a run, or the beginning of one")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    parser.add_argument("--stdout", action="store_true", help="stdout in place of stderr")
    parser.add_argument("--attempt", type=int, metavar="N", help="an earlier attempt (default: the last)")
    parser.add_argument(
        "--lines", type=int, default=100, metavar="N", help=f"the last N, up to {MOST_LINES} (default 100)"
    )
    parser.add_json()
    options = parser.parse_args(arguments)
    if options.lines < 1:
        raise RequestError(f"--lines {options.lines}", way_out="at least 1")
    run = find_run(find_workspace().runs, options.run)
    attempt = _attempt(run, options.attempt)
    path = attempt.stdout if options.stdout else attempt.stderr
    if options.json:
        lines = log_tail(path, min(options.lines, MOST_LINES))
        print(
            json.dumps(
                {"run": run.id, "attempt": attempt.number, "path": str(path), "lines": lines}, ensure_ascii=False
            )
        )
        return 0
    end = path.stat().st_size if path.exists() else 0
    for line in log_tail(path, min(options.lines, MOST_LINES)):
        print(line)
    if options.follow:
        _follow(attempt, path, end)
    elif not end:
        print(f"{path} is empty")
    return 0


def _attempt(run: RunFolder, number: int | None) -> Attempt:
    attempts = run.attempts()
    if not attempts:
        raise RequestError(f"{run.id} has not begun yet", way_out=f"`yard show {run.id}`")
    if number is None:
        return attempts[-1]
    found = [attempt for attempt in attempts if attempt.number == number]
    if not found:
        known = ", ".join(str(attempt.number) for attempt in attempts)
        raise RequestError(f"{run.id} has no attempt {number}", way_out=f"it has: {known}")
    return found[0]


def _follow(attempt: Attempt, path: Path, offset: int) -> None:
    """Print what is added until the attempt has ended and everything of it is printed. Whole lines: masks fit them."""
    rest, mask = b"", masking()
    while True:
        ended = attempt.state().ended  # asked before the last reading, so that nothing is missed
        data, offset = _read_from(path, offset)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            print(mask(line.decode("utf-8", "replace")))
        if ended and not data:
            break
        if len(rest) > _BLOCK:  # a progress bar never ends its line
            rest = rest[-_BLOCK:]
        if not data:
            time.sleep(POLL_SECONDS)
    if rest:
        print(mask(rest.decode("utf-8", "replace")))


def _read_from(path: Path, offset: int) -> tuple[bytes, int]:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(offset)
            data = file.read(_BLOCK)
    except FileNotFoundError:
        return b"", offset
    return data, offset + len(data)
