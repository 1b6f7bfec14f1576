"""The state of a run follows from its files alone."""

import fcntl
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import RequestError
from tuneyard.core.run_folder import (
    HEARTBEAT_LATE,
    START_PATIENCE,
    Attempt,
    RunFolder,
    boot_id,
    create_run,
    find_run,
    host,
    is_run_id,
    slug,
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = create_run(tmp_path / "the 'runs' of\nmü", "train", "Arithmetic, 3 digits")
    run.spec.write_text("{}")
    return run


def supervise(attempt: Attempt, phase: str = "running", **changes: object) -> int:
    """Write supervisor.json as a living supervisor does; returns the descriptor that holds its lock."""
    record = {"host": host(), "boot_id": boot_id(), "phase": phase, "heartbeat": time.time(), "pid": os.getpid()}
    attempt.supervisor.write_text(json.dumps({**record, **changes}))
    descriptor = os.open(attempt.supervisor, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_an_id_tells_kind_name_and_time(run: RunFolder) -> None:
    assert is_run_id(run.id)
    assert run.id.startswith("train-arithmetic-3-digits-")
    assert run.kind == "train"


@given(st.text())
def test_any_text_becomes_a_name(text: str) -> None:
    name = slug(text)
    assert 1 <= len(name) <= 24
    assert is_run_id(f"train-{name}-261120-1830-k3f")


def test_a_new_run_is_queued_and_one_that_never_started_is_lost(run: RunFolder) -> None:
    assert run.status().state == "queued"
    age(run.spec, START_PATIENCE + 1)
    assert run.status().state == "lost"


def test_an_attempt_without_supervisor_is_queued_then_lost(run: RunFolder) -> None:
    attempt = run.new_attempt()
    assert run.status().state == "queued"
    age(attempt.folder, START_PATIENCE + 1)
    assert run.status().reason == "its supervisor never started"


@pytest.mark.parametrize("phase", ["preparing", "waiting", "running"])
def test_a_supervised_run_is_in_its_phase_while_the_lock_is_held(run: RunFolder, phase: str) -> None:
    descriptor = supervise(run.new_attempt(), phase)
    assert run.status().state == phase
    os.close(descriptor)
    assert run.status().state == "lost"


def test_a_result_decides_whatever_the_supervisor_says(run: RunFolder) -> None:
    attempt = run.new_attempt()
    os.close(supervise(attempt))
    attempt.result.write_text(json.dumps({"status": "succeeded"}))
    assert run.status().state == "succeeded"


def test_after_a_reboot_a_run_is_lost_although_its_lock_cannot_be_asked(run: RunFolder) -> None:
    descriptor = supervise(run.new_attempt(), boot_id="another boot")
    assert run.status().reason == "the machine was started anew"
    os.close(descriptor)


def test_from_another_host_a_fresh_heartbeat_counts_and_an_old_one_says_unknown(run: RunFolder) -> None:
    attempt = run.new_attempt()
    os.close(supervise(attempt, host="elsewhere"))
    assert run.status().state == "running"
    os.close(supervise(attempt, host="elsewhere", heartbeat=time.time() - HEARTBEAT_LATE - 1))
    assert run.status().state == "unknown"
    assert "unknown from here" in run.status().reason


def test_the_highest_attempt_speaks_for_the_run(run: RunFolder) -> None:
    for _ in range(9):
        run.new_attempt().result.write_text(json.dumps({"status": "failed"}))
    attempt = run.new_attempt()
    assert attempt.number == 10
    attempt.result.write_text(json.dumps({"status": "succeeded"}))
    assert (run.status().state, run.status().attempt) == ("succeeded", 10)


def test_a_run_is_out_of_memory_while_its_highest_attempt_failed_for_it(run: RunFolder) -> None:
    assert not run.ran_out_of_memory()
    for kind, told in (("out_of_memory", True), ("signal", False)):
        attempt = run.new_attempt()
        assert not run.ran_out_of_memory()
        attempt.result.write_text(json.dumps({"status": "failed", "failure": {"kind": kind}}))
        assert run.ran_out_of_memory() is told
    run.new_attempt().result.write_text(json.dumps({"status": "succeeded", "failure": None}))
    assert not run.ran_out_of_memory()


def test_the_first_to_ask_cancels_and_whoever_asks_again_is_noted(run: RunFolder) -> None:
    attempt = run.new_attempt()
    assert attempt.cancel_requests() == []
    assert attempt.ask_cancel("alice")
    assert not attempt.ask_cancel("bob")
    assert [request["who"] for request in attempt.cancel_requests()] == ["alice", "bob"]


@pytest.mark.parametrize("text", ["", "please", '"please"', "{}"])
def test_a_cancel_file_made_by_hand_is_one_request(run: RunFolder, text: str) -> None:
    attempt = run.new_attempt()
    attempt.cancel.write_text(text)
    assert [request["who"] for request in attempt.cancel_requests()] == ["somebody"]


@pytest.mark.parametrize("text", ["{half", "[]", "{}", '{"status": "fine"}'])
def test_a_file_that_is_no_result_is_none(run: RunFolder, text: str) -> None:
    attempt = run.new_attempt()
    attempt.result.write_text(text)
    assert attempt.read_result() is None
    assert attempt.state().state == "queued"


def test_an_attempt_is_claimed_once(run: RunFolder) -> None:
    first = run.claim_attempt(1)
    assert first is not None
    assert first.number == 1
    assert run.claim_attempt(1) is None
    assert run.new_attempt().number == 2


def test_a_run_is_found_by_its_id_and_to_read_by_a_unique_beginning(tmp_path: Path) -> None:
    for name in ("train-a-261120-1830-aaa", "train-b-261120-1830-bbb"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spec.json").write_text("{}")
    assert find_run(tmp_path, "train-a-261120-1830-aaa", exact=True).id == "train-a-261120-1830-aaa"
    assert find_run(tmp_path, "run:train-b").id == "train-b-261120-1830-bbb"
    with pytest.raises(RequestError, match="not a whole run id"):
        find_run(tmp_path, "train-b", exact=True)
    with pytest.raises(RequestError, match="the beginning of 2 runs"):
        find_run(tmp_path, "train")
    with pytest.raises(RequestError, match="there is no run") as caught:
        find_run(tmp_path, "train-b-261120-1830-bbc")
    assert caught.value.way_out == "did you mean train-b-261120-1830-bbb?"


@pytest.mark.parametrize("reference", ["", "..", "../x", "/etc", "run:", "."])
def test_a_reference_never_leaves_the_folder_of_runs(tmp_path: Path, reference: str) -> None:
    (tmp_path.parent / "spec.json").write_text("{}")
    with pytest.raises(RequestError, match="there is no run"):
        find_run(tmp_path, reference)
