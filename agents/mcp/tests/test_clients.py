"""Clients that nobody here wrote do a whole round: the official Inspector's command line, and the TypeScript client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from raw_client import TRAIN

from tuneyard.control.workspace import Workspace

pytestmark = pytest.mark.slow


class Inspector:
    """`mcp-inspector --cli`: one request for each command, a new server every time."""

    def __init__(self, clients: Path, workspace: Workspace, era: str) -> None:
        self._programs = clients / "node_modules" / ".bin"
        self._workspace = workspace
        self._era = era

    def __call__(self, *words: str) -> Any:
        command = [
            *(str(self._programs / "mcp-inspector"), "--cli", "--protocol-era", self._era, "--format", "json", "-q"),
            *(word for variable in self._variables() for word in ("-e", variable)),
            *words,
            "--",
            *(sys.executable, "-m", "tuneyard.mcp"),
        ]
        environment = {**os.environ, "PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout)

    def _variables(self) -> list[str]:
        """What the server's process needs; the Inspector passes nothing else on."""
        names = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TUNEYARD_LEASES", "HF_ENDPOINT")
        given = [f"{name}={os.environ[name]}" for name in names]
        return [f"TUNEYARD_WORKSPACE={self._workspace.path}", *given]

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        words = ("--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        return self(*words)["result"]["structuredContent"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_does_a_whole_round(clients: Path, desk: Workspace, era: str) -> None:
    inspector = Inspector(clients, desk, era)
    assert len(inspector("--method", "tools/list", "--strict")["result"]["tools"]) == 19
    run = inspector.call("train", fields=TRAIN)["runs"][0]["id"]
    ended = {"wait_seconds": 50, "wait_for": "end"}
    assert inspector.call("run_status", run_id=run, **ended)["state"] == "succeeded"
    assert inspector.call("run_logs", run_id=run)["size"] >= 0
    scored = [inspector.call("evaluate", models=[run], tasks=["arithmetic"], fields={"dtype": d}) for d in ("3", "7")]
    a, b = (answer["runs"][0]["id"] for answer in scored)
    for evaluation in (a, b):
        assert inspector.call("run_status", run_id=evaluation, **ended)["state"] == "succeeded"
    assert inspector.call("compare_runs", a=a, b=b)["differences"][0]["difference"] == pytest.approx(0.4)
    assert inspector.call("record_recent_changes", summary="A round", run_ids=[run])["added"]
    assert f"A round (runs: {run})" in (desk.path / "AGENTS.md").read_text()


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
def test_the_typescript_client_does_a_whole_round(clients: Path, desk: Workspace, era: str) -> None:
    script = clients / "round_trip.mjs"  # beside the packages that it imports
    shutil.copy(Path(__file__).parent / "clients" / "round_trip.mjs", script)
    command = ["node", str(script), era, sys.executable]
    environment = {**os.environ, "TUNEYARD_WORKSPACE": str(desk.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert len(told["tools"]) == 19
    assert (told["state"], told["difference"]) == ("succeeded", pytest.approx(0.4))
    assert "did you mean 'run_id'?" in told["refused"]
    assert "A round in TypeScript" in (desk.path / "AGENTS.md").read_text()
