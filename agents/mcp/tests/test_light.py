"""The server is light and thin: it imports control, doctor and core, no engine, and no tool before it is asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from raw_client import ROOT

SOURCE = ROOT / "agents" / "mcp" / "src" / "tuneyard" / "mcp"
HEAVY = {"torch", "transformers", "llamafactory", "lm_eval", "inspect_ai", "vllm", "peft", "datasets", "accelerate"}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_the_server_imports_light_packages_alone() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 15
    for path in files:
        names = imported(path)
        assert not {name.split(".")[0] for name in names} & HEAVY, path
        ours = {name.split(".")[1] for name in names if name.startswith("tuneyard.")}
        assert ours <= {"core", "control", "doctor", "study", "mcp"}, path


def test_starting_imports_no_tool_and_none_of_their_needs() -> None:
    code = "import sys, tuneyard.mcp.server, tuneyard.mcp.stdio; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {name for name in loaded if name.startswith("tuneyard.mcp.tools.")}
    assert not loaded & {"tuneyard.control.resolving.resolve", "tuneyard.doctor.examination", "pyarrow", *HEAVY}
