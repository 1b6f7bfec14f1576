"""The supervisor is killed: what it supervised ends, the run is lost, its device is free, and it can be resumed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tuneyard.control import launch
from tuneyard.control.leases import holder
from tuneyard.core.errors import RequestError
from tuneyard.core.processes import processes_of
from tuneyard.core.run_folder import SILENT_END, RunFolder

if TYPE_CHECKING:
    from conftest import Place

FAMILY = """
if job.attempt.number == 1:
    deep = "import os, time; os.fork(); time.sleep(100)"
    kinds = ({}, {"start_new_session": True}, {"env": {}}, {"start_new_session": True, "env": {}})
    pids = [subprocess.Popen([sys.executable, "-c", deep, job.folder.id], **kind).pid for kind in kinds]
    note("pids", " ".join(map(str, [os.getpid(), *pids])))
    time.sleep(600)
"""
"""A worker with children of every kind; its second attempt succeeds at once."""


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def lost(place: Place, run: RunFolder, pids: list[int]) -> None:
    """All of the run's processes end, it is lost, and its device is free for the next."""
    place.until(lambda: not any(place.alive(pid) for pid in pids) and not processes_of(run.id))
    assert place.status(run, "lost").reason == SILENT_END
    place.until(lambda: holder("cpu-0") is None)


def test_the_workers_whole_tree_ends_and_the_run_can_be_resumed(place: Place) -> None:
    run = place.start(FAMILY)
    pids = [int(pid) for pid in place.noted(run, "pids").split()]
    kill(place.supervisor(run))
    lost(place, run, pids)
    launch.resume(place.workspace, run)
    assert place.finish(run)["status"] == "succeeded"
    assert [attempt.state().state for attempt in run.attempts()] == ["lost", "succeeded"]


def test_a_worker_that_hangs_ends_all_the_same(place: Place) -> None:
    """A stopped process does nothing by itself, like one that waits for a driver with the interpreter locked."""
    run = place.start(FAMILY)
    pids = [int(pid) for pid in place.noted(run, "pids").split()]
    os.kill(pids[0], signal.SIGSTOP)
    kill(place.supervisor(run))
    lost(place, run, pids)


def test_without_the_guard_too_the_worker_ends_its_tree(place: Place) -> None:
    do = (
        "note('pids', f'{os.getpid()} ' + str(subprocess.Popen(['sleep', '600'], start_new_session=True).pid))\n"
        "time.sleep(600)"
    )
    run = place.start(do)
    pids = [int(pid) for pid in place.noted(run, "pids").split()]
    guard = place.guard(run)
    kill(guard)
    place.until(lambda: not place.alive(guard))
    kill(place.supervisor(run))
    lost(place, run, pids)


def test_a_killed_guard_does_not_end_the_run(place: Place) -> None:
    run = place.start("note('started'); time.sleep(1)")
    place.noted(run, "started")
    kill(place.guard(run))
    assert place.finish(run)["status"] == "succeeded"


def test_data_preparation_ends_with_its_supervisor(place: Place) -> None:
    prepare = (
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True, env={})\n"
        "(run / 'part').write_text(f'{os.getpid()} {child.pid}'); os.rename(run / 'part', run / 'pids')\n"
        "time.sleep(600)"
    )
    run = place.start("note('trained')", kind="train", prepare=prepare)
    pids = [int(pid) for pid in place.noted(run, "pids").split()]
    kill(place.supervisor(run))
    lost(place, run, pids)


def test_a_waiting_supervisor_that_is_killed_leaves_the_queue(place: Place) -> None:
    holding, dead, last = place.start(f"note('started')\n{place.until_let_go}"), place.make(), place.make()
    place.noted(holding, "started")
    launch.start(place.workspace, dead)
    place.status(dead, "waiting")
    launch.start(place.workspace, last)
    place.status(last, "waiting")
    kill(place.supervisor(dead))
    place.let_go(holding)
    assert place.finish(last)["status"] == "succeeded"
    place.status(dead, "lost")


def test_a_lost_run_is_not_cancelled_but_removed(place: Place) -> None:
    run = place.start(FAMILY)
    pids = [int(pid) for pid in place.noted(run, "pids").split()]
    kill(place.supervisor(run))
    lost(place, run, pids)
    with pytest.raises(RequestError, match="has already ended: lost"):
        launch.cancel(place.workspace, run, "Ada")
    launch.remove(place.workspace, run)
    assert not run.path.exists()


def test_resuming_first_ends_what_still_carries_the_runs_id(place: Place) -> None:
    """Supervisor, guard and worker are killed at one stroke; a grandchild is left that nobody watches over."""
    do = (
        "if job.attempt.number == 2: sys.exit(0 if note('second') else 0)\n"
        "note('pids', f'{os.getpid()} ' + str(subprocess.Popen(['sleep', '600'], start_new_session=True).pid))\n"
        "time.sleep(600)"
    )
    run = place.start(do)
    worker, stray = (int(pid) for pid in place.noted(run, "pids").split())
    group = [place.guard(run), place.supervisor(run), worker]
    for pid in group:
        os.kill(pid, signal.SIGSTOP)
    for pid in reversed(group):
        kill(pid)
    place.until(lambda: run.status().state == "lost")
    assert place.alive(stray)
    launch.resume(place.workspace, run)
    assert not place.alive(stray)
    place.finish(run)
    assert (run.path / "second").exists()


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment_nothing_is_left_and_the_run_can_go_on(place: Place, seed: int) -> None:
    run = place.make(FAMILY, kind="train", prepare="time.sleep(0.2)")
    launch.start(place.workspace, run)
    time.sleep(random.Random(seed).uniform(0, 1.2))
    kill(place.supervisor(run))
    place.until(lambda: not processes_of(run.id) and not _family_of(run))
    place.status(run, "lost")
    place.until(lambda: holder("cpu-0") is None)
    launch.resume(place.workspace, run)
    assert place.finish(run)["status"] == "succeeded"


def _family_of(run: RunFolder) -> list[int]:
    """Processes that the worker started, with or without the run's id in their variables: it is in their command."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and run.id.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found
