"""Pasted install commands: what their author meant, and what a shell makes of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import RequestError
from tuneyard.doctor.compatibility.install_command import InstallCommand, read_install_command, written_files


def read(text: str) -> InstallCommand:
    command = read_install_command(text)
    assert command is not None
    return command


def test_bounds_without_quotes_are_redirections() -> None:
    command = read("pip install trl>=0.8.6,<=0.9.6")
    assert command.meant == ["trl>=0.8.6,<=0.9.6"]
    assert command.writes == ["=0.8.6,"]
    assert command.reads == ["=0.9.6"]
    assert command.quoted() == "pip install 'trl>=0.8.6,<=0.9.6'"
    assert "writes a file named '=0.8.6,'" in command.explain()


def test_a_shell_does_what_is_said_of_it(tmp_path: Path) -> None:
    command = read("pip install peft>=0.14")
    script = f'pip() {{ echo "$@" >&2; }}; {command.text}'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert [path.name for path in tmp_path.iterdir()] == command.writes == written_files(tmp_path)
    assert done.stderr.split() == ["install", "peft"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('pip install "trl>=0.8.6,<=0.9.6" peft', ["trl>=0.8.6,<=0.9.6", "peft"]),
        ("$ python3 -m pip install -U 'x[y,z]>1' a==2  # both", ["x[y,z]>1", "a==2"]),
        ("!uv pip install --index-url https://example.org/simple a", ["a"]),
        ("uv add a\\>1", ["a>1"]),
        ("pip install a && pip install b", ["a"]),
        ("pip install a > log.txt 2>&1", ["a"]),
    ],
)
def test_commands_that_are_right(text: str, meant: list[str]) -> None:
    command = read(text)
    assert command.meant == meant
    assert not command.misread


def test_requirements_files_are_named() -> None:
    assert read("pip install -r requirements.txt vllm").files == ["requirements.txt"]


@pytest.mark.parametrize("text", ["pip uninstall trl", "see pip install", "installing trl", ""])
def test_other_lines_are_no_commands(text: str) -> None:
    assert read_install_command(text) is None


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(RequestError, match="quote is not closed"):
        read_install_command("pip install 'trl>=1")


def test_only_files_of_such_commands_are_found(tmp_path: Path) -> None:
    for name in ("=0.8.6,", "==", "=a", "x=1", "=2"):
        (tmp_path / name).touch()
    assert written_files(tmp_path) == ["=0.8.6,", "=2"]
    assert written_files(tmp_path / "missing") == []


requirements = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z](>=|<|==|<=)[0-9]\.[0-9]{1,2}(,<[0-9]{1,2})?", fullmatch=True)


@given(st.lists(requirements, min_size=1, max_size=4))
def test_what_is_quoted_by_us_is_read_back_and_not_misread(wanted: list[str]) -> None:
    bare = read("pip install " + " ".join(wanted))
    assert bare.meant == wanted
    again = read(bare.quoted())
    assert again.meant == wanted
    assert not again.misread
