"""Studies over MCP: what they would run, running one apart from the server, its report; paths kept inside."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from tuneyard.control.workspace import Workspace

if TYPE_CHECKING:
    from raw_client import Client

BASE = {
    "kind": "train",
    "model": "builtin:tiny",
    "dataset": {"source": "builtin:arithmetic", "digits": 2, "size": 20},
    "engine": {"max_steps": 2},
}


@pytest.fixture
def experiment(desk: Workspace) -> Path:
    folder = desk.path / "study"
    folder.mkdir()
    path = folder / "experiment.yaml"
    write(path)
    return path


def write(path: Path, **changes: Any) -> None:
    content = {
        "experiment": {"name": "rank", "question": "Does rank matter?"},
        "base": BASE,
        "variables": {"lora_rank": [8, 16]},
        "evaluation": {"tasks": ["arithmetic"], "limit": 5},
        **changes,
    }
    path.write_text(json.dumps(content))


def test_a_study_is_planned_run_and_reported(client: Client, experiment: Path) -> None:
    plan = client.call("plan_study", experiment="study/experiment.yaml")
    assert (plan["trainings"], plan["evaluations"]) == (2, 3)
    assert any("lora_alpha" in warning for warning in plan["warnings"])
    assert any("one seed" in warning for warning in plan["warnings"])
    assert not (experiment.parent / "study.jsonl").exists()
    started = client.call("run_study", experiment="study")
    assert started["next"] == ['study_report(experiment="study")']
    deadline = time.monotonic() + 120
    while (told := client.call("study_report", experiment="study"))["counts"] != {"succeeded": 5}:
        assert time.monotonic() < deadline, told
        time.sleep(0.5)
    assert "report.html" in told["files"][0]
    assert Path(told["files"][0]).is_file()
    detailed = client.ask(
        "tools/call", name="study_report", arguments={"experiment": "study", "response_format": "detailed"}
    )
    tools = {tool["name"]: tool for tool in client.ask("tools/list")["tools"]}
    jsonschema.validate(detailed["structuredContent"], tools["study_report"]["outputSchema"])
    assert detailed["structuredContent"]["tables"]


@pytest.mark.parametrize(
    "changes",
    [
        {"base": "/etc/passwd"},
        {"base": {**BASE, "dataset": "/etc/passwd"}},
        {"variables": {"dataset": ["/etc/passwd", "/etc/group"]}},
        {"evaluation": {"tasks": ["/etc/mine.py@mine"]}},
        {"evaluation": {"tasks": [{"task": "arithmetic", "arguments": {"data": "/etc/passwd"}}]}},
        {"output": {"results_dir": "/etc/results"}},
        {"output": {"report_dir": "../../elsewhere"}},
    ],
    ids=str,
)
def test_a_study_keeps_to_the_workspace(client: Client, experiment: Path, changes: dict[str, Any]) -> None:
    write(experiment, **changes)
    for tool in ("plan_study", "run_study", "study_report"):
        assert "outside the workspace" in client.error(tool, experiment="study/experiment.yaml")
    assert "outside the workspace" in client.error("plan_study", experiment="/etc/experiment.yaml")
