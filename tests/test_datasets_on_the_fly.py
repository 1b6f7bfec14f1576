"""Data that exist only at run time train a model: from a Python generator, through a pipe, in an agent's call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Yard

from tuneyard.control import launch
from tuneyard.core.run_folder import RunFolder, find_run

pytestmark = pytest.mark.slow

GENERATOR = """
def questions(count):
    for number in range(count):
        print("working on", number)
        yield {"Frage": f"What follows {number}?", "Antwort": str(number + 1)}
"""

TRAIN = {
    "model": "builtin:tiny",
    "engine": {
        "stage": "sft",
        "finetuning_type": "full",
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "cutoff_len": 128,
    },
}


def trained(yard: Yard, folder: Path) -> RunFolder:
    """The run that trained on a dataset folder in the foreground; it must succeed."""
    dataset = {"source": str(folder), "name": "train"}
    spec = folder.with_suffix(".yaml")
    spec.write_text(json.dumps({"kind": "train", **TRAIN, "dataset": dataset}))
    return yard.run(spec)[0]


def asked(yard: Yard, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool of the MCP server answers to one call; it must succeed."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}},
    ]
    server = subprocess.Popen(
        [sys.executable, "-m", "tuneyard.mcp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=yard.environment(),
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server:
        server.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        server.stdin.flush()
        answers = (json.loads(line) for line in server.stdout)
        answer = next(answer for answer in answers if answer.get("id") == 2)
        server.stdin.close()
    assert not answer["result"].get("isError"), answer
    return answer["result"]["structuredContent"]


def check_run(run: RunFolder, rows: int, question: str) -> None:
    """It learned from these rows: what it was given, and steps whose loss was measured."""
    attempt = run.latest()
    assert attempt is not None
    result = attempt.read_result()
    assert result is not None, attempt.stderr.read_text()[-2000:]
    assert result["status"] == "succeeded"
    [entry] = json.loads(run.data_manifest.read_text())["datasets"]
    assert entry["rows"] == rows
    assert question in (run.data / entry["file"]).read_text()
    assert result["metrics"]["train_loss"]["value"] > 0
    assert (run.path / "artifacts" / "model" / "model.safetensors").is_file()


def test_a_generator_a_pipe_and_an_agent_each_train_a_model(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "make.py").write_text(GENERATOR)
    columns = ["--columns", "prompt=Frage", "--columns", "response=Antwort"]
    generated = yard(
        "dataset", "build", tmp_path / "make.py:questions", "count=30", *columns, "--out", "made", "--json"
    )
    assert generated.code == 0, generated.out + generated.err
    assert generated.json["rows"] == 30

    rows = [{"question": f"Is {n} even?", "answer": "yes" if n % 2 == 0 else "no"} for n in range(30)]
    lines = "".join(json.dumps(row) + "\n" for row in [*rows, rows[0]])
    command = [yard.executable, "dataset", "build", "-", "--out", "piped", "--json"]
    piped = subprocess.run(
        command, input=lines, text=True, cwd=yard.workspace, env=yard.environment(), capture_output=True, check=True
    )
    assert (json.loads(piped.stdout)["rows"], json.loads(piped.stdout)["duplicates"]) == (30, 1)

    messages = [[{"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": str(n)}] for n in range(12)]
    built = asked(yard, "build_dataset", records=[{"messages": turns} for turns in messages], out="talked")
    assert (built["rows"], built["format"]) == (12, "sharegpt")

    check_run(trained(yard, Path(generated.json["folder"])), 30, "What follows 7?")
    check_run(trained(yard, yard.workspace / "piped"), 30, "Is 7 even?")
    check_run(trained(yard, Path(built["folder"])), 12, "Say 7")

    records = [{"problem": f"{n}!", "solution": "?"} for n in range(12)]
    told = asked(yard, "train", fields=TRAIN, records=records)
    run = find_run(yard.runs, told["runs"][0]["id"])
    assert asked(yard, "run_status", run_id=run.id, wait_seconds=50)["state"] in ("running", "preparing", "succeeded")
    assert launch.wait(run, 300).state == "succeeded"
    check_run(run, 12, "7!")
