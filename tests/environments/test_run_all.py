"""The driver of the tests counts what happened, and lets nothing pass that did not run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import pytest

def test_passes(): pass
def test_fails(): assert False
def test_skips(): pytest.skip("no such tool")
@pytest.fixture
def broken(): raise OSError
def test_errors(broken): pass
"""


@pytest.fixture
def driver() -> Any:
    spec = importlib.util.spec_from_file_location("run_all", ROOT / "tests" / "run_all.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_all"] = module
    spec.loader.exec_module(module)
    return module


def outcome(driver: Any, folder: Path, strict: bool = False, *options: str) -> Any:
    (folder / "test_small.py").write_text(TESTS)
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={folder}",
        str(folder),
        *options,
    )
    return driver.run(driver.Part("small", (command,), is_pytest=True), strict)[:3]


def test_failures_errors_and_skips_are_counted(driver: Any, tmp_path: Path) -> None:
    assert outcome(driver, tmp_path) == (1, 2, 1)


def test_in_ci_a_skip_fails_unless_its_reason_is_listed(
    driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outcome(driver, tmp_path, True, "-k", "passes or skips") == (1, 1, 0)
    (tmp_path / "allowed.txt").write_text("# why\nno such tool\n")
    monkeypatch.setattr(driver, "ALLOWED_SKIPS", tmp_path / "allowed.txt")
    assert outcome(driver, tmp_path, True, "-k", "passes or skips") == (1, 0, 1)


def test_collecting_nothing_is_a_failure(driver: Any, tmp_path: Path) -> None:
    assert outcome(driver, tmp_path, False, "-k", "nothing_like_this") == (0, 1, 0)


def test_a_pytest_that_cannot_start_is_a_failure(driver: Any) -> None:
    command = (sys.executable, "-c", "raise SystemExit(3)")
    assert driver.run(driver.Part("small", (command,), is_pytest=True), False)[:3] == (0, 1, 0)


def test_each_command_of_a_part_counts(driver: Any) -> None:
    commands = tuple((sys.executable, "-c", f"raise SystemExit({code})") for code in (0, 1, 0))
    assert driver.run(driver.Part("small", commands), False)[:3] == (2, 1, 0)


def test_a_failure_ends_with_exit_code_one_and_the_plain_line(
    driver: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = ((sys.executable, "-c", f"raise SystemExit({code})") for code in (0, 1))
    monkeypatch.setattr(driver, "parts", lambda: [driver.Part("a", (good,), is_fast=True), driver.Part("b", (bad,))])
    assert driver.main([]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"
    assert driver.main(["--fast"]) == 0
    assert driver.main(["--only", "b"]) == 1


def test_parts_run_beside_one_another_and_their_lines_tell_whose_they_are(
    driver: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def meets(mine: str, other: str) -> tuple[str, ...]:
        code = f"""import pathlib, time
pathlib.Path({str(tmp_path / mine)!r}).touch()
while not pathlib.Path({str(tmp_path / other)!r}).exists(): time.sleep(0.01)
print("I am {mine}")"""
        return sys.executable, "-c", code

    parts = [driver.Part("one", (meets("one", "two"),)), driver.Part("two", (meets("two", "one"),))]
    monkeypatch.setattr(driver, "parts", lambda: parts)
    assert driver.main([]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "one          I am one" in printed
    assert "two          I am two" in printed
    assert [line.split()[0] for line in printed[-5:-2]] == ["part", "one", "two"]


def test_nothing_runs_beside_a_part_that_is_alone(driver: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"""import time
for word in ("begins", "ends"):
    open({str(log)!r}, "a").write(word + chr(10)); time.sleep(0.2)"""
    command = (sys.executable, "-c", code)
    parts = [driver.Part(name, (command,), is_alone=True) for name in ("first", "second")]
    monkeypatch.setattr(driver, "parts", lambda: parts)
    assert driver.main([]) == 0
    assert log.read_text().split() == ["begins", "ends"] * 2


def test_nothing_runs_after_environments_that_could_not_be_built(
    driver: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = (sys.executable, "-c", "raise SystemExit(3)")
    after = (sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')")
    parts = [driver.Part("environments", (bad,), is_alone=True), driver.Part("fast", (after,))]
    monkeypatch.setattr(driver, "parts", lambda: parts)
    assert driver.main([]) == 1
    assert not (tmp_path / "ran").exists()


def test_every_package_is_tested_somewhere(driver: Any) -> None:
    words = [word for part in driver.parts() for command in part.commands for word in command]
    assert {f"packages/{path.name}" for path in (ROOT / "packages").iterdir()} <= set(words)


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    command = [sys.executable, str(ROOT / "tests" / "run_all.py"), "--only", "fats"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "fast" in done.stderr
