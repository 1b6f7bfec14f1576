"""Starting, cancelling, resuming, removing and waiting, as other code asks for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tuneyard.control import launch
from tuneyard.control.devices import cores
from tuneyard.control.leases import holder
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import read_json_lines, sha256_of_file
from tuneyard.core.run_folder import RunFolder, create_run

if TYPE_CHECKING:
    from conftest import Place

SLEEP = "note('started', os.getpid()); time.sleep(600)"


def test_a_started_run_is_at_once_more_than_queued(place: Place) -> None:
    run = place.start(SLEEP)
    assert run.status().state in ("preparing", "waiting", "running")


def test_a_run_is_started_once(place: Place) -> None:
    run = place.start()
    with pytest.raises(RequestError, match="was started before"):
        launch.start(place.workspace, run)


def test_without_its_environment_nothing_is_started(place: Place) -> None:
    (place.workspace.path / "prefix" / "bin" / "python").unlink()
    run = place.make()
    with pytest.raises(SetupError, match=r"environments\.eval\.interpreter"):
        launch.start(place.workspace, run)
    assert run.attempts() == []


def test_the_run_outlives_who_started_it_and_leaves_him_no_child(place: Place) -> None:
    run = place.make("time.sleep(1)")
    code = (
        "import os, sys; from pathlib import Path; from tuneyard.control import launch\n"
        "from tuneyard.control.workspace import Workspace; from tuneyard.core.run_folder import RunFolder\n"
        "launch.start(Workspace(Path(sys.argv[1])), RunFolder(Path(sys.argv[2])))\n"
        "try: os.waitpid(-1, os.WNOHANG); print('has a child')\n"
        "except ChildProcessError: print('no child')\n"
        "os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, str(place.workspace.path), str(run.path)]
    starter = subprocess.run(command, capture_output=True, text=True, start_new_session=True, check=False)
    assert starter.stdout == "no child\n", starter.stderr
    assert place.finish(run)["status"] == "succeeded"


def test_variables_for_the_worker_reach_it_and_the_preparation_of_its_data(place: Place) -> None:
    prepare = "(run / 'while preparing').write_text(os.environ['HF_HUB_OFFLINE'])"
    run = place.make("note('while training', os.environ['HF_HUB_OFFLINE'])", kind="train", prepare=prepare)
    launch.start(place.workspace, run, {"HF_HUB_OFFLINE": "1"})
    assert place.noted(run, "while training") == "1"
    assert place.noted(run, "while preparing") == "1"


def test_a_supervisor_that_cannot_start_is_told_with_its_last_line(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.workspace.path / "sources" / "ctypes.py").write_text("raise ImportError('libffi is missing')\n")
    run = place.make()
    with pytest.raises(SetupError, match="libffi is missing") as caught:
        launch.start(place.workspace, run)
    assert caught.value.where == str(run.attempt(1).supervisor_log)
    result = place.finish(run)
    assert (result["status"], result["failure"]["kind"]) == ("failed", "setup")


# Cancelling


def test_a_cancelled_worker_may_tidy_up(place: Place) -> None:
    do = "note('started')\ntry: time.sleep(600)\nexcept Stopped: note('tidied'); raise"
    run = place.start(do)
    place.noted(run, "started")
    launch.cancel(place.workspace, run, "Ada")
    result = place.finish(run)
    assert (result["status"], result["failure"]["kind"]) == ("cancelled", "cancelled")
    assert result["failure"]["message"] == "cancelled by Ada"
    assert (run.path / "tidied").exists()


def test_a_worker_that_ignores_the_request_is_killed_when_its_grace_is_over(place: Place) -> None:
    run = place.start("signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP, cancel_grace=1)
    pid = int(place.noted(run, "started"))
    start = time.monotonic()
    launch.cancel(place.workspace, run, "Ada")
    assert place.finish(run)["status"] == "cancelled"
    assert time.monotonic() - start >= 1
    assert not place.alive(pid)


def test_asked_again_it_is_killed_without_delay(place: Place) -> None:
    run = place.start("signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP, cancel_grace=500)
    place.noted(run, "started")
    launch.cancel(place.workspace, run, "Ada")
    time.sleep(0.5)
    assert run.status().state == "running"
    launch.cancel(place.workspace, run, "Bob")
    assert place.finish(run)["failure"]["message"] == "cancelled by Ada"


def test_no_grandchild_survives_a_cancel_whatever_session_it_is_in(place: Place) -> None:
    do = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deep = "import os, time; os.fork(); os.setsid() if os.getpid() != os.getpgid(0) else 0; time.sleep(600)"
pids = []
for options in ({}, {"start_new_session": True}, {"env": {}}, {"start_new_session": True, "env": {}}):
    pids.append(subprocess.Popen([sys.executable, "-c", deep], **options).pid)
note("pids", " ".join(map(str, pids)))
time.sleep(600)
"""
    run = place.start(do, cancel_grace=0.5)
    pids = [int(pid) for pid in place.noted(run, "pids").split()]
    time.sleep(0.3)
    launch.cancel(place.workspace, run, "Ada")
    assert place.finish(run)["status"] == "cancelled"
    assert [pid for pid in pids if place.alive(pid)] == []
    place.until(lambda: holder("cpu-0") is None)


def test_a_failure_that_the_cancel_brought_about_is_no_failure(place: Place) -> None:
    do = (
        "def on_term(*_): raise RuntimeError('a library turned the signal into its own error')\n"
        "signal.signal(signal.SIGTERM, on_term); note('started'); time.sleep(600)"
    )
    run = place.start(do)
    place.noted(run, "started")
    launch.cancel(place.workspace, run, "Ada")
    assert place.finish(run)["status"] == "cancelled"


def test_a_run_that_finishes_although_it_was_cancelled_has_succeeded(place: Place) -> None:
    run = place.start("job.stops_itself = True; note('started'); job.stop_requested.wait()")
    place.noted(run, "started")
    launch.cancel(place.workspace, run, "Ada")
    assert place.finish(run)["status"] == "succeeded"


def test_a_run_is_cancelled_at_once_while_its_data_is_prepared(place: Place) -> None:
    prepare = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "(run / 'preparing').write_text(str(subprocess.Popen(['sleep', '600'], start_new_session=True).pid))\n"
        "time.sleep(600)"
    )
    run = place.start("note('trained')", kind="train", prepare=prepare, cancel_grace=500)
    place.until((run.path / "preparing").exists)
    assert run.status().state == "preparing"
    launch.cancel(place.workspace, run, "Ada")
    assert place.finish(run)["status"] == "cancelled"
    assert not (run.path / "trained").exists()
    assert not place.alive(int((run.path / "preparing").read_text() or 0))


def test_a_run_is_cancelled_at_once_while_it_waits(place: Place) -> None:
    holding = place.start(SLEEP)
    place.noted(holding, "started")
    run = place.start("note('trained')")
    place.status(run, "waiting")
    launch.cancel(place.workspace, run, "Ada")
    assert place.finish(run)["status"] == "cancelled"
    assert not (run.path / "trained").exists()
    assert holding.status().state == "running"


def test_a_run_that_was_never_started_can_be_cancelled(place: Place) -> None:
    run = place.make()
    launch.cancel(place.workspace, run, "Ada")
    result = place.finish(run)
    assert (result["status"], result["attempt"]) == ("cancelled", 1)
    with pytest.raises(RequestError, match="was started before"):
        launch.start(place.workspace, run)


def test_a_supervisor_that_comes_after_the_cancel_starts_nothing(place: Place) -> None:
    run = place.make("note('trained')")
    launch.cancel(place.workspace, run, "Ada")
    command = [sys.executable, "-m", "tuneyard.control.supervisor", str(run.path), "1"]
    subprocess.run(command, cwd=place.workspace.path, check=True, timeout=60)
    assert run.status().state == "cancelled"
    assert not (run.path / "trained").exists()


def test_what_has_ended_cannot_be_cancelled(place: Place) -> None:
    run = place.start()
    place.finish(run)
    with pytest.raises(RequestError, match="has already ended: succeeded"):
        launch.cancel(place.workspace, run, "Ada")


def test_a_cancel_file_made_by_hand_counts(place: Place) -> None:
    run = place.start(SLEEP)
    place.noted(run, "started")
    run.attempt(1).cancel.touch()
    assert place.finish(run)["failure"]["message"] == "cancelled by somebody"


def test_a_supervisor_that_is_asked_to_end_cancels_its_run(place: Place) -> None:
    run = place.start(SLEEP)
    place.noted(run, "started")
    os.kill(place.guard(run), signal.SIGTERM)
    assert place.finish(run)["status"] == "cancelled"


# One device


def test_two_runs_that_want_one_device_run_one_after_the_other_in_the_order_they_came(place: Place) -> None:
    runs = [place.start(f"note('from', time.time())\n{place.until_let_go}\nnote('to', time.time())") for _ in range(3)]
    place.noted(runs[0], "from")
    for run in runs[1:]:
        place.status(run, "waiting")
    waiting = (runs[1].attempt(1).read_supervisor() or {})["waiting_for"]
    assert waiting == f"CPU slot 0, held by {runs[0].id}"
    place.let_go(*runs)
    assert [place.finish(run)["status"] for run in runs] == ["succeeded"] * 3
    spans = [(float(place.noted(run, "from")), float(place.noted(run, "to"))) for run in runs]
    assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_runs_work_side_by_side_where_a_person_says_how_many_and_share_the_cores(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEYARD_CPU_SLOTS", "2")
    runs = [place.start(f"note('threads', os.environ['OMP_NUM_THREADS'])\n{place.until_let_go}") for _ in range(2)]
    for run in runs:
        place.noted(run, "threads")  # both work before either may end
    place.let_go(*runs)
    assert [place.finish(run)["status"] for run in runs] == ["succeeded"] * 2
    assert {int(place.noted(run, "threads")) for run in runs} == {max(1, cores() // 2)}


# Resuming


def test_a_resumed_run_has_another_attempt_that_sees_what_the_first_one_left(place: Place) -> None:
    do = (
        "mark = job.folder.artifacts / 'checkpoint'\n"
        "if not mark.exists(): mark.write_text('step 5'); os._exit(1)\n"
        "note('from', mark.read_text())"
    )
    run = place.start(do)
    assert place.finish(run)["status"] == "failed"
    assert launch.resume(place.workspace, run).number == 2
    assert place.finish(run)["status"] == "succeeded"
    assert place.noted(run, "from") == "step 5"
    assert (run.attempt(1).read_result() or {})["status"] == "failed"


def test_what_succeeded_or_runs_is_not_resumed(place: Place) -> None:
    done, running = place.start(), place.make(SLEEP)
    place.finish(done)
    with pytest.raises(RequestError, match="succeeded"):
        launch.resume(place.workspace, done)
    launch.start(place.workspace, running)
    place.status(running, "running")
    with pytest.raises(RequestError, match="is running") as caught:
        launch.resume(place.workspace, running)
    assert f"yard cancel {running.id}" in (caught.value.way_out or "")


@pytest.mark.parametrize("attempt", [1, 2])
def test_code_that_was_edited_since_the_run_was_made_is_told_and_kept(place: Place, attempt: int) -> None:
    file = place.workspace.path / "model.py"
    file.write_text("# old\n")
    old = sha256_of_file(file)
    code = {"path": str(file), "name": "load", "sha256": old}
    run = place.make(f"if job.attempt.number < {attempt}: os._exit(1)", lm=code, code=[code])
    if attempt == 2:
        launch.start(place.workspace, run)
        place.finish(run)
        assert "was edited" not in run.attempt(1).events.read_text()
    file.write_text("# new\n")
    new = sha256_of_file(file)
    (launch.resume if attempt == 2 else launch.start)(place.workspace, run)
    assert place.finish(run)["status"] == "succeeded"
    [warning] = [e for e, _ in read_json_lines(run.attempt(attempt).events) if e["event"] == "warning"]
    for word in (str(file), f"{old[:12]}… then", f"{new[:12]}… now", f"yard run run:{run.id}"):
        assert word in warning["message"]
    assert (run.code / f"model-{new[:12]}.py").read_text() == "# new\n"


def test_of_many_who_resume_at_once_one_does(place: Place) -> None:
    run = place.start("if job.attempt.number == 1: os._exit(1)\ntime.sleep(1)")
    place.finish(run)

    def resume(_: int) -> bool:
        try:
            launch.resume(place.workspace, run)
        except RequestError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(resume, range(6))) == 1
    assert place.finish(run)["status"] == "succeeded"
    assert len(run.attempts()) == 2


def test_more_gpus_than_there_are_now_are_refused_before_anything_starts(place: Place) -> None:
    run = place.start("os._exit(1)")
    place.finish(run)
    spec = {**run.read_spec(), "gpus": 8}
    run.spec.write_text(json.dumps(spec))
    with pytest.raises(RequestError, match="8 asked for, 0 to be had"):
        launch.resume(place.workspace, run)
    assert len(run.attempts()) == 1


# Removing


def test_a_removed_run_is_gone(place: Place) -> None:
    run = place.start("(job.folder.artifacts / 'model').mkdir()")
    place.finish(run)
    launch.remove(place.workspace, run)
    assert os.listdir(place.workspace.runs) == []


def test_what_runs_is_not_removed(place: Place) -> None:
    run = place.start(SLEEP)
    place.status(run, "running")
    with pytest.raises(RequestError, match="is running"):
        launch.remove(place.workspace, run)
    assert run.spec.exists()


def test_what_another_run_refers_to_is_not_removed(place: Place) -> None:
    base = place.start()
    place.finish(base)
    user = place.start(model={"reference": f"run:{base.id}", "run": base.id})
    place.finish(user)
    with pytest.raises(RequestError, match=user.id):
        launch.remove(place.workspace, base)
    launch.remove(place.workspace, user)
    launch.remove(place.workspace, base)
    assert os.listdir(place.workspace.runs) == []


def test_what_a_removed_run_links_to_is_kept(place: Place) -> None:
    precious = place.workspace.path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    run = place.start(f"os.symlink({str(precious)!r}, job.folder.artifacts / 'link')")
    place.finish(run)
    launch.remove(place.workspace, run)
    assert (precious / "file").exists()


# Waiting


def test_waiting_has_a_limit(place: Place) -> None:
    run = place.start(SLEEP)
    place.noted(run, "started")
    start = time.monotonic()
    status = launch.wait(run, 0.3)
    assert not status.ended
    assert 0.3 <= time.monotonic() - start < 5


def test_waiting_for_a_run_that_never_starts_ends(place: Place) -> None:
    run = create_run(place.workspace.runs, "eval", "x")
    run.spec.write_text("{}")
    os.utime(run.spec, (0, 0))
    assert launch.wait(RunFolder(run.path), 10).state == "lost"
