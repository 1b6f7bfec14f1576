"""Nothing that comes in ends the server, gets out of the workspace, or tears the stream of messages."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_client import NEW, OLD, TRAIN, Client

from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder, find_run

TOKEN = "hf_" + "aB3" * 12


def still_there(client: Client) -> None:
    assert client.call("list_runs")["total"] >= 0
    assert client.process.poll() is None


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "train.yaml").write_text(json.dumps({"kind": "train", **TRAIN}))
    (folder / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\ndef f(*a): ...\n")
    return folder


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("train", {"spec": "../outside/train.yaml"}),
        ("train", {"spec": "OUTSIDE/train.yaml"}),
        ("train", {"spec": "link/train.yaml"}),
        ("train", {"spec": "/proc/self/environ"}),
        ("train", {"fields": {**TRAIN, "dataset": "OUTSIDE/rows.jsonl"}}),
        ("train", {"fields": {**TRAIN, "dataset": [{"source": "link/rows.jsonl"}]}}),
        ("train", {"fields": {**TRAIN, "callbacks": ["../outside/code.py:f"]}}),
        ("train", {"fields": {**TRAIN, "engine": {"deepspeed": "OUTSIDE/train.yaml"}}}),
        ("train", {"fields": {**TRAIN, "engine.media_dir": "/etc"}}),
        ("evaluate", {"models": ["OUTSIDE"], "tasks": ["arithmetic"]}),
        ("evaluate", {"models": ["builtin:tiny"], "tasks": ["OUTSIDE/code.py@f"]}),
        ("evaluate", {"models": ["builtin:tiny"], "tasks": ["gsm8k"], "fields": {"data": "OUTSIDE"}}),
        ("evaluate", {"tasks": ["arithmetic"], "fields": {"lm": "link/code.py:f"}}),
        ("record_recent_changes", {"summary": "x", "files": ["../outside/code.py"]}),
        ("record_recent_changes", {"summary": "x", "files": ["link/code.py"]}),
    ],
)
def test_paths_outside_the_workspace(
    desk: Workspace, connect: Callable[..., Client], outside: Path, tool: str, arguments: dict[str, Any]
) -> None:
    (desk.path / "link").symlink_to(outside)
    client = connect(NEW)
    given = json.loads(json.dumps(arguments).replace("OUTSIDE", str(outside)))
    assert "outside the workspace" in client.error(tool, **given)
    still_there(client)
    assert not list(desk.path.glob("runs/*-*"))
    assert not (outside / "ran").exists()


def test_a_folder_that_the_settings_allow_may_be_used(
    desk: Workspace, connect: Callable[..., Client], outside: Path
) -> None:
    settings = json.loads(desk.settings_file.read_text())
    desk.settings_file.write_text(json.dumps({**settings, "allowed_paths": [str(outside)]}))
    client = connect(NEW)
    run = client.call("train", spec=str(outside / "train.yaml"), fields={"dataset": str(outside / "rows.jsonl")})
    assert (seen := client.wait(run["runs"][0]["id"]))["state"] == "succeeded", seen


def test_shell_metacharacters_run_nothing(desk: Workspace, client: Client) -> None:
    trace = desk.path / "trace"
    evil = f"$(touch {trace}); `touch {trace}` | touch {trace} && touch '{trace}' \n touch {trace}"
    for fields in ({**TRAIN, "model": evil}, {**TRAIN, "dataset": evil}, {**TRAIN, "name": evil}, {evil: evil}):
        client.error("train", fields=fields)
    client.error("train", spec=evil)
    client.error("train", example=evil)
    client.error("evaluate", models=[evil], tasks=[evil])
    client.error("run_status", run_id=evil[:150])
    run = client.call("train", fields={**TRAIN, "engine": {"template": evil}})["runs"][0]["id"]
    client.wait(run)
    client.call("record_recent_changes", summary=evil)
    client.call("run_logs", run_id=run, mode="grep", text=evil[:400])
    assert not trace.exists()


def test_five_megabytes_of_arguments(client: Client) -> None:
    large = "x" * 5_000_000
    assert "1000000 are the most" in client.error("train", fields={**TRAIN, "engine": {"template": large}})
    assert "characters" in client.error("record_recent_changes", summary=large)
    assert "characters" in client.error("run_status", run_id=large)
    deep: Any = "x"
    for _ in range(500):
        deep = {"a": deep}
    client.begin("tools/call", name="train", arguments={"fields": {"engine": deep}})  # too deep for the parser
    still_there(client)


def test_a_log_with_anything_in_it(client: Client, ended: Callable[..., RunFolder], monkeypatch: Any) -> None:
    run = ended()
    log = run.attempt(1).stderr
    with open(log, "wb") as file:
        file.write(b"\xff\xfe\x00\x01binary\n\x1b[31mred\x1b[0m\n")
        file.write(f"token {TOKEN}\nOPENAI_API_KEY=sk-proj-abcdefghijklmnop1234\n\x1b[1m{TOKEN}\n".encode())
        file.seek(2_000_000_000)
        file.write(b" " + TOKEN.encode() + b" the end")
    for arguments in (
        {},
        {"mode": "tail", "response_format": "detailed"},
        {"mode": "window", "offset": 1_000_000_000},
        {"mode": "window", "lines": 500},
        {"mode": "grep", "text": "token|red|the end"},
    ):
        result = client.ask("tools/call", name="run_logs", arguments={"run_id": run.id, **arguments})
        told = json.dumps(result, ensure_ascii=False)
        assert not result.get("isError"), told
        assert "aB3aB3" not in told
        assert "sk-proj" not in told
        assert "\\u001b" not in told
        assert len(told) < 20_500
    assert "red" in client.text("run_logs", run_id=run.id, mode="window", lines=3)


def test_secrets_of_the_environment_are_masked(desk: Workspace, connect: Callable[..., Client], ended: Any) -> None:
    run = ended()
    run.attempt(1).stderr.write_text("the key is correct-horse-battery-staple\n")
    client = connect(NEW, env={"MY_SERVICE_KEY": "correct-horse-battery-staple"})
    assert "the key is ********" in client.text("run_logs", run_id=run.id)
    assert "correct-horse" not in client.error("run_status", run_id="correct-horse-battery-staple")


def test_a_run_of_another_workspace(client: Client) -> None:
    for tool in ("run_status", "run_logs", "run_cancel", "run_resume"):
        assert "there is no run" in client.error(tool, run_id="train-elsewhere-261120-1830-k3f")
    for wrong in ("../runs", "/", ".", "..", "runs/x", "*"):
        assert "there is no run" in client.error("run_status", run_id=wrong)


def test_agents_md_in_every_state(desk: Workspace, client: Client) -> None:
    notes = desk.path / "AGENTS.md"
    notes.write_bytes("\ufeff# A\r\n\r\n## Recent changes\r\n".encode())
    client.call("record_recent_changes", summary="x")
    assert b"\r\n- " in notes.read_bytes()
    assert notes.read_bytes().count(b"\n") == notes.read_bytes().count(b"\r\n")
    notes.chmod(0o444)
    assert "chmod u+w" in client.error("record_recent_changes", summary="y")
    notes.unlink()
    notes.mkdir()
    assert "is a folder" in client.error("record_recent_changes", summary="y")
    assert "is a folder" in client.error("set_current_tasks", tasks=["y"])
    still_there(client)


def test_a_client_that_vanishes_in_the_middle_of_a_call(connect: Callable[..., Client]) -> None:
    slow = {**TRAIN, "engine": {"pause": 0.2, "max_steps": 300}}
    client = connect(OLD)
    run = client.call("train", fields=slow)["runs"][0]["id"]
    client.begin("tools/call", name="run_status", arguments={"run_id": run, "wait_seconds": 300})
    client.begin("tools/call", name="train", arguments={"fields": {**slow, "seed": 9}, "dry_run": True})
    time.sleep(0.3)
    start = time.monotonic()
    assert client.close() == 0
    assert time.monotonic() - start < 10
    other = connect(NEW)
    assert other.call("run_status", run_id=run)["state"] in ("preparing", "waiting", "running")
    other.call("run_cancel", run_id=run)
    assert other.wait(run)["state"] == "cancelled"


def test_a_cancelled_call_leaves_the_server_free(client: Client, ended: Callable[..., RunFolder]) -> None:
    run = client.call("train", fields={**TRAIN, "engine": {"pause": 0.2, "max_steps": 300}})["runs"][0]["id"]
    number = client.begin("tools/call", name="run_status", arguments={"run_id": run, "wait_seconds": 300})
    client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}})
    still_there(client)
    client.call("run_cancel", run_id=run)
    client.wait(run)


def test_what_a_worker_prints_stays_out_of_the_stream(desk: Workspace, client: Client) -> None:
    noise = 'def run(job):\n    print(\'{"jsonrpc": "2.0", "id": 1, "result": {}}\', flush=True)\n'
    for worker in desk.path.glob("sources/tuneyard/*/__main__.py"):
        worker.write_text(worker.read_text().replace("def run(job):\n", noise))
    run = client.call("train", fields=TRAIN)["runs"][0]["id"]
    assert client.wait(run)["state"] in ("succeeded", "failed")
    assert '"jsonrpc"' in client.text("run_logs", run_id=run, stream="stdout")
    still_there(client)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        b"[1, 2, 3]",
        b"{}",
        b'"text"',
        b'{"jsonrpc": "2.0"}',
        b'{"jsonrpc": "1.0", "id": 99, "method": "ping"}',
        b'{"jsonrpc": "2.0", "id": {"a": 1}, "method": "ping"}',
        b'{"jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": []}',
        b'{"jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": {"name": 5}}',
        b'{"jsonrpc": "2.0", "id": 99, "method": "no/such"}',
        b'{"jsonrpc": "2.0", "id": 99, "result": {}}',
        b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 12345}}',
        b'{"jsonrpc": "2.0", "method": "notifications/no-such"}',
        b"{" * 100_000,
        b'{"jsonrpc": "2.0", "id": 99, "method": "ping", "params": {"limit": 1e999}}',
        b'{"jsonrpc": "2.0", "id": 99, "method": "ping", "params": {"limit": NaN}}',
    ],
)
def test_messages_that_are_none(client: Client, line: bytes) -> None:
    still_there(client)
    client.send(line)
    still_there(client)


def test_a_killed_server_leaves_its_runs_to_the_next(connect: Callable[..., Client]) -> None:
    client = connect(OLD)
    run = client.call("train", fields={**TRAIN, "engine": {"pause": 0.1, "max_steps": 20}})["runs"][0]["id"]
    os.killpg(client.process.pid, signal.SIGKILL)
    client.process.wait()
    assert (seen := connect(NEW).wait(run))["state"] == "succeeded", seen


def test_a_run_whose_supervisor_died_is_lost_and_never_running(desk: Workspace, connect: Callable[..., Client]) -> None:
    client = connect(NEW)
    run = client.call("train", fields={**TRAIN, "engine": {"pause": 0.2, "max_steps": 300}})["runs"][0]["id"]
    while client.call("run_status", run_id=run, wait_seconds=20)["state"] != "running":
        pass
    attempt = find_run(desk.runs, run).latest()
    assert attempt is not None
    record = attempt.read_supervisor()
    assert record is not None
    parent = int(Path(f"/proc/{record['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in {record["pid"], parent} - {1, os.getpid(), client.process.pid}:
        os.kill(pid, signal.SIGKILL)
    seen = client.wait(run)
    assert seen["state"] == "lost"
    assert "run_resume" in seen["next"][1]
    assert client.call("list_runs", states=["running"])["total"] == 0
