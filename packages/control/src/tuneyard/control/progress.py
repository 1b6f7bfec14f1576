"""How a run goes, shown while it goes: a live line on a terminal, a line now and then elsewhere.

Everything shown is read from the run's files, so that whoever watches can go away and come back.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any, TextIO

from tuneyard.control.summary import duration, progress_text, waiting_for
from tuneyard.core.files import read_json_lines
from tuneyard.core.run_folder import RunFolder, RunStatus

POLL_SECONDS = 0.1
QUIET_SECONDS = 10.0
"""Elsewhere than on a terminal, a line comes at most this often …"""

SHARES = 10
"""… or whenever another tenth of the work is done."""

BAR_WIDTH = 24


class Events:
    """The events of a run's latest attempt, each seen once."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._attempt = 0
        self._offset = 0

    def new(self, attempt: int) -> list[dict[str, Any]]:
        """What was written since the last call."""
        if attempt != self._attempt:
            self._attempt, self._offset = attempt, 0
        found = []
        file = self._run.attempt(attempt).events
        try:
            for event, offset in read_json_lines(file, self._offset) if attempt else ():
                self._offset = offset
                found.append(event)
        except json.JSONDecodeError:  # a line that a full disk has cut
            self._offset = file.stat().st_size
        return found


class LiveLine:
    """One line that is written over, on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._event: dict[str, Any] | None = None
        self._shown = ""

    def update(self, status: RunStatus, waits: str | None, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["event"] == "progress":
                self._event = {**(self._event or {}), **event}
            elif text := event_text(event):
                self.write(text)
        self._show(self._line(status, waits))

    def _line(self, status: RunStatus, waits: str | None) -> str:
        if status.state != "running" or self._event is None:
            return phase_text(status, waits)
        return f"{bar(self._event)} {progress_text(self._event)}"

    def _show(self, line: str) -> None:
        line = line[: shutil.get_terminal_size().columns - 1]
        if line != self._shown:
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()
            self._shown = line

    def write(self, text: str) -> None:
        """A line that stays, above the live one."""
        self._stream.write(f"\r\x1b[K{text}\n")
        self._shown = ""

    def close(self) -> None:
        self._show("")


class PlainLines:
    """Lines in a log: a change of phase, and progress at most every ten seconds or tenth of the work."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._phase = ""
        self._told_at = -QUIET_SECONDS
        self._told_share = 0

    def update(self, status: RunStatus, waits: str | None, events: list[dict[str, Any]]) -> None:
        phase = phase_text(status, waits, since=False)
        if phase != self._phase and not status.ended:
            self._phase = phase
            self.write(phase)
        latest: dict[str, Any] | None = None
        for event in events:
            if event["event"] == "progress":
                latest = {**(latest or {}), **event}
            elif text := event_text(event):
                self.write(text)
        if latest is not None and self._is_due(latest):
            self.write(progress_text(latest) or "")

    def _is_due(self, event: dict[str, Any]) -> bool:
        share = SHARES * event["step"] // event["total"] if event.get("total") else 0
        due = self._clock() - self._told_at >= QUIET_SECONDS or share > self._told_share
        if due:
            self._told_at, self._told_share = self._clock(), share
        return due

    def write(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        pass


class Silence:
    """Nothing at all, where JSON was asked for."""

    def update(self, status: RunStatus, waits: str | None, events: list[dict[str, Any]]) -> None:
        pass

    def write(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


View = LiveLine | PlainLines | Silence


def view_for(stream: TextIO, *, silent: bool = False) -> View:
    """The view that fits where the output goes."""
    if silent:
        return Silence()
    plain = not stream.isatty() or os.environ.get("TERM") in (None, "dumb")
    return PlainLines(stream) if plain else LiveLine(stream)


def bar(event: dict[str, Any]) -> str:
    """A bar of fixed width, filled as far as the work is done."""
    total = event.get("total")
    done = round(BAR_WIDTH * min(1.0, event["step"] / total)) if total else 0
    return f"[{'#' * done}{'.' * (BAR_WIDTH - done)}]"


def phase_text(status: RunStatus, waits: str | None, *, since: bool = True) -> str:
    """A state in words: what is being done, or waited for, and since when."""
    words = {"queued": "starting", "preparing": "preparing the data", "waiting": "waiting for a device"}
    text = f"waiting for {waits}" if waits else words.get(status.state, status.state)
    if status.state == "queued" and status.reason:
        text = f"queued: {status.reason}"
    if not since or status.phase_since is None or status.ended:
        return text
    seconds = int(max(0.0, time.time() - status.phase_since))
    return f"{text} ({duration(seconds) if seconds >= 60 else f'{seconds} s'})"


def event_text(event: dict[str, Any]) -> str | None:
    """An event that is worth a line of its own."""
    match event["event"]:
        case "metric":
            return f"{event['name']} {event['value']:.4g}" + (f" at step {event['step']}" if event.get("step") else "")
        case "checkpoint":
            return f"checkpoint at step {event['step']}"
        case "warning":
            return f"warning: {event['message']}"
        case "ready":
            return ready_text(event)
    return None


def ready_text(event: dict[str, Any]) -> str:
    """A server's address, the names it answers to, and a command that asks it something."""
    import shlex

    names = event.get("models") or []
    if not names:
        return f"ready: {event['url']}"
    asked = {"messages": [{"role": "user", "content": "Hello"}]} if event.get("chat", True) else {"prompt": "Hello"}
    path = "chat/completions" if event.get("chat", True) else "completions"
    key = ' --oauth2-bearer "$TUNEYARD_API_KEY"' if event.get("key") else ""
    data = shlex.quote(json.dumps({"model": names[-1], **asked}, ensure_ascii=False))
    curl = f"curl {event['url']}/{path} -H 'Content-Type: application/json'{key} -d {data}"
    return "\n".join([f"ready: {event['url']}", *(f"  model {name}" for name in names), f"  {curl}"])


class Signals:
    """Ctrl-C counted and a closed terminal noted, instead of dying of either, inside a `with` block."""

    def __init__(self) -> None:
        self.interrupts = 0
        self.hung_up = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number, handler in ((signal.SIGINT, self._on_interrupt), (signal.SIGHUP, self._on_hang_up)):
            self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_interrupt(self, number: int, frame: Any) -> None:
        self.interrupts += 1

    def _on_hang_up(self, number: int, frame: Any) -> None:
        self.hung_up = True


def watch(run: RunFolder, view: View, signals: Signals, interrupted: Callable[[], None]) -> RunStatus | None:
    """Show a run until it ends.

    Args:
        run: started.
        view: where it is shown.
        signals: inside its `with` block.
        interrupted: called for every Ctrl-C.

    Returns:
        how it ended, or None where the terminal was closed meanwhile: the run goes on.
    """
    events = Events(run)
    told = 0
    while not signals.hung_up:
        while told < signals.interrupts:
            told += 1
            interrupted()
        status = run.status()
        waits = waiting_for(run.attempt(status.attempt)) if status.state == "waiting" else None
        try:
            view.update(status, waits, events.new(status.attempt))
        except OSError:
            return None  # there is no terminal any more
        if status.ended:
            view.close()
            return status
        time.sleep(POLL_SECONDS)
    return None
