"""Many runs as arrays of a real SLURM, evaluations behind their trainings, and what SLURM does not take."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.control import launch
from tuneyard.control.slurm.submit import submit_runs
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.slurm_jobs import forget, new_job

if TYPE_CHECKING:
    from conftest import Yard
    from slurm_cluster import Cluster

pytest_plugins = ["slurm_cluster"]
pytestmark = pytest.mark.slow


def submit(yard: Yard, runs: list[RunFolder], **options: Any) -> list[str]:
    return [str(job) for job in submit_runs(yard.workspace, runs, **options)]


def test_an_array_runs_no_more_than_its_limit_and_one_failure_stays_one(yard: Yard) -> None:
    fine = {"max_steps": 4, "pause": 0.2}
    runs = [yard.make(engine=engine) for engine in (fine, {"fail": "no such column"}, fine, fine)]
    jobs = submit(yard, runs, limit=2)
    array = jobs[0].partition("_")[0]
    assert jobs == [f"{array}_{n}" for n in range(4)]
    most = 0
    while not all(run.status().ended for run in runs):
        most = max(most, sum(line.endswith("RUNNING") for line in yard.cluster.queue()))
    assert [run.status().state for run in runs] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert most == 2
    assert yard.failure(runs[1])["message"] == "no such column"
    assert all(run.job_log.read_text() == "" for run in runs)


def test_the_script_of_an_array_may_be_submitted_by_hand(yard: Yard) -> None:
    runs = [yard.make(engine={"fail": "not yet"}) for _ in range(2)]
    submit(yard, runs)
    for run in runs:
        yard.status(run, "failed")
    (script,) = (yard.workspace.runs / ".slurm").glob("*.sh")
    yard.cluster.ask("sbatch", str(script))
    for run in runs:
        assert yard.status(run, "failed", attempt=2).attempt == 2


def test_an_evaluation_begins_when_its_training_has_succeeded_and_not_otherwise(yard: Yard) -> None:
    good = yard.make("train", engine={"max_steps": 2, "finetuning_type": "full", "pause": 0.5})
    bad = yard.make("train", engine={"fail": "no good"})
    submit(yard, [good, bad], limit=1)
    scores = [yard.make("eval", awaited=run) for run in (good, bad)]
    submit(yard, scores, after=[good, bad])
    assert scores[0].status().state == "queued"
    yard.status(good, "succeeded")
    yard.status(scores[0], "succeeded")
    assert scores[0].read_spec()["model"]["path"] == str(good.model)
    status = yard.status(scores[1], "cancelled", "lost")
    assert (status.state, "what it waited for did not succeed" in status.reason) == ("cancelled", True)


def test_an_evaluation_may_wait_for_a_single_run_and_for_none_that_has_succeeded(yard: Yard) -> None:
    single = yard.start(kind="train", engine={"max_steps": 2, "finetuning_type": "full"})
    score = yard.make("eval", awaited=single)
    submit(yard, [score], after=[single])
    yard.status(score, "succeeded")
    again = yard.make("eval", awaited=single)
    submit(yard, [again], after=[single])
    yard.status(again, "succeeded")
    failed = yard.start(kind="train", engine={"fail": "no good"})
    yard.status(failed, "failed")
    with pytest.raises(RequestError, match="nothing can wait for it"):
        submit(yard, [yard.make()], after=[failed])


def test_runs_of_other_needs_get_an_array_of_their_own(yard: Yard) -> None:
    runs = [yard.make(), yard.make(gpus=1), yard.make()]
    jobs = [job.split("_") for job in submit(yard, runs)]
    assert jobs[0][0] == jobs[2][0] != jobs[1][0]
    for run in runs:
        yard.status(run, "succeeded")
    assert (runs[1].attempt(1).read_supervisor() or {})["lease"] == {"devices": ["0"]}


def test_one_run_of_an_array_is_cancelled_alone(yard: Yard) -> None:
    runs = [yard.make(engine={"max_steps": 500, "pause": 0.1}) for _ in range(3)]
    submit(yard, runs, limit=1)
    yard.step(runs[0])
    launch.cancel(yard.workspace, runs[1], "somebody")
    launch.cancel(yard.workspace, runs[0], "somebody")
    assert runs[1].status().state == "cancelled"
    yard.status(runs[0], "cancelled")
    yard.step(runs[2])


@pytest.fixture
def full(cluster: Cluster) -> Iterator[None]:
    """A queue that takes no more jobs."""
    for most in (1, 10_000):
        cluster.stop_controller()
        cluster.configure(most_jobs=most)
        cluster.start_controller()
        if most == 1:
            yield


def test_a_full_queue_is_told_and_the_run_can_be_submitted_later(
    yard: Yard, full: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneyard.core.slurm_jobs.ANSWER_SECONDS", 4.0)
    runs = [yard.make() for _ in range(2)]
    with pytest.raises(SetupError, match=r"SLURM does not take the job.*temporarily unable to accept job"):
        submit(yard, runs)
    assert [run.status().state for run in runs] == ["failed"] * 2
    assert "temporarily unable" in yard.failure(runs[0])["message"]


def test_a_partition_that_does_not_exist_is_told(yard: Yard) -> None:
    with pytest.raises(SetupError, match="Invalid partition name"):
        yard.start(slurm={"partition": "moon"})
    assert yard.made[-1].status().state == "failed"


def test_without_slurm_nothing_is_made(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PATH", str(yard.workspace.path))
        with pytest.raises(SetupError, match="there is no SLURM on this machine"):
            submit(yard, [yard.make()])
    assert yard.made[-1].latest() is None


def test_whoever_submits_and_dies_loses_nothing(yard: Yard) -> None:
    run = yard.make(engine={"max_steps": 3, "pause": 0.2})
    launch.start(yard.workspace, run, slurm={"begin": "now+1hour"})
    (attempt,) = run.attempts()
    new_job(run.id).write(attempt.job)  # as it stands between the two writes
    forget()
    assert run.status().state == "queued"
    yard.cluster.ask("scontrol", "update", f"jobname={run.id}", "starttime=now")
    yard.status(run, "succeeded")


def test_a_job_that_slurm_has_forgotten_reads_lost_unless_its_files_tell(yard: Yard) -> None:
    ended, waiting = yard.start(), yard.start(slurm={"begin": "now+1hour"})
    job = yard.job(waiting)
    yard.status(ended, "succeeded")
    yard.cluster.stop_controller()
    yard.cluster.start_controller(forgetful=True)
    forget()
    assert ended.status().state == "succeeded"
    assert (waiting.status().state, waiting.status().reason) == ("lost", f"SLURM no longer knows job {job}")
    launch.resume(yard.workspace, waiting)
    yard.status(waiting, "succeeded", attempt=2)


def test_a_thousand_looks_ask_squeue_once(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    first = yard.start(slurm={"begin": "now+1hour"})
    asked: list[list[str]] = []
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **rest: asked.append(command) or real(command, **rest))
    forget()
    assert {first.status().state for _ in range(1000)} == {"queued"}
    assert [command[0] for command in asked] == ["squeue"]
