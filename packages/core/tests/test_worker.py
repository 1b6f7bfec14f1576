"""The harness: a real worker process, its verbs, its endings, and what it leaves."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tuneyard.core.processes import ATTEMPT_VARIABLE, PIPE_VARIABLE, RUN_ID_VARIABLE, STOPPED_EXIT, processes_of
from tuneyard.core.run_folder import RunFolder, create_run

WORKER = """
import os, subprocess, sys, time
from tuneyard.core import events
from tuneyard.core.errors import RequestError
from tuneyard.core.worker import Stopped, Worker, main

def run(job):
    mode = job.spec.engine["mode"]
    print("printed by the library")
    job.emit(events.Progress, step=1, total=2, loss=0.5)
    if mode == "request": raise RequestError("no such column", where="rows.jsonl", way_out="name one")
    if mode == "crash": raise ValueError("boom hf_" + "x" * 30)
    if mode == "sleep":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        job.emit(events.Progress, step=2, total=2)
        time.sleep(600)
    if mode == "cooperate":
        job.stops_itself = True
        job.emit(events.Progress, step=2, total=2)
        assert job.stop_requested.wait(30)
        (job.folder.artifacts / "saved").write_text("state")
        raise Stopped
    with job.timed("work"):
        (job.folder.artifacts / "model").write_text("weights")
    job.artifact("model", job.folder.artifacts / "model")
    job.artifact("never made", job.folder.artifacts / "nothing")
    job.metric("accuracy", 0.75, standard_error=0.1, n=20)

def schema():
    print("noise on stdout")
    return {"keys": {"mode": {"type": "str"}}}

def check(path, name):
    raise RequestError("function 'f' not found", where=str(path))

main(Worker("train", run=run, arguments=lambda spec: {"arguments": spec.engine}, schema=schema,
            fingerprint=lambda model: None, check=check, distributions=("pydantic",)))
"""


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    file = tmp_path / "worker.py"
    file.write_text(textwrap.dedent(WORKER))
    return file


def new_run(tmp_path: Path, mode: str) -> RunFolder:
    run = create_run(tmp_path / "rüns 'of' \"mine\"", "train", "x")
    spec = {"kind": "train", "model": "builtin:tiny", "dataset": "d.jsonl", "engine": {"mode": mode}}
    run.spec.write_text(json.dumps(spec))
    run.new_attempt()
    return run


def start(worker: Path, run: RunFolder, **options) -> subprocess.Popen[str]:
    environment = {**os.environ, RUN_ID_VARIABLE: run.id, ATTEMPT_VARIABLE: "1", **options.pop("env", {})}
    command = [sys.executable, str(worker), "run", str(run.path)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def finish(worker: Path, run: RunFolder) -> tuple[int, dict]:
    process = start(worker, run)
    process.communicate(timeout=30)
    return process.returncode, json.loads(run.attempt(1).result.read_text())


def wait_for_step(run: RunFolder, step: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if run.attempt(1).events.exists() and f'"step":{step}' in run.attempt(1).events.read_text():
            return
        time.sleep(0.02)
    raise AssertionError("the worker told no progress")


def test_a_run_that_works_leaves_metrics_artifacts_and_its_environment(worker: Path, tmp_path: Path) -> None:
    run = new_run(tmp_path, "work")
    code, result = finish(worker, run)
    assert code == 0
    assert result["status"] == "succeeded"
    assert result["metrics"]["accuracy"] == {"value": 0.75, "standard_error": 0.1, "n": 20}
    assert [a["name"] for a in result["artifacts"]] == ["model"]
    assert result["artifacts"][0]["size"] == len("weights")
    assert "pydantic" in result["versions"]
    events = [json.loads(line)["event"] for line in run.attempt(1).events.read_text().splitlines()]
    assert events == ["started", "progress"]
    environment = json.loads(run.attempt(1).environment.read_text())
    assert environment["versions"]["pydantic"] == result["versions"]["pydantic"]
    assert "PATH" in environment["variables"]


def test_an_error_of_ours_ends_with_its_exit_code_and_way_out(worker: Path, tmp_path: Path) -> None:
    code, result = finish(worker, new_run(tmp_path, "request"))
    assert code == 2
    assert result["failure"]["kind"] == "request"
    assert result["failure"]["way_out"] == "name one"


def test_any_other_error_fails_the_run_with_its_type_and_no_secret(worker: Path, tmp_path: Path) -> None:
    code, result = finish(worker, new_run(tmp_path, "crash"))
    assert code == 1
    assert result["status"] == "failed"
    assert result["failure"]["message"] == "ValueError: boom ********"


def test_a_worker_that_is_asked_to_end_leaves_the_ending_to_its_supervisor(worker: Path, tmp_path: Path) -> None:
    run = new_run(tmp_path, "cooperate")
    process = start(worker, run)
    wait_for_step(run, 2)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == STOPPED_EXIT
    assert (run.artifacts / "saved").read_text() == "state"
    assert not run.attempt(1).result.exists()


def test_when_the_supervisor_is_gone_the_whole_tree_ends(worker: Path, tmp_path: Path) -> None:
    run = new_run(tmp_path, "sleep")
    reading, writing = os.pipe()
    process = start(worker, run, pass_fds=(reading,), env={PIPE_VARIABLE: str(reading)})
    os.close(reading)
    wait_for_step(run, 2)
    assert len(processes_of(run.id)) == 2
    os.close(writing)
    process.communicate(timeout=20)
    assert process.returncode == -9
    deadline = time.monotonic() + 5
    while processes_of(run.id) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_of(run.id) == []


def ask(worker: Path, *words: str) -> tuple[int, dict]:
    done = subprocess.run([sys.executable, worker, *words], capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, json.loads(done.stdout)


def test_an_answer_is_one_json_value_whatever_the_library_prints(worker: Path) -> None:
    assert ask(worker, "schema") == (0, {"keys": {"mode": {"type": "str"}}})


def test_an_answer_may_be_an_error_with_its_exit_code(worker: Path) -> None:
    code, answer = ask(worker, "check", "task.py", "f")
    assert code == 2
    assert answer["error"]["message"] == "function 'f' not found"


def test_a_rank_that_fails_leaves_its_failure_to_whoever_started_the_ranks(worker: Path, tmp_path: Path) -> None:
    run = new_run(tmp_path, "request")
    process = start(worker, run, env={"RANK": "1"})
    process.communicate(timeout=30)
    assert process.returncode == 2
    assert not run.attempt(1).result.exists()
    (file,) = run.attempt(1).rank_failures()
    failure = json.loads(file.read_text())
    assert (file.name, failure["rank"], failure["message"]) == ("rank-1.json", 1, "no such column")
