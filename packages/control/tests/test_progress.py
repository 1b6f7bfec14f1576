"""A run is shown while it goes: a live line on a terminal, few lines elsewhere, nothing beside JSON."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.control.progress import (
    BAR_WIDTH,
    QUIET_SECONDS,
    Events,
    LiveLine,
    PlainLines,
    Silence,
    bar,
    phase_text,
    view_for,
)
from tuneyard.control.summary import duration, progress_text
from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder, RunStatus, create_run

RUNNING = RunStatus("running", 1)


def step(number: int, total: int | None = 100, **more: Any) -> dict[str, Any]:
    return {"event": "progress", "step": number, "total": total, **more}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(clock: Clock, *updates: tuple[float, RunStatus, str | None, list[dict[str, Any]]]) -> list[str]:
    stream = io.StringIO()
    view = PlainLines(stream, clock)
    for when, status, waits, events in updates:
        clock.now = when
        view.update(status, waits, events)
    return stream.getvalue().splitlines()


def test_a_log_gets_the_phases_and_what_is_waited_for() -> None:
    waiting = RunStatus("waiting", 1)
    assert lines(
        Clock(),
        (0, RunStatus("queued", 0), None, []),
        (0, RunStatus("preparing", 1), None, []),
        (0, waiting, None, []),
        (1, waiting, "GPU 0, held by train-a", []),
        (2, waiting, "GPU 0, held by train-a", []),
        (3, RUNNING, None, []),
        (4, RunStatus("succeeded", 1), None, []),
    ) == ["starting", "preparing the data", "waiting for a device", "waiting for GPU 0, held by train-a", "running"]


def test_a_log_gets_progress_every_tenth_of_the_work() -> None:
    updates = [(n / 100, RUNNING, None, [step(n)]) for n in range(101)]
    found = lines(Clock(), *updates)
    assert found == ["running", "0/100", *(f"{n}/100" for n in range(10, 101, 10))]


def test_a_log_gets_progress_every_ten_seconds_of_long_work() -> None:
    updates = [(float(n), RUNNING, None, [step(n, total=None)]) for n in range(41)]
    assert lines(Clock(), *updates)[1:] == ["0", "10", "20", "30", "40"]
    assert QUIET_SECONDS == 10


def test_events_of_importance_have_a_line_of_their_own() -> None:
    events = [
        {"event": "metric", "name": "eval_loss", "value": 0.123456, "step": 5},
        {"event": "checkpoint", "step": 5, "path": "x"},
        {"event": "warning", "message": "tokens differ"},
        {"event": "ready", "url": "http://localhost:1"},
        {"event": "started", "pid": 1},
        {"event": "sample", "prompt": "p", "response": "r"},
    ]
    assert lines(Clock(), (0, RUNNING, None, events))[1:] == [
        "eval_loss 0.1235 at step 5",
        "checkpoint at step 5",
        "warning: tokens differ",
        "ready: http://localhost:1",
    ]


def screen(stream: io.StringIO) -> str:
    """What the live line shows in the end."""
    return stream.getvalue().rpartition("\x1b[K")[2]


def test_a_terminal_shows_a_bar_with_loss_rate_and_time_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    stream = io.StringIO()
    view = LiveLine(stream)
    view.update(RUNNING, None, [step(25, phase="training", loss=0.5, learning_rate=1e-4, eta=61.0)])
    assert screen(stream) == (
        "[######..................] training, 25/100, loss 0.5, learning rate 1.00e-04, 1 min 1 s to go"
    )
    view.update(RUNNING, None, [step(50)])  # a step without a loss keeps the last one
    assert "50/100, loss 0.5" in screen(stream)
    view.update(RUNNING, None, [{"event": "checkpoint", "step": 50}])
    assert "checkpoint at step 50\n" in stream.getvalue()
    assert "50/100" in screen(stream)
    view.close()
    assert screen(stream) == ""


def test_a_narrow_terminal_is_never_overflown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = io.StringIO()
    LiveLine(stream).update(RUNNING, None, [step(25, phase="training", loss=0.5)])
    assert len(screen(stream)) == 29


def test_an_unchanged_line_is_not_written_again() -> None:
    stream = io.StringIO()
    view = LiveLine(stream)
    for _ in range(3):
        view.update(RUNNING, None, [])
    assert stream.getvalue().count("\r") == 1


def test_a_phase_says_since_when() -> None:
    status = RunStatus("waiting", 1, phase_since=time.time() - 75.5)
    assert phase_text(status, "GPU 0, held by train-a") == "waiting for GPU 0, held by train-a (1 min 15 s)"
    assert phase_text(RunStatus("preparing", 1, phase_since=time.time()), None) == "preparing the data (0 s)"


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_bar_has_its_width_whatever_the_numbers(done: int, total: int) -> None:
    assert len(bar(step(done, total))) == BAR_WIDTH + 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (8.26, "8.3 s"), (60, "1 min"), (252.4, "4 min 12 s"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e9))
def test_a_duration_has_at_most_two_units(seconds: float) -> None:
    assert re.fullmatch(r"\d+(\.\d)? (s|min|h|d)( \d+ (s|min|h))?", duration(seconds))


def test_an_evaluation_has_no_loss() -> None:
    assert progress_text(step(3, 9, phase="generating")) == "generating, 3/9"
    assert progress_text(None) is None


def test_the_view_fits_where_the_output_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(view_for(io.StringIO()), PlainLines)
    assert isinstance(view_for(io.StringIO(), silent=True), Silence)
    _, terminal = pty.openpty()
    with open(terminal, "w") as stream:
        assert isinstance(view_for(stream), LiveLine)
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(view_for(stream), PlainLines)


def test_events_are_seen_once_and_a_new_attempt_starts_over(tmp_path: Path) -> None:
    run = create_run(tmp_path, "train", "x")
    first = run.new_attempt()
    events = Events(run)
    assert events.new(1) == []
    first.events.write_text('{"event": "a"}\n{"event": "b"}\n{"event": "c"')
    assert [e["event"] for e in events.new(1)] == ["a", "b"]
    assert events.new(1) == []
    with open(first.events, "a") as file:
        file.write("}\n")
    assert [e["event"] for e in events.new(1)] == ["c"]
    second = run.new_attempt().events
    second.write_text('{"event": "d"}\n{"event": "cut\n')
    assert [e["event"] for e in events.new(2)] == ["d"]
    with open(second, "a") as file:
        file.write('{"event": "e"}\n')
    assert [e["event"] for e in events.new(2)] == ["e"]


def spec_file(desk: Workspace, kind: str = "train", **engine: Any) -> Path:
    fields = {"dataset": {"source": "builtin:arithmetic", "size": 5}} if kind == "train" else {"tasks": "arithmetic"}
    path = desk.path / f"{kind}.yaml"
    content = {"kind": kind, "model": "builtin:tiny", "cancel_grace": 30, **fields, "engine": engine}
    path.write_text(yaml.safe_dump(content))
    return path


YARD = [sys.executable, "-c", "from tuneyard.control.cli import main; main()"]


def on_a_terminal(words: list[str | Path], until: str = "") -> tuple[int, str]:
    """Run a command on a terminal of its own; its exit code and all that the terminal got."""
    master, slave = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    process = subprocess.Popen(
        [*YARD, *words], stdin=slave, stdout=slave, stderr=slave, env=variables, start_new_session=True
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # the last holder of the other end is gone
            break
        seen += data
        if until and until in seen.decode("utf-8", "replace"):
            break  # and the terminal closes
    os.close(master)
    return process.wait(60), seen.decode("utf-8", "replace")


def only_run(desk: Workspace) -> RunFolder:
    [name] = os.listdir(desk.runs)
    return RunFolder(desk.runs / name)


def test_a_person_sees_a_bar_and_then_a_table_and_the_next_command(desk: Workspace) -> None:
    code, seen = on_a_terminal(["run", spec_file(desk, max_steps=20, pause=0.05, finetuning_type="full")])
    run = only_run(desk)
    assert code == 0, seen
    assert re.search(r"\[#+\.+\] working, \d+/20, loss [\d.]+, learning rate 1\.00e-04, 1\.0 s to go", seen)
    end = seen.rpartition("\x1b[K")[2]
    for word in (f"{run.id}: succeeded after", "train_loss", "1.25", str(run.model), f"arithmetic model=run:{run.id}"):
        assert word in end.replace("\r\n", "\n")


def test_elsewhere_there_are_a_few_lines(desk: Workspace) -> None:
    done = subprocess.run([*YARD, "run", spec_file(desk, max_steps=50)], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) < 18
    assert "succeeded" in done.stdout


def test_with_json_there_is_one_object_on_stdout(desk: Workspace) -> None:
    command = [*YARD, "run", spec_file(desk, kind="eval"), "limit=4", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    [line] = done.stdout.splitlines()
    told = json.loads(line)
    assert told["state"] == "succeeded"
    assert told["result"]["metrics"]["quiz/exact_match"]["n"] == 4
    assert done.stderr == ""


@pytest.mark.parametrize("stubborn", [False, True])
def test_ctrl_c_asks_for_the_end_and_a_second_one_kills(desk: Workspace, stubborn: bool) -> None:
    waits_for = ["working, ", "Ctrl-C again kills it"] if stubborn else ["working, "]

    def press(seen: str, master: int) -> None:
        if waits_for and waits_for[0] in seen:
            del waits_for[0]
            os.write(master, b"\x03")

    start = time.monotonic()
    path = spec_file(desk, max_steps=10**6, pause=0.05, stubborn=stubborn)
    code, seen = on_a_terminal_with_ctrl_c(["run", path], press)
    run = only_run(desk)
    assert code == 130, seen
    assert run.status().state == "cancelled"
    assert f"yard resume {run.id}" in seen
    assert ("it is being killed" in seen) == stubborn
    assert time.monotonic() - start < 25  # cancel_grace is 30 s


def on_a_terminal_with_ctrl_c(words: list[str | Path], press: Any) -> tuple[int, str]:
    """As `on_a_terminal`, with the terminal as the one that controls the command, so that ^C is a signal."""
    script = "import os, sys; os.setsid(); import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    script += "os.execv(sys.argv[1], sys.argv[1:])"
    master, slave = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    command = [sys.executable, "-c", script, *YARD, *map(str, words)]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=variables)
    os.close(slave)
    seen = b""
    while True:
        try:
            seen += os.read(master, 65536)
        except OSError:
            break
        press(seen.decode("utf-8", "replace"), master)
    os.close(master)
    return process.wait(60), seen.decode("utf-8", "replace")


def test_a_closed_terminal_changes_nothing(desk: Workspace) -> None:
    path = spec_file(desk, max_steps=40, pause=0.1)
    code, _ = on_a_terminal(["run", path], until="working, ")
    assert code == 0
    run = only_run(desk)
    assert not run.status().ended
    deadline = time.monotonic() + 60
    while not run.status().ended and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.status().state == "succeeded"


def test_a_hang_up_while_the_run_is_being_made_does_not_lose_it(desk: Workspace) -> None:
    process = subprocess.Popen(
        [*YARD, "run", spec_file(desk, max_steps=3)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (desk.runs.is_dir() and os.listdir(desk.runs)) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(30) == 0
    run = only_run(desk)
    while not run.status().ended and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.status().state == "succeeded"
