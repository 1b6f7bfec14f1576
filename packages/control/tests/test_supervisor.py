"""One attempt, from its claim to its end: what the worker is given, what is written, and how each ending reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.control import launch
from tuneyard.control.devices import threads_per_slot
from tuneyard.control.endings import RESERVE_BYTES
from tuneyard.control.leases import holder
from tuneyard.core.errors import SetupError
from tuneyard.core.run_folder import SUPERVISOR_BYTES, host

if TYPE_CHECKING:
    from conftest import Place


def test_a_run_that_succeeds_keeps_the_workers_result(place: Place) -> None:
    run = place.start("job.metric('loss', 0.5); print('said'); print('complained', file=sys.stderr)")
    result = place.finish(run)
    attempt = run.attempt(1)
    assert (result["status"], result["failure"]) == ("succeeded", None)
    assert result["metrics"]["loss"]["value"] == 0.5
    assert attempt.stdout.read_text() == "said\n"
    assert attempt.stderr.read_text() == "complained\n"
    assert attempt.supervisor_log.read_text() == ""
    assert not attempt.reserve.exists()


def test_the_record_tells_who_supervises_and_has_always_the_same_size(place: Place) -> None:
    run = place.start("note('started'); time.sleep(600)")
    place.noted(run, "started")
    record = run.attempt(1).read_supervisor()
    assert record
    assert run.attempt(1).supervisor.stat().st_size == SUPERVISOR_BYTES
    assert record["host"] == host()
    assert record["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert record["phase"] == "running"
    assert record["lease"] == {"devices": ["cpu-0"]}
    assert abs(record["heartbeat"] - time.time()) < 30
    command = Path(f"/proc/{record['pid']}/cmdline").read_bytes().split(b"\0")
    assert command[: len(record["argv"])] == [os.fsencode(word) for word in record["argv"]]
    assert holder("cpu-0") == run.id


def test_the_heartbeat_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = place.start("note('started'); time.sleep(600)")
    place.noted(run, "started")
    first = run.attempt(1).read_supervisor()
    assert first
    place.until(lambda: (run.attempt(1).read_supervisor() or first)["heartbeat"] > first["heartbeat"] + 5)


def test_the_worker_gets_its_run_its_devices_and_its_share_of_the_threads(place: Place) -> None:
    run = place.start("import json; note('seen', json.dumps(dict(os.environ)))")
    assert place.finish(run)["status"] == "succeeded"
    seen = json.loads(place.noted(run, "seen"))
    assert (seen["TUNEYARD_RUN_ID"], seen["TUNEYARD_ATTEMPT"]) == (run.id, "1")
    assert seen["TUNEYARD_WORKSPACE"] == str(place.workspace.path)
    assert seen["CUDA_VISIBLE_DEVICES"] == ""
    assert int(seen["OMP_NUM_THREADS"]) == threads_per_slot()
    assert "TUNEYARD_SUPERVISES" not in seen


def test_threads_that_the_user_chose_stay(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    run = place.start("note('threads', os.environ['OMP_NUM_THREADS'])")
    assert place.noted(run, "threads") == "7"


def test_the_worker_has_no_terminal_no_input_and_a_group_of_its_own(place: Place) -> None:
    run = place.start("note('ids', f'{os.getpgid(0)} {os.getpid()} {os.getsid(0)} {sys.stdin.read()!r}')")
    group, pid, session, text = place.noted(run, "ids").split()
    assert group == pid
    assert int(session) != os.getsid(0)
    assert text == "''"


def test_a_failure_that_the_worker_tells_is_kept_as_it_tells_it(place: Place) -> None:
    run = place.start("raise RequestError('no such column', where='rows.jsonl', way_out='name one')")
    failure = place.finish(run)["failure"]
    assert (failure["kind"], failure["message"], failure["where"]) == ("request", "no such column", "rows.jsonl")


def test_an_exit_code_without_a_result_is_told_with_the_last_lines_and_the_logs(place: Place) -> None:
    run = place.start("print('x' * 3, file=sys.stderr); sys.stderr.flush(); os._exit(7)")
    result = place.finish(run)
    failure = result["failure"]
    assert result["status"] == "failed"
    assert (failure["kind"], failure["exit_code"], failure["signal"]) == ("exit_code", 7, None)
    assert failure["log_tail"] == ["xxx"]
    assert failure["logs"] == ["attempts/1/stdout.log", "attempts/1/stderr.log"]


def test_an_exit_code_of_0_without_a_result_is_a_failure_too(place: Place) -> None:
    failure = place.finish(place.start("os._exit(0)"))["failure"]
    assert (failure["kind"], failure["exit_code"]) == ("exit_code", 0)
    assert "left no result" in failure["message"]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_signal_that_ends_the_worker_is_named(place: Place, name: str) -> None:
    failure = place.finish(place.start(f"os.kill(os.getpid(), signal.{name}); time.sleep(600)"))["failure"]
    assert (failure["kind"], failure["signal"]) == ("signal", name)


def test_a_known_cause_in_the_log_is_told(place: Place) -> None:
    do = "print('torch.OutOfMemoryError: CUDA out of memory.', file=sys.stderr); sys.stderr.flush(); os._exit(1)"
    failure = place.finish(place.start(do))["failure"]
    assert failure["cause"] == "the GPU's memory did not suffice"
    assert "gradient_checkpointing" in failure["way_out"]


def test_a_valid_result_stands_whatever_the_exit_code(place: Place) -> None:
    do = (
        "import atexit; atexit.register(os._exit, 1); job.metric('loss', 0.25)\n"
        "from tuneyard.core import worker; worker._write_result(job, 'succeeded', None, '2026-01-01T00:00:00Z', 1.0)\n"
        "os._exit(1)"
    )
    result = place.finish(place.start(do))
    assert (result["status"], result["metrics"]["loss"]["value"]) == ("succeeded", 0.25)


@pytest.mark.parametrize("text", ["{half", "[]", '{"status": "fine"}'])
def test_a_result_that_is_none_does_not_count_and_is_kept(place: Place, text: str) -> None:
    result = place.finish(run := place.start(f"job.attempt.result.write_text({text!r}); os._exit(0)"))
    assert result["failure"]["kind"] == "exit_code"
    assert (run.attempt(1).folder / "result.invalid.json").read_text() == text
    assert "does not count" in run.attempt(1).supervisor_log.read_text()


def test_a_worker_that_prints_100_mb_is_no_burden(place: Place) -> None:
    do = "line = b'x' * 99 + b'\\n'\nfor _ in range(100): os.write(1, line * 10_000)\nos._exit(3)"
    result = place.finish(run := place.start(do), 120)
    assert result["failure"]["exit_code"] == 3
    assert run.attempt(1).stdout.stat().st_size == 100_000_000
    assert run.attempt(1).result.stat().st_size < 10_000


def test_a_time_limit_ends_the_run_and_says_so(place: Place) -> None:
    run = place.start("job.stops_itself = True; job.stop_requested.wait(); raise Stopped", time_limit=1)
    result = place.finish(run)
    assert (result["status"], result["failure"]["kind"]) == ("failed", "time_limit")
    assert "time limit of 1 s" in result["failure"]["message"]
    assert "yard resume" in result["failure"]["way_out"]


def test_the_time_limit_counts_from_the_workers_start(place: Place) -> None:
    holding = place.start("note('started'); time.sleep(3)")
    place.noted(holding, "started")
    waiting = place.start("pass", time_limit=2)
    assert place.finish(waiting)["status"] == "succeeded"


def test_what_a_succeeded_worker_left_running_is_ended(place: Place) -> None:
    do = "note('stray', subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    run = place.start(do)
    assert place.finish(run)["status"] == "succeeded"
    assert not place.alive(int(place.noted(run, "stray")))


@pytest.mark.slow
def test_a_succeeded_worker_that_hangs_in_its_exit_is_ended_and_its_device_is_free_again(place: Place) -> None:
    run = place.start("import threading; threading.Thread(target=time.sleep, args=(600,)).start()")
    attempt = run.attempt(1)
    assert launch.wait(run, 30).state == "succeeded"
    assert holder("cpu-0") == run.id
    place.until(lambda: not attempt.supervisor_lives(), 60)
    place.until(lambda: holder("cpu-0") is None, 10)  # its guard goes a moment later
    assert run.status().state == "succeeded"
    assert "had not left 30 s after its result" in attempt.supervisor_log.read_text()


def test_a_process_that_hides_its_variables_and_its_parent_is_found_all_the_same(place: Place) -> None:
    do = """
pid = os.fork()
if pid == 0:
    os.setsid()
    child = subprocess.Popen(["sleep", "600"], env={}, start_new_session=True)
    note("stray", child.pid)
    os._exit(0)
os.waitpid(pid, 0)
os._exit(1)
"""
    run = place.start(do)
    assert place.finish(run)["status"] == "failed"
    assert not place.alive(int(place.noted(run, "stray")))


def test_a_run_that_a_worker_starts_is_a_run_of_its_own(place: Place) -> None:
    inner = place.make("note('go'); time.sleep(2); note('done')", gpus=0)
    do = (
        "sys.path[:0] = os.environ['CONTROL'].split(os.pathsep)\n"
        "from tuneyard.control import launch\nfrom tuneyard.control.workspace import Workspace\n"
        "from tuneyard.core.run_folder import RunFolder\n"
        f"launch.start(Workspace(Path({str(place.workspace.path)!r})), RunFolder(Path({str(inner.path)!r})))"
    )
    os.environ["CONTROL"] = os.pathsep.join(sys.path)
    try:
        outer = place.start(do)
    finally:
        del os.environ["CONTROL"]
    assert place.finish(outer)["status"] == "succeeded", place.finish(outer)
    assert place.finish(inner)["status"] == "succeeded"


def test_an_environment_that_is_gone_when_the_worker_is_to_start_is_a_wrong_set_up(place: Place) -> None:
    holding = place.start("note('started'); time.sleep(600)")
    place.noted(holding, "started")
    run = place.start()
    place.status(run, "waiting")
    interpreter = place.workspace.path / "prefix" / "bin" / "python"
    interpreter.rename(interpreter.with_name("gone"))
    holding.attempt(1).ask_cancel("test")
    failure = place.finish(run)["failure"]
    assert failure["kind"] == "setup"
    assert "cannot be started" in failure["message"]


def test_the_supervisor_can_be_started_by_hand_and_finds_its_workspace_itself(place: Place) -> None:
    run = place.make("note('done')")
    command = [sys.executable, "-m", "tuneyard.control.supervisor", str(run.path)]
    env = {name: value for name, value in os.environ.items() if name != "INIT_CWD"}  # where `pixiw run` was typed
    options = {"cwd": place.workspace.path, "env": env, "capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run(command, check=False, **options)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert run.status().state == "succeeded"
    again = subprocess.run([*command, "1"], cwd=place.workspace.path, capture_output=True, timeout=60, check=False)
    assert again.returncode == 0, "an attempt that another has is left alone"
    assert [attempt.number for attempt in run.attempts()] == [1]


# Data


def test_data_is_prepared_before_the_worker_starts(place: Place) -> None:
    prepare = "(run / 'seen').write_text(os.environ['TUNEYARD_RUN_ID']); print('prepared')"
    run = place.start("note('manifest', job.folder.data_manifest.exists())", kind="train", prepare=prepare)
    assert place.finish(run)["status"] == "succeeded"
    assert (place.noted(run, "manifest"), place.noted(run, "seen")) == ("True", run.id)
    assert run.attempt(1).stdout.read_text() == "prepared\n"


def test_data_that_is_there_is_not_prepared_again(place: Place) -> None:
    run = place.make("note('trained')", kind="train", prepare="sys.exit('prepared twice')")
    run.data.mkdir()
    run.data_manifest.write_text("{}")
    launch.start(place.workspace, run)
    assert place.finish(run)["status"] == "succeeded"


def test_an_evaluation_prepares_nothing(place: Place) -> None:
    run = place.start("pass", prepare="sys.exit('prepared')")
    assert place.finish(run)["status"] == "succeeded"


def test_broken_data_ends_the_run_with_what_the_preparation_said_and_no_worker(place: Place) -> None:
    error = {"kind": "request", "message": "line 3 is no JSON", "where": "d.jsonl:3", "way_out": "mend it"}
    prepare = f"print('reading'); print(json.dumps({{'error': {error!r}}})); sys.exit(2)"
    run = place.start("note('trained')", kind="train", prepare=prepare)
    result = place.finish(run)
    assert result["status"] == "failed"
    assert {k: result["failure"][k] for k in error} == error
    assert not (run.path / "trained").exists()


def test_a_preparation_that_dies_is_told_as_such(place: Place) -> None:
    run = place.start("note('trained')", kind="train", prepare="os.kill(os.getpid(), 9)")
    failure = place.finish(run)["failure"]
    assert (failure["kind"], failure["signal"]) == ("signal", "SIGKILL")
    assert "the preparation of the data" in failure["message"]


# Memory


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group of 400 MB without swap."""
    lines = Path("/proc/self/cgroup").read_text().splitlines() if os.path.exists("/proc/self/cgroup") else []
    group = next((line.split(":", 2)[2] for line in lines if ":memory:" in line), None)
    place, limit = Path(f"/sys/fs/cgroup/memory{group}/tuneyard-test-{os.getpid()}"), "memory.limit_in_bytes"
    if group is None:
        place, limit = Path(f"/sys/fs/cgroup/tuneyard-test-{os.getpid()}"), "memory.max"
    try:
        place.mkdir()
        (place / limit).write_text("400000000")
    except OSError:
        if place.exists():
            place.rmdir()
        pytest.skip("no control group with a memory limit can be made here")
    yield place
    place.rmdir()


def test_a_worker_that_the_kernel_ended_for_want_of_memory_is_told_as_such(place: Place, small_memory: Path) -> None:
    run = place.make("x = [bytearray(b'x' * 50_000_000) for _ in range(40)]; note('survived')")
    command = [sys.executable, "-m", "tuneyard.control.supervisor", str(run.path)]
    enter = 'echo $$ > "$0" && exec "$@"'
    shell = ["sh", "-c", enter, str(small_memory / "cgroup.procs"), *command]
    subprocess.run(shell, cwd=place.workspace.path, check=True, timeout=60)
    failure = place.finish(run)["failure"]
    assert (failure["kind"], failure["signal"]) == ("out_of_memory", "SIGKILL")
    assert "memory ran out" in failure["message"]
    assert "smaller batch" in failure["way_out"]


# A full disk


@pytest.fixture
def tiny_disk(place: Place) -> Path:
    """The runs folder on a file system of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    runs = place.workspace.runs
    runs.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(runs)], check=False)
    if mounted.returncode:
        pytest.skip("this system lets nobody mount a tmpfs")
    return runs


@pytest.fixture
def filled_up(tiny_disk: Path, place: Place) -> Iterator[Path]:
    yield tiny_disk
    place.clean_up()
    subprocess.run(["umount", "-l", str(tiny_disk)], check=True)


FILL = """
def fill(path):
    "Write until nothing more fits, without any buffer that would be written at the end."
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(file, b"x" * 4096): pass
    finally:
        os.close(file)
"""


def test_a_disk_that_the_worker_fills_still_takes_the_ending(place: Place, filled_up: Path) -> None:
    run = place.start(FILL + "fill(job.folder.artifacts / 'big')")
    result = place.finish(run)
    assert result["status"] == "failed"
    assert result["failure"]["cause"] == "a disk is full"
    assert "df -h" in result["failure"]["way_out"]
    assert run.status().state == "failed"
    assert os.statvfs(filled_up).f_bavail * 4096 < RESERVE_BYTES


def test_a_cancel_on_a_full_disk_reads_cancelled(place: Place, filled_up: Path) -> None:
    do = """
note("cancel me")
try:
    fill(job.folder.artifacts / "big")
except OSError:
    (job.folder.path / "cancel me").rename(job.folder.path / "full")
time.sleep(600)
"""
    run = place.start(FILL + do)
    place.until((run.path / "full").exists)
    os.kill(place.supervisor(run), signal.SIGTERM)
    result = place.finish(run)
    assert (result["status"], result["failure"]["kind"]) == ("cancelled", "cancelled")


def test_a_disk_that_is_full_at_the_start_is_told_to_who_starts(place: Place, filled_up: Path) -> None:
    run = place.make("note('trained')")
    steps: dict[str, Any] = {"os": os}
    exec(FILL, steps)
    with pytest.raises(OSError, match="No space"):
        steps["fill"](filled_up / "big")
    with pytest.raises(SetupError, match="no space left on the device"):
        launch.start(place.workspace, run)
    assert not (run.path / "trained").exists()
