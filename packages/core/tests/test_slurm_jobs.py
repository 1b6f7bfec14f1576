"""What is made of SLURM's answers; the programs here are small scripts, a real SLURM is asked in control's tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneyard.core import slurm_jobs
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.slurm_jobs import Job, JobState, forget, new_job, read_accounts, state_of

Programs = Callable[..., Path]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Put programs of these names and this shell text on PATH; each call is noted in `calls`."""

    def put(**texts: str) -> Path:
        for name, text in texts.items():
            program = tmp_path / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/calls\n{text}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin")
        forget()
        monkeypatch.setattr(slurm_jobs, "_accounted", {})
        return tmp_path / "calls"

    return put


def job(number: str | None, task: int | None = None, age: float = 100.0) -> Job:
    made = new_job("train-x", task, number)
    return Job(made.id, made.task, made.name, made.user, time.time() - age)


@pytest.mark.parametrize(
    ("word", "supervised", "state"),
    [
        ("PENDING", False, "queued"),
        ("PENDING", True, "queued"),  # requeued: its supervisor is gone, and will be started again
        ("RUNNING", False, "queued"),  # the supervisor is about to begin
        ("RUNNING", True, "unknown"),
        ("SUSPENDED", True, "unknown"),
        ("COMPLETING", True, "unknown"),
        ("CANCELLED", False, "cancelled"),
        ("CANCELLED", True, "cancelled"),
        ("NODE_FAIL", True, "lost"),
        ("OUT_OF_MEMORY", True, "lost"),
        ("TIMEOUT", True, "lost"),
        ("COMPLETED", False, "lost"),
    ],
)
def test_each_word_of_slurm_is_a_state_of_ours(programs: Programs, word: str, supervised: bool, state: str) -> None:
    programs(squeue=f"echo '12|N/A|{word}|None|2026-11-21T10:00:00|train-x'", sacct="exit 1")
    assert state_of(job("12"), supervised=supervised)[0] == state


def test_tasks_of_an_array_are_told_apart(programs: Programs) -> None:
    lines = "12|0|RUNNING|None|x|a\\n12|1|CANCELLED|DependencyNeverSatisfied|x|a\\n12|2|PENDING|Priority|x|a"
    programs(squeue=f"printf '{lines}\\n'")
    assert state_of(job("12", 1), supervised=False) == (
        "cancelled",
        "SLURM job 12_1 was cancelled: what it waited for did not succeed",
    )
    assert state_of(job("12", 2), supervised=False) == ("queued", "SLURM job 12_2 (Priority)")


def test_what_squeue_has_forgotten_the_accounts_tell(programs: Programs) -> None:
    calls = programs(squeue="true", sacct="echo '12_3|CANCELLED by 0|2026-11-21T10:00:00'; echo '13|NODE_FAIL|x'")
    assert state_of(job("12", 3), supervised=True) == ("cancelled", "SLURM job 12_3 was cancelled")
    assert state_of(job("13"), supervised=True) == ("lost", "SLURM job 13 ended as NODE_FAIL")
    assert state_of(job("14"), supervised=True) == ("lost", "SLURM no longer knows job 14")
    assert calls.read_text().split() == ["squeue", "sacct"]  # for all three


def test_a_controller_that_does_not_answer_makes_nothing_lost(programs: Programs) -> None:
    calls = programs(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    for _ in range(3):
        state, reason = state_of(job("12"), supervised=True)
        assert (state, "Unable to contact" in reason) == ("unknown", True)
    assert calls.read_text().split() == ["squeue"]


def test_without_slurm_here_nothing_is_known(programs: Programs) -> None:
    programs()
    assert state_of(job("12"), supervised=True) == (
        "unknown",
        "SLURM job 12: there is no `squeue` on this machine",
    )


def test_a_job_without_a_number_is_found_by_its_name(programs: Programs) -> None:
    programs(squeue="echo '11|N/A|FAILED|None|x|train-x'; echo '12|N/A|PENDING|None|x|train-x'")
    assert state_of(job(None), supervised=False)[0] == "queued"
    programs(squeue="true")
    assert state_of(job(None, age=5), supervised=False) == ("queued", "it is being submitted")
    assert state_of(job(None, age=500), supervised=False) == ("lost", "it never came into SLURM's queue")


def test_a_name_may_hold_what_separates_the_columns(programs: Programs) -> None:
    programs(squeue="echo '12|N/A|PENDING|None|x|a|b'")
    assert state_of(job("12"), supervised=False)[0] == "queued"


def test_the_jobs_of_others_may_be_hidden(programs: Programs) -> None:
    programs(squeue="true", sacct="true")
    other = Job("12", None, "x", "somebody-else", time.time() - 100)
    state, reason = state_of(other, supervised=True)
    assert (state, "may be hidden" in reason) == ("unknown", True)


def test_of_a_job_that_was_requeued_the_accounts_last_line_stands() -> None:
    text = "12|REQUEUED|a\n12|COMPLETED|b\n"
    assert read_accounts(text) == {("12", None): JobState("COMPLETED", "", "12", "b")}


def test_files_come_first_and_slurm_is_not_asked(programs: Programs, tmp_path: Path) -> None:
    calls = programs(squeue="true")
    run = RunFolder(tmp_path / "train-x-261120-1830-k3f")
    attempt = run.path / "attempts" / "1"
    attempt.mkdir(parents=True)
    new_job(run.id, id="12").write(attempt / "slurm.json")
    (attempt / "result.json").write_text('{"status": "succeeded"}')
    assert run.status().state == "succeeded"
    assert not calls.exists()


def test_the_next_attempt_counts_as_soon_as_it_is_made(programs: Programs, tmp_path: Path) -> None:
    programs(squeue="echo '12|N/A|PENDING|BeginTime|x|train-x'")
    run = RunFolder(tmp_path / "train-x-261120-1830-k3f")
    for number in (1, 2):
        (run.path / "attempts" / str(number)).mkdir(parents=True)
        new_job(run.id, id="12").write(run.attempt(number).job)
    (run.path / "attempts" / "1" / "result.json").write_text('{"status": "failed"}')
    status = run.status()
    assert (status.state, status.attempt, status.reason) == ("queued", 2, "SLURM job 12 (BeginTime)")
