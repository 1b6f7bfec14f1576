"""`./pixiw run`: the manifest's tasks, in the environment they belong to, with the caller's arguments and folder."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Workshop


def test_a_task_gets_its_own_arguments_then_the_callers(ready: Workshop) -> None:
    done = ready.run("run", "tiny", "two words", "it's", 'a "quote"', "ä\n", "--option", "-e")
    assert done.returncode == 0, done.stderr
    expected = ["from the manifest", "two words", "it's", 'a "quote"', "ä\n", "--option", "-e"]
    assert json.loads(done.stdout)["arguments"] == expected


def test_a_task_runs_in_the_workspace_and_knows_where_the_user_stands(ready: Workshop, tmp_path: Path) -> None:
    done = ready.run("run", "tiny", cwd=tmp_path, VIRTUAL_ENV="/somewhere", INIT_CWD="/stale")
    seen = json.loads(done.stdout)
    assert seen["cwd"] == seen["PIXI_PROJECT_ROOT"] == str(ready.root)
    assert seen["INIT_CWD"] == str(tmp_path)
    assert seen["PIXI_ENVIRONMENT_NAME"] == "default"
    assert seen["VIRTUAL_ENV"] is None


def test_a_program_of_the_environment_runs_where_the_user_stands(ready: Workshop, tmp_path: Path) -> None:
    done = ready.run("run", "python", "-c", "import os, sys; print(os.getcwd(), sys.prefix)", cwd=tmp_path)
    assert done.stdout == f"{tmp_path} {ready.builds('default')[0]}\n"


def test_the_launcher_speaks_on_stderr_only_and_in_one_line(ready: Workshop) -> None:
    done = ready.run("run", "python", "-c", "print('mine')")
    assert done.stdout == "mine\n"
    assert done.stderr == "pixiw: environment 'default' by uv\n"


def test_the_task_takes_the_launchers_place_so_that_signals_reach_it(ready: Workshop) -> None:
    process = ready.start("run", "python", "-uc", "import os, time; print(os.getpid()); time.sleep(60)")
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    process.terminate()
    assert process.wait(timeout=10) == -signal.SIGTERM


def test_the_exit_code_is_the_tasks(ready: Workshop) -> None:
    assert ready.run("run", "python", "-c", "raise SystemExit(7)").returncode == 7


def test_a_task_that_one_environment_has_needs_no_e(workshop: Workshop) -> None:
    done = workshop.run("run", "leaf")
    assert done.returncode == 0, done.stderr
    assert "environment 'extra'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "tinny"], 2, "did you mean 'tiny'?"),
        (["run", "xyz"], 2, "./pixiw task list"),
        (["run"], 2, "run what?"),
        (["run", "shared"], 2, "-e extra or -e mac"),
        (["run", "-e", "extra", "-e", "mac", "tiny"], 2, "one environment"),
        (["run", "-e", "trian", "tiny"], 2, "there is no environment 'trian'; there are default, extra, mac"),
        (["run", "-e"], 2, "wants the name"),
        (["run", "--frozen", "tiny"], 2, "no option --frozen"),
        (["run", "-e", "mac", "tiny"], 3, "not made for this machine"),
        (["install", "default"], 2, "install takes no 'default'"),
        (["task", "add"], 2, "task list"),
        (["shell"], 2, "no command 'shell' without pixi"),
    ],
)
def test_a_wrong_request_is_answered_with_the_way_out(
    ready: Workshop, arguments: list[str], code: int, says: str
) -> None:
    done = ready.run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_task_list_shows_every_task_with_its_environment(workshop: Workshop) -> None:
    lines = workshop.run("task", "list").stdout.splitlines()
    assert lines[:2] == ["default:", "  tiny         prints its arguments"]
    assert "  leaf         only here" in lines[lines.index("extra:") : lines.index("mac:")]


def test_info_says_what_is_built_and_what_is_not(ready: Workshop) -> None:
    lines = dict(line.split(maxsplit=1) for line in ready.run("info").stdout.splitlines())
    assert lines["platform"].startswith("linux-64-cpu" if sys.platform == "linux" else "osx-arm64")
    assert lines["default"].startswith(str(ready.root / ".pixi" / "uv" / "default"))
    assert lines["extra"] == "not built: ./pixiw install -e extra"
    assert "not made for this machine" in lines["mac"]


def test_a_start_with_nothing_changed_costs_little(ready: Workshop) -> None:
    """At most a few starts of Python: 0.03 s where one takes 0.012 s, and the bound moves with the machine."""
    python = [str(ready.root / ".pixi" / "uv" / "default" / "bin" / "python"), "-I", "-c", "pass"]
    launched = [str(ready.root / "pixiw"), "run", *python]
    seconds: dict[str, list[float]] = {"plain": [], "launched": []}
    for _ in range(9):
        for name, command in (("plain", python), ("launched", launched)):
            started = time.perf_counter()
            subprocess.run(command, env=ready.environ, stderr=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - started)
    plain, total = (statistics.median(seconds[name]) for name in ("plain", "launched"))
    assert total - plain < 7 * plain


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_pixi_is_used_where_it_is_installed(workshop: Workshop, tmp_path: Path) -> None:
    answer = 'if [ "$1" = --version ]; then echo "pixi 0.77.0"; else echo "$@ $INIT_CWD"; fi'
    fake(tmp_path / "bin", "pixi", answer)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = workshop.run("run", "-e", "extra", "leaf", "a b", cwd=tmp_path, PATH=path, PIXIW_LAUNCHER="pixi")
    assert done.stdout == f"run -e extra leaf a b {tmp_path}\n"
    assert done.stderr == "pixiw: running pixi\n"
    assert not (workshop.root / ".pixi").exists()


def test_another_program_called_pixi_is_left_alone(ready: Workshop, tmp_path: Path) -> None:
    fake(tmp_path / "bin", "pixi", "echo usage: pixi PICTURE; exit 1")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = ready.run("run", "tiny", PATH=path, PIXIW_LAUNCHER="pixi")
    assert done.returncode == 0
    assert done.stderr == "pixiw: environment 'default' by uv\n"


def test_without_pixi_uv_and_python_it_says_what_to_install(workshop: Workshop) -> None:
    done = workshop.run("run", "tiny", PATH="/nonexistent")
    assert done.returncode == 3
    assert "neither pixi" in done.stderr
    assert "apt-get install python3" in done.stderr


def test_it_starts_by_a_link_and_from_any_folder(ready: Workshop, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ready.root / "pixiw")
    done = subprocess.run(
        ["./link", "run", "tiny"], cwd=tmp_path, env=ready.environ, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["PIXI_PROJECT_ROOT"] == str(ready.root)
