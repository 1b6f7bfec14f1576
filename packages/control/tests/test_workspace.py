"""Which folder is the workspace, and what tuneyard.yaml may say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tuneyard.control.workspace import Workspace, find_workspace
from tuneyard.core.errors import RequestError, SetupError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TUNEYARD_WORKSPACE", "INIT_CWD"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pixi.toml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    return tmp_path


def test_the_workspace_is_the_nearest_folder_with_a_manifest(folder: Path) -> None:
    assert find_workspace(folder / "a" / "b").path == folder
    (folder / "a" / "pixi.toml").touch()
    assert find_workspace(folder / "a" / "b").path == folder / "a"


def test_it_is_looked_for_where_the_user_stood_when_a_task_was_typed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("INIT_CWD", str(folder / "a"))
    assert find_workspace().path == folder


def test_the_variable_wins_over_where_one_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    monkeypatch.setenv("TUNEYARD_WORKSPACE", str(other))
    assert find_workspace(folder).path == other
    monkeypatch.setenv("TUNEYARD_WORKSPACE", str(other / "missing"))
    with pytest.raises(SetupError, match="names no folder"):
        find_workspace(folder)


def test_without_a_manifest_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNEYARD_WORKSPACE", raising=False)
    if any((parent / "pixi.toml").exists() for parent in tmp_path.parents):
        pytest.skip("the temporary folder lies in a workspace")
    with pytest.raises(SetupError, match=r"no pixi\.toml") as caught:
        find_workspace(tmp_path)
    assert "TUNEYARD_WORKSPACE" in str(caught.value)


def test_without_settings_everything_has_its_default(folder: Path) -> None:
    workspace = Workspace(folder)
    assert workspace.runs == folder / "runs"
    assert workspace.settings.environments == {}
    assert workspace.settings.defaults.train is None


def test_without_settings_pydantic_and_yaml_are_not_imported(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tuneyard.control.workspace import find_workspace;"
        f"find_workspace(Path({str(folder)!r})).runs; print([m for m in ('pydantic', 'yaml') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_paths_in_the_settings_are_relative_to_the_workspace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tuneyard.yaml").write_text("runs: ../their runs\ndefaults: {train: specs/mine.yaml}\n")
    workspace = Workspace(folder)
    assert workspace.runs == folder.parent / "their runs"
    assert workspace.settings.defaults.train == "specs/mine.yaml"
    monkeypatch.setenv("HOME", "/home/someone")
    assert workspace.resolve("~/x") == Path("/home/someone/x")


def test_an_empty_settings_file_means_the_defaults(folder: Path) -> None:
    (folder / "tuneyard.yaml").write_text("# nothing yet\n")
    assert Workspace(folder).runs == folder / "runs"


def test_an_unknown_setting_is_refused_with_the_nearest_known_one(folder: Path) -> None:
    (folder / "tuneyard.yaml").write_text("environments: {train: {interpretor: /usr/bin/python}}\n")
    with pytest.raises(RequestError) as caught:
        Workspace(folder).settings  # noqa: B018
    assert "'environments.train.interpretor'" in caught.value.message
    assert "interpreter" in (caught.value.way_out or "")
    assert caught.value.where == str(folder / "tuneyard.yaml")
