"""`--deep`: a real run in each environment, whose outcome is the proof."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_workers import SMALL_LIBRARY, make_worker

if TYPE_CHECKING:
    from conftest import Clinic

ROOT = Path(__file__).parents[3]


def small_worker(clinic: Clinic, name: str, source: str = SMALL_LIBRARY) -> None:
    """An environment whose worker is a real one with a library of a few lines."""
    clinic.name_interpreter(name, make_worker(clinic.path / "small" / name, name, source))


def test_runs_that_succeed_are_removed_again(clinic: Clinic) -> None:
    small_worker(clinic, "train")
    small_worker(clinic, "eval")
    seen = clinic.diagnose("--deep")
    assert seen.code == 0, seen
    assert [(each["environment"], each["state"]) for each in seen.told["deep"]] == [
        ("eval", "succeeded"),
        ("train", "succeeded"),
    ]
    assert [name for name in os.listdir(clinic.path / "runs") if name.startswith(("train", "eval"))] == []


def test_a_run_that_fails_is_kept_and_named(clinic: Clinic) -> None:
    broken = "    sys.exit('ModuleNotFoundError: No module named numpy')\n"
    source = SMALL_LIBRARY.replace("    engine = job.spec.engine\n", broken, 1)
    assert broken in source
    small_worker(clinic, "eval", source)
    seen = clinic.diagnose("eval", "--deep")
    found = seen.findings("eval")["deep-run-fails"]
    assert (seen.code, seen.status("eval")) == (1, "broken")
    [run] = [name for name in os.listdir(clinic.path / "runs") if name.startswith("eval")]
    assert f"yard logs {run}" in found["evidence"]
    assert "No module named numpy" in found["evidence"]
    assert seen.told["deep"][0]["run"] == run


def test_a_run_that_cannot_be_started_is_told(clinic: Clinic) -> None:
    small_worker(clinic, "eval", "raise SystemExit('no worker at all')")
    found = clinic.diagnose("eval", "--deep").findings("eval")["deep-run-fails"]
    assert "cannot be started" in found["message"]
    assert "no worker at all" in found["message"]


def test_an_environment_without_a_small_run_says_so(clinic: Clinic) -> None:
    clinic.name_interpreter("mine", clinic.environment("mine").python)
    seen = clinic.diagnose("mine", "--deep")
    assert (seen.code, seen.findings("mine")["deep-untried"]["severity"]) == (0, "note")
    assert "deep: untried" in clinic.run("mine", "--deep").out


@pytest.mark.slow
def test_the_environments_of_this_checkout_train_and_evaluate(clinic: Clinic) -> None:
    from tuneyard.control.environments import worker_python
    from tuneyard.control.workspace import Workspace

    for name in ("train", "eval"):
        clinic.name_interpreter(name, worker_python(Workspace(ROOT), name))
    seen = clinic.diagnose("train", "eval", "--deep", "--model", "builtin:tiny")
    assert seen.code == 0, seen
    assert [each["state"] for each in seen.told["deep"]] == ["succeeded", "succeeded"]
    assert set(seen.told["tokens"]["counts"]) == {"train", "eval"}
    assert not {id for id in (*seen.findings("train"), *seen.findings("eval")) if id != "torchaudio-missing"}
