"""uv is told what pip is set to, with pip's meaning: files from general to own, [install] over [global], PIP_*."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a system without any settings."""
    import os

    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "XDG_")) or name == "SSL_CERT_FILE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "system"))
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def own_settings(launcher: Any) -> dict[str, str]:
    """Without /etc/pip.conf, which a test cannot set aside."""
    import configparser

    parser = configparser.RawConfigParser()
    parser.read("/etc/pip.conf")
    shared = {key.replace("_", "-"): value for section in parser.sections() for key, value in parser.items(section)}
    return {key: value for key, value in launcher.pip_settings().items() if shared.get(key) != value}


def test_the_users_file_comes_after_the_systems(launcher: Any, home: Path) -> None:
    write(home / "system/pip/pip.conf", "[global]\nindex-url = https://system.example/simple\ntimeout = 5\n")
    write(home / ".config/pip/pip.conf", "[global]\nindex-url = https://own.example/simple\n")
    assert own_settings(launcher) == {"index-url": "https://own.example/simple", "timeout": "5"}


def test_install_comes_after_global_and_the_environment_after_both(
    launcher: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "[install]\nfind-links = /b\nno_index = true\n[global]\nfind-links = /a\n[download]\ncert = /d\n"
    write(home / ".config/pip/pip.conf", text)
    assert own_settings(launcher) == {"find-links": "/b", "no-index": "true"}
    monkeypatch.setenv("PIP_FIND_LINKS", "/c")
    monkeypatch.setenv("PIP_CERT", "")
    assert own_settings(launcher) == {"find-links": "/c", "no-index": "true"}


def test_a_named_file_comes_last_and_devnull_means_none(
    launcher: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / ".config/pip/pip.conf", "[global]\nindex-url = https://own.example/simple\n")
    named = write(home / "named.conf", "[global]\nindex-url = https://named.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(named))
    assert own_settings(launcher)["index-url"] == "https://named.example/simple"
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert "index-url" not in launcher.pip_settings()


def test_they_reach_uv_under_its_own_names(launcher: Any, home: Path) -> None:
    write(
        home / ".config/pip/pip.conf",
        "[global]\nindex-url = https://own.example/simple\nextra-index-url =\n    file:///a/simple\n    file:///b/simple\n"
        "find-links = /wheels /more\ncert = /own.pem\ntrusted-host = own.example\n",
    )
    environ = launcher.uv_environ()
    assert environ["UV_INDEX_URL"] == "https://own.example/simple"
    assert environ["UV_EXTRA_INDEX_URL"] == "file:///a/simple file:///b/simple"
    assert environ["UV_FIND_LINKS"] == "/wheels,/more"
    assert environ["SSL_CERT_FILE"] == "/own.pem"
    assert environ["UV_INSECURE_HOST"] == "own.example"


def test_what_is_set_for_uv_itself_wins(launcher: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    monkeypatch.setenv("UV_INDEX_URL", "https://uv.example/simple")
    assert launcher.uv_environ()["UV_INDEX_URL"] == "https://uv.example/simple"


def test_a_broken_file_is_named(launcher: Any, home: Path) -> None:
    path = write(home / ".config/pip/pip.conf", "no section = here\n")
    with pytest.raises(launcher.SetupError, match=str(path)):
        launcher.pip_settings()


def test_pip_itself_reads_the_same(launcher: Any, home: Path, tmp_path: Path, uv: str) -> None:
    """Against `pip config list`, where a pip is to be had without an index."""
    write(home / "system/pip/pip.conf", "[global]\ntimeout = 5\nretries = 1\n")
    write(home / ".config/pip/pip.conf", "[global]\ntimeout = 7\n[install]\nretries = 2\n")
    python = getattr(sys, "_base_executable", sys.executable)
    done = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("the base Python has no pip")
    listed = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert listed["global.timeout"].strip("'") == launcher.pip_settings()["timeout"] == "7"
    assert listed["install.retries"].strip("'") == launcher.pip_settings()["retries"] == "2"
