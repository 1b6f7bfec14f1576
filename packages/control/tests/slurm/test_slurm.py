"""Runs on a real SLURM: submitted, cancelled, preempted, killed, forgotten, and each time told as what it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.control import launch
from tuneyard.core.slurm_jobs import forget

if TYPE_CHECKING:
    from conftest import Yard

pytest_plugins = ["slurm_cluster"]
pytestmark = pytest.mark.slow

LONG: dict[str, Any] = {"engine": {"max_steps": 1000, "pause": 0.1, "saves": True}}


def test_a_run_goes_through_the_queue_and_succeeds(yard: Yard) -> None:
    run = yard.start(engine={"max_steps": 2})
    assert yard.status(run, "succeeded", "failed", "lost").state == "succeeded"
    assert (run.attempt(1).read_result() or {})["metrics"]["quiz/exact_match"]["value"] == 0.3
    assert run.attempt(1).supervisor_log.read_text() == ""
    assert run.job_log.read_text() == ""


def test_its_devices_come_from_slurm_and_no_lease_is_taken(yard: Yard) -> None:
    run = yard.start(slurm={"gres": "gpu:2"}, **LONG)
    yard.step(run)
    record = run.attempt(1).read_supervisor() or {}
    assert record["lease"] == {"devices": ["0", "1"]}
    assert not os.path.exists(os.environ["TUNEYARD_LEASES"])


def test_a_person_may_submit_the_script_again_by_hand(yard: Yard) -> None:
    run = yard.start(engine={"fail": "no good"})
    assert yard.status(run, "failed").attempt == 1
    number = yard.cluster.ask("sbatch", "--parsable", str(run.job_script)).strip()
    assert yard.status(run, "failed", attempt=2).attempt == 2
    assert yard.job(run) == number


def test_a_run_that_is_cancelled_while_it_waits_never_begins(yard: Yard) -> None:
    run = yard.start(slurm={"begin": "now+1hour"}, **LONG)
    status = run.status()
    assert (status.state, status.reason) == ("queued", f"SLURM job {yard.job(run)} (BeginTime)")
    launch.cancel(yard.workspace, run, "somebody")
    assert run.status().state == "cancelled"
    assert yard.failure(run)["message"] == "cancelled by somebody before it began"
    yard.until(lambda: not yard.cluster.queue())


def test_a_run_that_is_cancelled_while_it_works_ends_in_its_own_time(yard: Yard) -> None:
    run = yard.start(**LONG)
    yard.step(run)
    launch.cancel(yard.workspace, run, "somebody")
    assert yard.status(run, "cancelled").attempt == 1
    assert yard.failure(run)["message"] == "cancelled by somebody"
    yard.until(lambda: not yard.cluster.queue())


def test_a_job_that_an_administrator_cancels_reads_cancelled(yard: Yard) -> None:
    run = yard.start(**LONG)
    yard.step(run)
    yard.cluster.ask("scancel", yard.job(run))
    yard.status(run, "cancelled")
    assert yard.failure(run)["message"] == f"job {yard.job(run)} was cancelled in SLURM"
    assert yard.status(run, "cancelled").attempt == 1


def test_a_waiting_job_that_an_administrator_cancels_reads_cancelled(yard: Yard) -> None:
    run = yard.start(slurm={"begin": "now+1hour"}, **LONG)
    yard.cluster.ask("scancel", yard.job(run))
    forget()
    assert run.status().state == "cancelled"
    assert run.status().reason == f"SLURM job {yard.job(run)} was cancelled"
    with pytest.raises(Exception, match="has already ended"):
        launch.cancel(yard.workspace, run, "somebody")


def test_a_supervisor_that_is_killed_leaves_a_lost_run_and_a_failed_job(yard: Yard) -> None:
    run = yard.start(**LONG)
    yard.step(run)
    os.kill((run.attempt(1).read_supervisor() or {})["pid"], signal.SIGKILL)
    status = yard.status(run, "lost")
    assert status.reason == f"SLURM job {yard.job(run)} ended as FAILED (NonZeroExitCode)"


def test_what_is_preempted_goes_on_from_its_checkpoint_in_the_same_run(yard: Yard) -> None:
    run = yard.start(engine={"max_steps": 60, "pause": 0.1, "saves": True})
    yard.step(run)
    urgent = ["sbatch", "--parsable", "-p", "urgent", "-N2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1"]
    yard.cluster.ask(*urgent)
    queued = yard.status(run, "queued", attempt=2)
    assert queued.attempt == 2
    assert yard.failure(run)["kind"] == "preempted"
    yard.status(run, "succeeded", attempt=2)
    first, second = (steps(run.attempt(n)) for n in (1, 2))
    assert first[0] == 1 and second[0] == first[-1] + 1 and second[-1] == 60


def test_a_time_limit_lets_the_worker_end_and_the_run_goes_on_in_the_same_job(yard: Yard) -> None:
    # SLURM gives notice up to a minute early: with less than two minutes, the next attempt would have none before it
    run = yard.start(slurm={"time": 2}, engine={"max_steps": 5000, "pause": 0.1, "saves": True})
    job = yard.job(run)
    yard.status(run, "running", attempt=2, seconds=120)
    assert yard.failure(run)["kind"] == "time_limit"
    assert yard.failure(run)["message"] == f"the time limit of SLURM job {job} is over"
    yard.step(run, attempt=2)
    assert steps(run.attempt(2))[0] == steps(run.attempt(1))[-1] + 1
    assert yard.job(run) == job


def test_a_run_without_a_checkpoint_does_not_begin_again_for_ever(yard: Yard) -> None:
    run = yard.start(engine={"max_steps": 5000, "pause": 0.1})
    yard.step(run)
    yard.cluster.ask("scancel", "--batch", "--signal=USR1", yard.job(run))  # as SLURM sends it before the end
    yard.status(run, "failed")
    assert yard.failure(run)["kind"] == "time_limit"
    yard.until(lambda: not yard.cluster.queue())
    assert len(run.attempts()) == 1


def test_the_node_is_lost_and_the_run_goes_on_elsewhere(yard: Yard) -> None:
    run = yard.start(engine={"max_steps": 60, "pause": 0.1, "saves": True})
    yard.step(run)
    yard.cluster.kill_node("one")
    yard.cluster.ask("scontrol", "update", "nodename=one", "state=down", "reason=test")
    yard.status(run, "succeeded", attempt=2)
    assert run.attempt(1).read_result() is None
    assert steps(run.attempt(2))[0] > 1
    yard.cluster.start_node("one")
    yard.cluster.ask("scontrol", "update", "nodename=one", "state=resume")


def test_the_controller_is_started_anew_and_nothing_is_lost(yard: Yard) -> None:
    working = yard.start(engine={"max_steps": 60, "pause": 0.1})
    waiting = yard.start(slurm={"begin": "now+1hour"}, **LONG)
    yard.step(working)
    yard.cluster.stop_controller()
    forget()
    assert working.status().state == "running"
    assert waiting.status().state == "unknown"
    yard.cluster.start_controller()
    forget()
    assert waiting.status().state == "queued"
    assert yard.status(working, "succeeded").attempt == 1


def test_a_failed_run_fails_its_job_and_one_out_of_memory_is_told(yard: Yard) -> None:
    run = yard.start(engine={"fail": "no such column"})
    yard.status(run, "failed")
    assert yard.failure(run)["message"] == "no such column"
    job = yard.job(run)
    yard.until(lambda: "JobState=FAILED" in yard.cluster.ask("scontrol", "show", "job", job))


def steps(attempt: Any) -> list[int]:
    lines = (json.loads(line) for line in attempt.events.read_text().splitlines())
    return [event["step"] for event in lines if event["event"] == "progress"]


def command(*words: str) -> tuple[int, Any]:
    call = [sys.executable, "-m", "tuneyard.control.cli", *words, "--json"]
    answer = subprocess.run(call, capture_output=True, text=True, check=False, timeout=100)
    assert answer.stdout, answer.stderr
    return answer.returncode, json.loads(answer.stdout)


def test_the_command_submits_follows_and_resumes(yard: Yard) -> None:
    spec = ["tasks=arithmetic", "model=builtin:tiny", "engine.fail=nothing"]
    code, seen = command("run", "--on", "slurm", "--kind", "eval", *spec)
    assert (code, seen["state"], seen["attempt"]) == (2, "failed", 1)
    code, seen = command("resume", seen["id"], "--slurm", "comment=it's again")
    assert (code, seen["state"], seen["attempt"]) == (2, "failed", 2)
    assert '#SBATCH --comment="it\'s again"' in (yard.workspace.runs / seen["id"] / "job.sh").read_text()


def test_a_dry_run_shows_the_script_and_leaves_nothing(yard: Yard) -> None:
    spec = ["--kind", "eval", "tasks=arithmetic", "model=builtin:tiny", "gpus=2"]
    code, seen = command("run", "--on", "slurm", "--slurm", "gres=gpu:a100:1,tmp:5", "--dry-run", *spec)
    assert code == 0
    assert "#SBATCH --gres=gpu:a100:2,tmp:5" in seen["job"]
    assert not yard.workspace.runs.exists()
