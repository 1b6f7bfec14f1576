"""`yard record`, as a person, a hook or CI calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("INIT_CWD", "PIXI_PROJECT_ROOT")},
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


class Checkout:
    """A workspace under git."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", "-C", self.path, *arguments], check=True, capture_output=True, env=ENVIRONMENT)

    def record(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tuneyard.control.cli", "record", *arguments]
        variables = {**ENVIRONMENT, "TUNEYARD_WORKSPACE": str(self.path)}
        return subprocess.run(command, cwd=cwd or self.path, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    made.git("init", "-q")
    (tmp_path / "pixi.toml").touch()
    (tmp_path / ".gitignore").write_text("runs/\n")
    made.git("add", "-A")
    made.git("commit", "-q", "-m", "x")
    return made


def test_an_entry_is_written_with_files_from_where_one_stands(checkout: Checkout) -> None:
    (checkout.path / "sub").mkdir()
    done = checkout.record("Add b", "--files", "b.py", "../a.py", cwd=checkout.path / "sub")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("AGENTS.md: ")
    assert (checkout.path / "AGENTS.md").read_text().endswith(": Add b (files: sub/b.py, a.py)\n")


def test_json_tells_what_moved(checkout: Checkout) -> None:
    for number in range(5):
        checkout.record(f"change {number}")
    told = json.loads(checkout.record("change 5", "--json").stdout)
    assert told["added"] is True
    assert told["moved"][0].endswith(": change 0")


def test_the_check_fails_until_there_is_an_entry(checkout: Checkout) -> None:
    (checkout.path / "a.py").touch()
    done = checkout.record("--check")
    assert done.returncode == 1
    assert "a.py" in done.stdout
    assert "yard record" in done.stdout
    assert json.loads(checkout.record("--check", "--json").stdout) == {
        "recorded": False,
        "files": [".gitignore", "a.py", "pixi.toml"],
    }
    assert checkout.record("Add a").returncode == 0
    assert checkout.record("--check").returncode == 0


def test_documents_alone_pass_the_check(checkout: Checkout) -> None:
    checkout.record("Begin")
    checkout.git("add", "-A")
    checkout.git("commit", "-q", "-m", "x")
    (checkout.path / "README.md").write_text("new")
    assert checkout.record("--check").returncode == 0


def test_a_draft_is_offered(checkout: Checkout) -> None:
    checkout.record("Begin")
    checkout.git("add", "-A")
    checkout.git("commit", "-q", "-m", "x")
    (checkout.path / "tool.py").write_text("1\n2\n")
    assert checkout.record("--draft").stdout == "tool.py: +2 -0\n"
    assert json.loads(checkout.record("--draft", "--json").stdout) == {
        "summary": "tool.py: +2 -0",
        "files": ["tool.py"],
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "there is no summary"),
        (["x", "--check"], 2, "one of a summary"),
        (["x", "--files", "/etc/passwd"], 2, "outside the workspace"),
        (["x", "--run", "train-none-261120-1830-k3f"], 2, "there is no run"),
        ([""], 2, "empty"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_written(
    checkout: Checkout, arguments: list[str], code: int, message: str
) -> None:
    done = checkout.record(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (checkout.path / "AGENTS.md").exists()


def test_errors_are_json_too(checkout: Checkout) -> None:
    (checkout.path / "AGENTS.md").mkdir()
    done = checkout.record("x", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["message"] == "is a folder"
