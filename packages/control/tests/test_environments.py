"""Where environments are, what their workers see, and what comes of asking one a question."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tuneyard.control.environments import (
    ask_worker,
    engine_schema,
    environment_prefix,
    worker_command,
    worker_environment,
)
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, RunError, SetupError

if TYPE_CHECKING:
    from conftest import Place


@pytest.fixture
def bare(tmp_path: Path) -> Workspace:
    (tmp_path / "pixi.toml").touch()
    return Workspace(tmp_path)


def build(workspace: Workspace, kind: str, name: str) -> Path:
    prefix = workspace.path / ".pixi" / kind / name
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(sys.executable)
    return prefix


def test_an_environment_that_is_not_built_names_the_command_that_builds_it(bare: Workspace) -> None:
    with pytest.raises(SetupError, match="'train' has not been built") as caught:
        environment_prefix(bare, "train")
    assert "./pixiw install -e train" in (caught.value.way_out or "")
    assert caught.value.exit_code == 3


def test_pixis_environment_comes_before_pixiws(bare: Workspace) -> None:
    ours = build(bare, "uv", "train")
    assert environment_prefix(bare, "train") == ours
    theirs = build(bare, "envs", "train")
    assert environment_prefix(bare, "train") == theirs
    assert worker_command(bare, "train", "schema") == [f"{theirs}/bin/python", "-P", "-m", "tuneyard.train", "schema"]


def test_what_runs_stays_in_the_build_that_it_began_in(bare: Workspace) -> None:
    built = build(bare, "uv/.builds", "train-1")
    link = bare.path / ".pixi" / "uv" / "train"
    link.symlink_to(built)
    assert environment_prefix(bare, "train") == built


def test_an_interpreter_that_the_user_names_comes_first(bare: Workspace) -> None:
    build(bare, "envs", "train")
    own = build(bare, "elsewhere", "lf")
    (bare.path / "tuneyard.yaml").write_text("environments: {train: {interpreter: .pixi/elsewhere/lf/bin/python}}\n")
    assert environment_prefix(Workspace(bare.path), "train") == own


def test_an_interpreter_that_is_not_there_is_a_wrong_set_up(bare: Workspace) -> None:
    build(bare, "envs", "train")
    (bare.path / "tuneyard.yaml").write_text("environments: {train: {interpreter: nowhere/bin/python}}\n")
    with pytest.raises(SetupError, match="nowhere/bin/python"):
        environment_prefix(Workspace(bare.path), "train")


def test_a_workers_variables_are_built_and_not_inherited(bare: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = build(bare, "uv", "train")
    other = bare.path / ".pixi" / "uv" / "default"
    for name in ("PIXI_IN_SHELL", "CONDA_DEFAULT_ENV", "PYTHONPATH", "PYTHONHOME", "TUNEYARD_RUN_ID"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("VIRTUAL_ENV", "/venvs/mine")
    monkeypatch.setenv("CONDA_PREFIX", "/conda")
    monkeypatch.setenv("HF_TOKEN", "hf_kept")
    monkeypatch.setenv("PATH", f"{other}/bin:/venvs/mine/bin:/conda/bin:/conda-tools:/usr/bin")
    seen = worker_environment(bare, "train", {"HF_HUB_OFFLINE": "1"})
    assert not {"PIXI_IN_SHELL", "CONDA_DEFAULT_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME"} & set(seen)
    assert not {"VIRTUAL_ENV", "TUNEYARD_RUN_ID"} & set(seen)
    assert seen["PATH"] == f"{prefix}/bin:/conda-tools:/usr/bin"
    assert (seen["HF_TOKEN"], seen["HF_HUB_OFFLINE"]) == ("hf_kept", "1")
    assert seen["TUNEYARD_WORKSPACE"] == str(bare.path)


def test_the_hub_of_the_settings_reaches_the_worker(bare: Workspace) -> None:
    build(bare, "uv", "train")
    (bare.path / "tuneyard.yaml").write_text("hub: {endpoint: 'https://mirror.example', cache: cache}\n")
    seen = worker_environment(Workspace(bare.path), "train")
    assert (seen["HF_ENDPOINT"], seen["HF_HOME"]) == ("https://mirror.example", str(bare.path / "cache"))


def test_a_worker_answers(place: Place) -> None:
    assert ask_worker(place.workspace, "eval", "check", "task.py", "f") == {
        "path": str(place.workspace.path / "task.py"),
        "name": "f",
    }


def test_the_library_of_a_worker_is_not_shadowed_by_files_where_it_runs(place: Place) -> None:
    (place.workspace.path / "tuneyard.py").write_text("raise SystemExit('shadowed')\n")
    assert ask_worker(place.workspace, "eval", "check", "task.py")["name"] is None


@pytest.mark.parametrize(("what", "kind"), [("request", RequestError), ("setup", SetupError)])
def test_a_workers_error_is_raised_as_what_it_was(place: Place, what: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        ask_worker(place.workspace, "eval", "check", what)
    assert type(caught.value) is kind
    if what == "request":
        assert str(caught.value) == "rows.jsonl: no such column\n  way out: name one"


def test_a_worker_that_dies_without_an_answer_is_a_wrong_set_up(place: Place) -> None:
    with pytest.raises(SetupError, match="was ended by signal 11"):
        ask_worker(place.workspace, "eval", "check", "crash")
    with pytest.raises(SetupError, match="a Python package is missing in the environment"):
        ask_worker(place.workspace, "eval", "check", "broken")


def test_a_worker_that_does_not_answer_is_ended_with_all_below_it(place: Place) -> None:
    start = time.monotonic()
    with pytest.raises(RunError, match="no answer within 2 s"):
        ask_worker(place.workspace, "eval", "check", "slow", timeout=2, extra={"TUNEYARD_MARK": str(place.workspace)})
    assert time.monotonic() - start < 20
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and _marked(pid, str(place.workspace))]


def _marked(pid: str, mark: str) -> bool:
    try:
        return f"TUNEYARD_MARK={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def test_an_interpreter_that_cannot_be_started_is_a_wrong_set_up(place: Place) -> None:
    (place.workspace.path / "prefix" / "bin" / "python").write_bytes(b"\x7fELF no program")
    with pytest.raises(SetupError, match="cannot be started"):
        ask_worker(place.workspace, "eval", "schema")


def test_a_schema_is_asked_for_once_per_set_of_installed_versions(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("SCHEMA_CALLS", str(calls))
    schema = engine_schema(place.workspace, "eval")
    assert schema["keys"] == {"do": {"type": "str"}}
    assert engine_schema(place.workspace, "eval") == schema
    assert calls.read_text().count("asked") == 1
    installed = place.workspace.path / "prefix" / "lib" / "python3.11" / "site-packages" / "library-2.0.dist-info"
    installed.mkdir(parents=True)
    engine_schema(place.workspace, "eval")
    assert calls.read_text().count("asked") == 2
    worker = place.workspace.path / "packages" / "eval" / "src" / "worker.py"
    worker.parent.mkdir(parents=True)
    worker.write_text("changed = True\n")
    engine_schema(place.workspace, "eval")
    assert calls.read_text().count("asked") == 3


def test_a_broken_or_unwritable_cache_only_costs_time(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEMA_CALLS", str(tmp_path / "calls"))
    schema = engine_schema(place.workspace, "eval")
    (cached,) = (tmp_path / "cache" / "tuneyard" / "schemas").iterdir()
    cached.write_text("{half")
    assert engine_schema(place.workspace, "eval") == schema
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert engine_schema(place.workspace, "eval") == schema
