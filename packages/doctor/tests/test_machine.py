"""What is wrong with the machine beneath the environments."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Clinic

Mounted = Callable[..., tuple[str, ...]]


@pytest.fixture(autouse=True)
def built(clinic: Clinic) -> None:
    clinic.healthy()


def test_a_tiny_shared_memory(clinic: Clinic, mounted: Mounted) -> None:
    found = clinic.diagnose("train", before=mounted("/dev/shm", "size=16m")).findings(None)["shm-small"]
    assert found["severity"] == "risky"
    assert "16 MiB" in found["evidence"]
    assert "--shm-size" in found["way_out"]


def test_a_cache_that_cannot_be_written(clinic: Clinic, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    seen = clinic.diagnose("train", HF_HOME=str(tmp_path / "file" / "hub"))
    found = seen.findings(None)["cache-unwritable"]
    assert (seen.code, found["severity"]) == (1, "broken")
    assert "set HF_" in found["way_out"]


def test_a_cache_on_a_file_system_that_is_read_only(clinic: Clinic, tmp_path: Path, mounted: Mounted) -> None:
    place = tmp_path / "read only"
    place.mkdir()
    seen = clinic.diagnose("train", before=mounted(place, "ro"), TORCH_HOME=str(place))
    found = seen.findings(None)["cache-unwritable"]
    assert found["message"] == "TORCH_HOME cannot be written: Read-only file system"


def test_a_file_system_that_is_nearly_full(clinic: Clinic, tmp_path: Path, mounted: Mounted) -> None:
    place = tmp_path / "small"
    place.mkdir()
    seen = clinic.diagnose("train", before=mounted(place, "size=64m"), HF_HOME=str(place))
    found = seen.findings(None)["disk-nearly-full"]
    assert "of 0.1" in found["message"]
    assert found["evidence"].count("HF_") == 3  # named once, with all that lie on it


def test_a_cache_of_compiled_code_that_may_not_run(clinic: Clinic, tmp_path: Path, mounted: Mounted) -> None:
    place = tmp_path / "no code"
    place.mkdir()
    seen = clinic.diagnose("train", before=mounted(place, "noexec"), TRITON_CACHE_DIR=str(place))
    assert "TRITON_CACHE_DIR" in seen.findings(None)["cache-noexec"]["message"]


def test_nothing_is_left_in_the_caches(clinic: Clinic, tmp_path: Path) -> None:
    before = sorted(os.listdir(tmp_path))
    clinic.diagnose("train", HF_HOME=str(tmp_path / "hub" / "deep"))
    assert not (tmp_path / "hub").exists()
    assert sorted(set(os.listdir(tmp_path)) - {"leases"}) == before


@pytest.mark.parametrize(("limit", "id"), [("-n 512", "file-limit-low"), ("-v 40000000", "address-space-limited")])
def test_limits_that_are_too_low(clinic: Clinic, limit: str, id: str) -> None:
    found = clinic.diagnose("train", before=("sh", "-c", f'ulimit {limit} && exec "$0" "$@"')).findings(None)
    assert found[id]["evidence"].startswith(f"ulimit {limit[:2]} is")


def test_offline_flags_that_contradict(clinic: Clinic) -> None:
    seen = clinic.diagnose("train", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="0")
    found = seen.findings(None)["offline-flags-contradict"]
    assert (seen.code, found["severity"]) == (1, "broken")
    assert found["evidence"] == "HF_HUB_OFFLINE=1, HF_DATASETS_OFFLINE=0"
    assert "unset HF_DATASETS_OFFLINE" in found["way_out"]
    agreeing = clinic.diagnose("train", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="TRUE").findings(None)
    assert "offline-flags-contradict" not in agreeing
    assert "hub-unreachable" not in agreeing  # it was not to be asked
    assert "offline-flag-unclear" in clinic.diagnose("train", HF_HUB_OFFLINE="maybe").findings(None)


def test_a_hub_that_does_not_answer_is_a_note(clinic: Clinic) -> None:
    seen = clinic.diagnose("train")
    assert (seen.code, seen.findings(None)["hub-unreachable"]["severity"]) == (0, "note")


@pytest.mark.parametrize(
    "token", ["'hf_abcdefghijklmnopqrstuvwxyz012345678'", "hf_short", "api_org_secret_of_somebody"]
)
def test_a_token_of_a_wrong_shape_is_told_and_never_shown(clinic: Clinic, token: str) -> None:
    seen = clinic.diagnose("train", HF_TOKEN=token)
    assert str(len(token)) in seen.findings(None)["hub-token-shape"]["evidence"]
    assert token not in seen.out
    assert token.strip("'") not in seen.out


def test_a_token_as_it_must_be_is_no_finding(clinic: Clinic) -> None:
    found = clinic.diagnose("train", HF_TOKEN="hf_abcdefghijklmnopqrstuvwxyz01234567").findings(None)
    assert not {id for id in found if id.startswith("hub-token")}


def test_a_driver_whose_parts_do_not_match(clinic: Clinic, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    program.chmod(0o755)
    seen = clinic.diagnose("train", PATH=f"{program.parent}:{os.environ['PATH']}")
    assert seen.code == 1
    assert "Driver/library version mismatch" in seen.findings(None)["nvml-mismatch"]["evidence"]
