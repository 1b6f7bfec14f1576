"""Built-in models are written once into the user's cache, whole or not at all."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tuneyard.core.errors import RequestError, SetupError
from tuneyard.data.builtin import materialise_model


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = materialise_model("builtin:tiny")
    assert folder.parent == tmp_path / "tuneyard" / "models"
    assert (folder / "model.safetensors").is_file()


def test_a_second_use_writes_nothing(tmp_path: Path) -> None:
    written = materialise_model("builtin:tiny", tmp_path).stat().st_mtime_ns
    assert materialise_model("builtin:tiny", tmp_path).stat().st_mtime_ns == written


def test_many_at_once_get_the_same_model_and_leave_nothing_else(tmp_path: Path) -> None:
    code = (
        f"from tuneyard.data.builtin import materialise_model; print(materialise_model('builtin:tiny', {tmp_path!r}))"
    )
    code = "from pathlib import *\n" + code
    command = [sys.executable, "-c", code]
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(subprocess.run, command, capture_output=True, text=True, check=True) for _ in range(4)]
    folders = {run.result().stdout.strip() for run in runs}
    assert [str(p) for p in tmp_path.iterdir()] == list(folders)


def test_a_full_disk_leaves_no_half_model(full_disk: Path) -> None:
    with pytest.raises(SetupError, match="no space left"):
        materialise_model("builtin:tiny", full_disk / "models")
    assert list((full_disk / "models").iterdir()) == []


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(RequestError, match="'tinny'") as caught:
        materialise_model("builtin:tinny")
    assert caught.value.way_out == "did you mean 'tiny'?"
