"""What a run wrote, in pieces that fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tuneyard.control.log_views import Found, Piece, search, tail, trouble, window
from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.run_folder import Attempt, RunFolder, find_run
from tuneyard.core.signatures import likely_cause
from tuneyard.mcp.answers import Answer, Arguments, call_text, lines, size
from tuneyard.mcp.tool import Call, in_thread

Stream = Literal["stderr", "stdout", "supervisor"]


class RunLogsArguments(Arguments):
    run_id: str = Field(min_length=1, max_length=200)
    """Id of the run, or a beginning that no other run has."""
    mode: Literal["summary", "tail", "window", "grep"] = "summary"
    """summary: sizes, lines that speak of trouble, the likely cause, the end. tail: the last lines, or those before
    `offset`. window: lines from `offset` on. grep: lines that hold `text`."""
    stream: Stream = "stderr"
    """stderr, where libraries log; stdout; or supervisor, the log of what watches over the worker."""
    attempt: int | None = Field(default=None, ge=1)
    """An earlier attempt. Default: the last."""
    lines: int = Field(default=50, ge=1, le=500)
    """At most so many; fewer where the answer would grow too long."""
    offset: int | None = None
    """Byte of the log: where a window or a search begins (a negative one counts from the end), or what a tail ends
    before. Default: the beginning, for a tail the end."""
    text: str = Field(default="", max_length=500)
    """What grep looks for, upper and lower case alike; `|` stands between alternatives. No regular expression."""


class LogLine(BaseModel):
    """A line that was found."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    offset: int
    """Byte at which it begins, for a window around it."""
    line: str


class RunLogsAnswer(Answer):
    run: str
    attempt: int
    stream: str
    size: int
    """Bytes in the log."""
    lines: list[str] | None = None
    start: int | None = None
    """Byte at which the lines begin."""
    end: int | None = None
    """Byte behind them."""
    matches: list[LogLine] | None = None
    trouble: list[str] | None = None
    """Lines that speak of errors and warnings."""
    cause: str | None = None
    """The likely cause of a failure, where the log gives it away."""
    way_out: str | None = None
    more: str | None = None
    """The call that gives what comes before or behind."""

    def text(self) -> str:
        found = [f"{match.offset}: {match.line}" for match in self.matches or []]
        return lines(
            f"{self.run} attempt {self.attempt} {self.stream}, {self.size} bytes",
            f"likely cause: {self.cause}; way out: {self.way_out}" if self.cause else None,
            "lines that speak of trouble:\n" + "\n".join(self.trouble) + "\nthe end:" if self.trouble else None,
            *(self.lines or []),
            *(found or (["no line holds that"] if self.matches is not None else [])),
            f"more: {self.more}" if self.more else None,
        )


async def run_logs(call: Call, asked: RunLogsArguments) -> RunLogsAnswer:
    """What a run's worker wrote: a summary, the tail, a window or a search, bounded and with the call that gives the
    rest. Colours and progress bars are taken out, secrets masked.
    """
    return await in_thread(_answer, call.workspace.runs, asked)


def _answer(runs: Path, asked: RunLogsArguments) -> RunLogsAnswer:
    run = find_run(runs, asked.run_id)
    attempt = _attempt(run, asked.attempt)
    paths = {"stderr": attempt.stderr, "stdout": attempt.stdout, "supervisor": attempt.supervisor_log}
    path = paths[asked.stream]
    told: dict[str, Any] = {"run": run.id, "attempt": attempt.number, "stream": asked.stream}
    room = asked.room - 500
    if asked.mode == "grep":
        return RunLogsAnswer(**told, **_grep(path, run.id, asked, room))
    if asked.mode == "summary":
        return RunLogsAnswer(**told, **_summary(path, run.id, asked, room))
    back = asked.mode == "tail"
    piece = _piece(path, asked, room, back)
    rest = piece.start > 0 if back else piece.end < piece.size
    more = _more(run.id, asked, piece.start if back else piece.end) if rest else None
    return RunLogsAnswer(**told, **_lines(piece), more=more)


def _attempt(run: RunFolder, number: int | None) -> Attempt:
    known = {str(attempt.number): attempt for attempt in run.attempts()}
    if not known:
        raise RequestError(f"{run.id} has not begun yet", way_out=call_text("run_status", run_id=run.id))
    if number is None:
        return list(known.values())[-1]
    if str(number) not in known:
        raise unknown("attempt", str(number), known, where=run.id)
    return known[str(number)]


def _piece(path: Path, asked: RunLogsArguments, room: int, back: bool) -> Piece:
    if back:
        return _fitting(lambda n: tail(path, n, asked.offset), asked.lines, room)
    return _fitting(lambda n: window(path, asked.offset or 0, n), asked.lines, room)


def _fitting(read: Callable[[int], Piece], most: int, room: int) -> Piece:
    """As many lines as fit, at least one."""
    piece = read(most)
    while size(piece.lines) > room and len(piece.lines) > 1:
        average = size(piece.lines) / len(piece.lines)
        piece = read(max(1, min(len(piece.lines) - 1, int(room / average))))
    return piece


def _lines(piece: Piece) -> dict[str, Any]:
    return {"lines": piece.lines, "start": piece.start, "end": piece.end, "size": piece.size}


def _summary(path: Path, run: str, asked: RunLogsArguments, room: int) -> dict[str, Any]:
    """Sizes, lines that speak of trouble, the likely cause, and the end."""
    end = _fitting(lambda n: tail(path, n), 100 if asked.detailed else 10, room // 2)
    bad = [line for line in trouble(path, 20 if asked.detailed else 5) if line not in end.lines]
    while bad and size(bad) > room // 3:
        bad = bad[1:]
    known = likely_cause("\n".join(tail(path, 200).lines))
    return {
        **_lines(end),
        "trouble": bad or None,
        "cause": known.cause if known else None,
        "way_out": known.way_out if known else None,
        "more": call_text("run_logs", run_id=run, mode="tail", stream=asked.stream, offset=end.start)
        if end.start
        else None,
    }


def _grep(path: Path, run: str, asked: RunLogsArguments, room: int) -> dict[str, Any]:
    start = asked.offset or 0
    if start < 0:
        start = max(0, path.stat().st_size + start) if path.exists() else 0
    found = search(path, asked.text, offset=start, most=asked.lines)
    matches = [LogLine(offset=m.offset, line=m.line) for m in found.matches]
    while len(matches) > 1 and size([m.model_dump() for m in matches]) > room:
        matches = matches[: len(matches) * 3 // 4]
    end = _continues(found, len(matches))
    more = _more(run, asked, end) if end < found.size else None
    return {"matches": matches, "size": found.size, "end": end, "more": more}


def _continues(found: Found, shown: int) -> int:
    """Where to look on: at the first match that is not shown."""
    return found.matches[shown].offset if shown < len(found.matches) else found.end


def _more(run: str, asked: RunLogsArguments, offset: int) -> str:
    given = {**asked.model_dump(exclude_defaults=True), "run_id": run, "offset": offset}
    return call_text("run_logs", **given)
