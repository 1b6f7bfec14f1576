"""Kills the process that it is in at a named moment; a copy is put into a workspace's path as `sitecustomize.py`.

The moment comes from KILL_AT, as `program:moment`. Moments are seen by Python's own audit events, so that the code
under test has none of this in it.
"""

import os
import signal
import sys
from collections.abc import Callable


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Moment:
    """An audit event, which Python raises before it does what the event names."""

    def __init__(self, event: str, wanted: Callable[[str], bool], *, later: int = 0) -> None:
        """
        Args:
            event: name of the event.
            wanted: whether one of its arguments, as text, is the one that is meant.
            later: at which of the following events, of any kind, to die; 0 for this one, before it is done.
        """
        self.event, self.wanted, self.left = event, wanted, later
        self.seen = self.busy = False

    def look(self, name: str, arguments: tuple[object, ...]) -> None:
        if self.busy:
            return
        self.busy = True  # what this does itself raises events too
        if self.seen or (name == self.event and any(self.wanted(str(argument)) for argument in arguments)):
            self.left -= 0 if not self.seen else 1
            self.seen = True
            if self.left <= 0:
                self.act()
        self.busy = False

    def act(self) -> None:
        die()


class HalfAnEvent(Moment):
    """The second line of events.jsonl is begun and never ended."""

    def __init__(self) -> None:
        super().__init__("open", lambda path: path.endswith("events.jsonl"))
        self.lines = 0

    def look(self, name: str, arguments: tuple[object, ...]) -> None:
        if self.busy or name != self.event or not self.wanted(str(arguments[0])):
            return
        self.lines += 1
        if self.lines == 2:
            self.busy = True
            descriptor = os.open(str(arguments[0]), os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, b'{"event": "progr')
            die()


def is_attempt(path: str) -> bool:
    return path.rpartition("/")[2].isdigit() and "attempts" in path


MOMENTS = {
    "after mkdir": Moment("os.mkdir", is_attempt, later=1),
    "before the lease": Moment("open", lambda path: "/devices/" in path),
    "after the lease": Moment("subprocess.Popen", lambda words: "'tuneyard.train', 'run'" in words),
    "mid-event": HalfAnEvent(),
    "before the result": Moment("os.rename", lambda path: path.endswith("/result.json")),
    "after the result": Moment("os.rename", lambda path: path.endswith("/result.json"), later=1),
}

program, _, moment = os.environ.get("KILL_AT", "").partition(":")
if program in sys.orig_argv:
    sys.addaudithook(MOMENTS[moment].look)
