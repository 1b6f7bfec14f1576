"""What an agent finds in a fresh clone: how to start the server, skills, sub-agents, a hook; all of it as it works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from raw_client import ROOT

from tuneyard.control.workspace import Workspace
from tuneyard.mcp.tools import TOOLS

SKILLS = sorted((ROOT / "agents" / "skills").glob("*/SKILL.md"))
DEFINITIONS = sorted((ROOT / "agents" / "definitions").glob("*.md"))
HOOK = ROOT / "agents" / "hooks" / "record_changes.py"
PAGE = ROOT / "docs" / "agents.md"
TEXTS = [*SKILLS, *DEFINITIONS, PAGE]


def front_matter(path: Path) -> dict[str, Any]:
    _, head, _ = path.read_text().split("---\n", 2)
    return yaml.safe_load(head)


@pytest.mark.parametrize("path", SKILLS, ids=lambda p: p.parent.name)
def test_a_skill_has_portable_front_matter_and_is_linked(path: Path) -> None:
    head = front_matter(path)
    assert set(head) == {"name", "description"}
    assert head["name"] == path.parent.name
    assert 50 < len(head["description"]) < 1024
    link = ROOT / ".claude" / "skills" / path.parent.name
    assert link.is_symlink() and link.resolve() == path.parent


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda p: p.stem)
def test_a_sub_agent_has_portable_front_matter_and_is_linked(path: Path) -> None:
    head = front_matter(path)
    assert set(head) == {"name", "description"}
    assert head["name"] == path.stem
    link = ROOT / ".claude" / "agents" / path.name
    assert link.is_symlink() and link.resolve() == path


def test_there_are_the_skills_and_sub_agents_that_are_promised() -> None:
    assert {path.parent.name for path in SKILLS} == {"train-and-evaluate", "diagnose", "write-up"}
    assert {path.stem for path in DEFINITIONS} == {"trainer", "run-doctor", "evaluator"}


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_call_that_is_written_down_names_a_tool_and_its_arguments(path: Path) -> None:
    for name, arguments in re.findall(r"`(\w+)\(([^`]*)\)", path.read_text()):
        assert name in TOOLS, name
        known = TOOLS[name].arguments.model_fields
        for argument in re.findall(r"(\w+)=", re.sub(r'"[^"]*"|\{[^}]*\}', "", arguments)):
            assert argument in known, f"{name}({argument}=…)"


def test_every_tool_is_on_the_page() -> None:
    page = PAGE.read_text()
    assert all(f"`{name}`" in page for name in TOOLS)


def test_the_settings_on_the_page_can_be_copied() -> None:
    blocks = re.findall(r"```(json|toml)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    for kind, block in blocks:
        json.loads(block) if kind == "json" else tomllib.loads(block)


def test_claude_md_imports_agents_md() -> None:
    assert (ROOT / "CLAUDE.md").read_text().strip() == "@AGENTS.md"


@pytest.mark.slow
@pytest.mark.alone
def test_the_server_starts_from_mcp_json_within_three_seconds() -> None:
    entry = json.loads((ROOT / ".mcp.json").read_text())["mcpServers"]["tuneyard"]
    subprocess.run([entry["command"], "install"], cwd=ROOT, check=True, capture_output=True)
    # twice: a machine may have had something else to do
    taken = min(seconds_to_answer([entry["command"], *entry["args"]]) for _ in range(2))
    print(f"\nstart-up through the launcher: {taken:.2f} s", file=sys.stderr)
    assert taken < 3


def seconds_to_answer(command: list[str]) -> float:
    """From the start of a server to its answer to `initialize`."""
    start = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None and server.stdout is not None
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        server.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}).encode())
        server.stdin.write(b"\n")
        server.stdin.flush()
        told = json.loads(server.stdout.readline())
        taken = time.monotonic() - start
        server.stdin.close()
    assert told["result"]["serverInfo"]["name"] == "tuneyard"
    return taken


def run_hook(workspace: Workspace, *arguments: str, told: dict[str, Any] | None = None) -> tuple[str, str]:
    environment = {**os.environ, "TUNEYARD_WORKSPACE": str(workspace.path)}
    done = subprocess.run(
        [sys.executable, str(HOOK), *arguments],
        input=json.dumps(told or {}),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


def test_the_hook_records_a_draft_where_code_changed_and_nothing_else(desk: Workspace) -> None:
    assert "is no git checkout" in run_hook(desk)[1]
    subprocess.run(["git", "init", "-q", desk.path], check=True)
    (desk.path / "tool.py").write_text("1\n")
    assert "tool.py" in run_hook(desk)[1]
    written = (desk.path / "AGENTS.md").read_text()
    assert "tool.py" in written
    assert run_hook(desk) == ("", "")
    assert (desk.path / "AGENTS.md").read_text() == written


def test_the_hook_asks_the_agent_once(desk: Workspace) -> None:
    subprocess.run(["git", "init", "-q", desk.path], check=True)
    (desk.path / "tool.py").write_text("1\n")
    asked = json.loads(run_hook(desk, "--ask")[0])
    assert asked["decision"] == "block"
    assert "record_recent_changes" in asked["reason"]
    assert not (desk.path / "AGENTS.md").exists()
    run_hook(desk, "--ask", told={"stop_hook_active": True})
    assert "tool.py" in (desk.path / "AGENTS.md").read_text()
