"""Leases: no device twice, first come first served, and nothing left behind by the dead."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from tuneyard.control import leases
from tuneyard.control.leases import Lease, Request, holder, lease, leases_folder
from tuneyard.core.errors import SetupError

POOL = ["GPU-a", "GPU-b", "GPU-c"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEYARD_LEASES", str(tmp_path / "leases"))
    return leases_folder()


def give_up(reason: str, seconds: float) -> None:
    """Waits for nothing: tells for what it would have to."""
    raise InterruptedError(reason)


def taken(request: Request) -> Lease:
    held = request.take()
    assert held is not None
    return held


def test_free_devices_are_taken_at_once_and_name_their_run(folder: Path) -> None:
    held = taken(Request(POOL, 2, "train-a"))
    assert held.devices == held.gpus == ("GPU-a", "GPU-b")
    assert [holder(device) for device in POOL] == ["train-a", "train-a", None]
    held.release()
    assert holder("GPU-a") is None


def test_who_waits_is_told_for_what(folder: Path) -> None:
    first = taken(Request(POOL[:1], 1, "train-a"))
    second, third = Request(POOL[:1], 1, "train-b"), Request(POOL[:1], 1, "train-c")
    assert second.take() is None
    assert second.obstacle() == "GPU-a, held by train-a"
    assert third.take() is None
    assert third.obstacle() == "a GPU, behind train-b"
    first.release()
    assert third.take() is None
    assert taken(second).devices == ("GPU-a",)


def test_a_run_that_wants_all_is_not_starved_by_runs_that_want_one(folder: Path) -> None:
    small = taken(Request(POOL, 1, "small-1"))
    large = Request(POOL, 3, "large")
    assert large.take() is None
    later = Request(POOL, 1, "small-2")
    assert later.take() is None, "it would have taken a free device from under the run before it"
    small.release()
    assert taken(large).devices == tuple(POOL)
    assert later.take() is None


def test_runs_that_may_not_use_the_same_devices_do_not_wait_for_each_other(folder: Path) -> None:
    held = taken(Request(["GPU-a"], 1, "a"))
    assert Request(["GPU-a"], 1, "b").take() is None
    assert taken(Request(["GPU-b"], 1, "c")).devices == ("GPU-b",)
    held.release()


def test_the_ticket_of_a_dead_waiter_vanishes(folder: Path) -> None:
    code = (
        "import sys, time; from tuneyard.control.leases import Request;"
        "r = Request(['GPU-a'], 1, 'dead'); print('waits', flush=True); time.sleep(600)"
    )
    waiter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert waiter.stdout and waiter.stdout.readline() == "waits\n"
    mine = Request(["GPU-a"], 1, "mine")
    assert mine.take() is None
    assert mine.obstacle() == "a GPU, behind dead"
    waiter.send_signal(signal.SIGKILL)
    waiter.communicate()
    taken(mine).release()
    assert os.listdir(folder / "queue") == []


def test_a_device_stays_taken_as_long_as_any_process_has_its_descriptor(folder: Path) -> None:
    held = taken(Request(POOL[:1], 1, "train-a"))
    heir = subprocess.Popen(["sleep", "600"], pass_fds=held.descriptors)
    held.release()
    assert holder("GPU-a") == "train-a"
    assert Request(POOL[:1], 1, "train-b").take() is None
    heir.kill()
    heir.wait()
    assert holder("GPU-a") is None


def test_a_lock_file_that_was_tidied_away_makes_no_second_holder_of_a_free_device(folder: Path) -> None:
    taken(Request(POOL[:1], 1, "a")).release()
    for file in (folder / "devices").iterdir():
        file.unlink()
    held = taken(Request(POOL[:1], 1, "b"))
    assert Request(POOL[:1], 1, "c").take() is None
    held.release()


def test_a_held_lock_file_is_kept_young(folder: Path) -> None:
    held = taken(Request(POOL[:1], 1, "a"))
    (file,) = (folder / "devices").iterdir()
    os.utime(file, (0, 0))
    held.refresh()
    assert time.time() - file.stat().st_mtime < 60
    held.release()


def test_a_ticket_that_was_tidied_away_is_drawn_again(folder: Path) -> None:
    held = taken(Request(POOL[:1], 1, "a"))
    waits = Request(POOL[:1], 1, "b")
    for file in (folder / "queue").iterdir():
        file.unlink()
    assert waits.take() is None
    later = Request(POOL[:1], 1, "c")
    held.release()
    assert later.take() is None
    taken(waits).release()


def test_giving_up_leaves_the_queue(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_CPU_SLOTS", "1")
    held = lease(0, "first")
    assert (held.devices, held.gpus) == (("cpu-0",), ())
    with pytest.raises(InterruptedError, match="CPU slot 0, held by first"):
        lease(0, "second", give_up)
    assert os.listdir(folder / "queue") == []
    held.release()


def test_as_many_runs_work_on_the_cpu_as_a_person_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_CPU_SLOTS", "3")
    held = [lease(0, f"run-{number}", give_up) for number in range(3)]
    assert [each.devices for each in held] == [("cpu-0",), ("cpu-1",), ("cpu-2",)]
    with pytest.raises(InterruptedError, match="CPU slot 2, held by run-2"):
        lease(0, "run-3", give_up)
    held[1].release()
    assert lease(0, "run-3", give_up).devices == ("cpu-1",)


def test_only_who_is_next_looks_often(folder: Path) -> None:
    held = taken(Request(POOL[:1], 1, "a"))
    second, third = Request(POOL[:1], 1, "b"), Request(POOL[:1], 1, "c")
    assert second.take() is third.take() is None
    assert (second.is_next, third.is_next) == (True, False)
    held.release()
    taken(second).release()
    taken(third).release()


def test_who_was_told_of_fewer_slots_keeps_to_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_CPU_SLOTS", "2")
    first, second = lease(0, "first", give_up), lease(0, "second", give_up)
    monkeypatch.setenv("TUNEYARD_CPU_SLOTS", "1")
    second.release()
    with pytest.raises(InterruptedError, match="CPU slot 0, held by first"):
        lease(0, "careful", give_up)
    first.release()
    assert lease(0, "careful", give_up).devices == ("cpu-0",)


def test_more_devices_than_there_are_are_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "gpus", lambda: POOL)
    with pytest.raises(SetupError, match="wants 4 GPUs and 3 may be used"):
        lease(4, "greedy")


def test_every_user_of_the_host_may_lock_the_files_but_only_their_owner_may_remove_them(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        shutil.rmtree(folder.parent)
        made = leases_folder()
        held = taken(Request(POOL[:1], 1, "a"))
    finally:
        os.umask(before)
    for path in (made.parent, made, made / "devices", made / "queue"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o1777
    (file,) = (made / "devices").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o666
    held.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_two_users_exclude_each_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(tempfile.mkdtemp(prefix="tuneyard-test-"))  # pytest's own folder is closed to others
    place.chmod(0o755)
    shared = place / "leases"
    monkeypatch.setenv("TUNEYARD_LEASES", str(shared))
    mine = taken(Request(POOL[:1], 1, "roots"))
    code = (
        f"import os, sys; sys.path[:0] = {sys.path!r}\n"
        "from tuneyard.control.leases import Request, leases_folder\n"
        "leases_folder(); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "r = Request(['GPU-a'], 1, 'nobodys'); print(r.take(), '|', r.obstacle(), flush=True)\n"
        "sys.stdin.readline(); print(r.take().devices, flush=True); sys.stdin.readline()\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdin and other.stdout
        assert other.stdout.readline() == "None | GPU-a, held by roots\n"
        again = Request(POOL[:1], 1, "roots second")
        mine.release()
        assert again.take() is None
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "('GPU-a',)\n"
        assert again.take() is None
        assert again.obstacle() == "GPU-a, held by nobodys"
        other.kill()
        other.wait()
        taken(again).release()
    finally:
        other.kill()
        other.communicate()
        shutil.rmtree(place)


def test_a_link_in_the_shared_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder / "devices" / "GPU-a.lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        Request(POOL[:1], 1, "a").take()
    assert victim.read_text() == "precious"


def test_a_folder_that_is_none_is_a_wrong_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUNEYARD_LEASES", str(tmp_path / "file"))
    with pytest.raises(SetupError, match="is not a folder"):
        leases_folder()
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("TUNEYARD_LEASES", str(tmp_path / "link"))
    with pytest.raises(SetupError, match="is not a folder"):
        leases_folder()


def test_many_processes_never_share_a_device(folder: Path, tmp_path: Path) -> None:
    """Twelve processes, each taking one or two of three devices a few times; each proves that it is alone on them."""
    code = f"""
import os, sys, time
from pathlib import Path
from tuneyard.control.leases import Request
for turn in range(5):
    request = Request({POOL!r}, 1 + (os.getpid() + turn) % 2, f"run-{{os.getpid()}}")
    while (held := request.take()) is None:
        time.sleep(0.003)
    for device in held.devices:
        os.close(os.open(Path({str(tmp_path)!r}) / device, os.O_CREAT | os.O_EXCL))
    time.sleep(0.002)
    for device in held.devices:
        os.unlink(Path({str(tmp_path)!r}) / device)
    held.release()
"""
    crowd = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(12)]
    said = [process.communicate(timeout=120)[1].decode() for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 12, "\n".join(said)
    assert os.listdir(folder / "queue") == []


class Queue(RuleBasedStateMachine):
    """Any order of asking, trying, releasing, dying and tidying, against a model that is a list and a dict."""

    waiting = Bundle("waiting")
    holding = Bundle("holding")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        for name in ("devices", "queue"):
            (self.folder / name).mkdir()
        self.line: list[Request] = []
        self.held: list[Lease] = []
        self.number = 0

    @rule(target=waiting, pool=st.sets(st.sampled_from(POOL), min_size=1), data=st.data())
    def ask(self, pool: set[str], data: st.DataObject) -> Request:
        self.number += 1
        count = data.draw(st.integers(1, len(pool)))
        request = Request(sorted(pool), count, f"run-{self.number}", self.folder)
        self.line.append(request)
        return request

    @rule(target=holding, request=waiting)
    def ask_again(self, request: Request) -> Any:
        if request not in self.line:
            return multiple()
        busy = {device for held in self.held for device in held.devices}
        before = self.line[: self.line.index(request)]
        behind = any(set(request.pool) & set(other.pool) for other in before)
        enough = len(set(request.pool) - busy) >= request.count
        got = request.take()
        assert (got is not None) == (enough and not behind)
        if got is None:
            assert ("behind run-" in request.obstacle()) == behind
            return multiple()
        assert len(got.devices) == request.count
        assert set(got.devices) <= set(request.pool) - busy
        self.line.remove(request)
        self.held.append(got)
        return got

    @rule(request=waiting)
    def give_up(self, request: Request) -> None:
        if request in self.line:
            self.line.remove(request)
            request.withdraw()

    @rule(lease=consumes(holding))
    def release(self, lease: Lease) -> None:
        self.held.remove(lease)
        lease.release()

    @rule(request=waiting)
    def die_waiting(self, request: Request) -> None:
        if request in self.line:
            self.line.remove(request)
            os.close(request._ticket)  # what the system does for a dead process
            request._ticket = -1

    @invariant()
    def no_device_is_held_twice(self) -> None:
        devices = [device for held in self.held for device in held.devices]
        assert len(devices) == len(set(devices))
        assert {d for d in POOL if holder(d, self.folder)} == set(devices)

    def teardown(self) -> None:
        for held in self.held:
            held.release()
        for request in self.line:  # first come, first served: in this order nobody has to wait
            got = request.take()
            assert got is not None, "starved"
            got.release()
        taken(Request(POOL, 3, "last", self.folder)).release()
        assert os.listdir(self.folder / "queue") == []
        shutil.rmtree(self.folder)


Queue.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestQueue = Queue.TestCase
