"""torch against the driver and the cards: a torch that says what it was built for, a driver that says what it runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Clinic, Diagnosis

CARD = "GPU-11111111-2222-3333-4444-555555555555"

TORCH = """
    class version: cuda = "13.0"
    class _C:
        @staticmethod
        def _cuda_getArchFlags(): return {flags!r}
    class Card:
        name, total_memory, major, minor = "Card of a test", 2**34, {major}, {minor}
    class cuda:
        is_available = staticmethod(lambda: {available})
        device_count = staticmethod(lambda: 1)
        get_device_properties = staticmethod(lambda number: Card)
"""

DRIVER = """
int cuDriverGetVersion(int *version) {{ *version = {runs}; return 0; }}
int cuInit(unsigned int flags) {{ return {first_call}; }}
"""

SMI = """#!/bin/sh
case "$1" in
--query-gpu=uuid) echo "{card}" ;;
--query-gpu=*) echo "{card}, Card of a test, 16384, 9000, 580.65" ;;
--query-compute-apps=*) echo "{card}, 1, 8000" ;;
esac
"""


class Machine:
    """A machine with a card: nvidia-smi tells of it, and libcuda answers."""

    def __init__(self, folder: Path, clinic: Clinic) -> None:
        if Path("/proc/driver/nvidia/gpus").exists():
            pytest.skip("this machine has a card of its own")
        self.folder = folder
        self.clinic = clinic
        folder.mkdir()
        program = folder / "nvidia-smi"
        program.write_text(SMI.format(card=CARD))
        program.chmod(0o755)

    def driver(self, runs: int = 13000, first_call: int = 0) -> None:
        (self.folder / "driver.c").write_text(DRIVER.format(runs=runs, first_call=first_call))
        command = ["cc", "-shared", "-fPIC", "-o", "libcuda.so.1", "driver.c"]
        try:
            subprocess.run(command, cwd=self.folder, check=True)
        except FileNotFoundError:
            pytest.skip("there is no C compiler to make a driver with")

    def torch(self, flags: str = "sm_80 sm_90", capability: str = "9.0", available: bool = True) -> None:
        major, _, minor = capability.partition(".")
        source = TORCH.format(flags=flags, major=major, minor=minor, available=available)
        prefix = self.clinic.environment().install("torch", "2.13.0", torch=source)
        prefix.install("llamafactory", "1.0", llamafactory__train__tuner="", tuneyard__train__worker="")

    def diagnose(self, **variables: str) -> Diagnosis:
        path = f"{self.folder}:{os.environ['PATH']}"
        own = {"PATH": path, "LD_LIBRARY_PATH": str(self.folder), "CUDA_VISIBLE_DEVICES": "0"}
        return self.clinic.diagnose("train", **{**own, **variables})


@pytest.fixture
def machine(tmp_path: Path, clinic: Clinic) -> Machine:
    return Machine(tmp_path / "driver", clinic)


def test_a_torch_that_fits_card_and_driver(machine: Machine) -> None:
    machine.driver()
    machine.torch()
    seen = machine.diagnose()
    assert (seen.code, seen.findings()) == (0, {})
    assert [(card["name"], card["memory"], card["used"]) for card in seen.told["gpus"]] == [
        ("Card of a test", 16384, 9000)
    ]


def test_a_card_that_others_compute_on_without_a_lease(machine: Machine) -> None:
    machine.driver()
    machine.torch()
    found = machine.diagnose().findings(None)["gpu-in-use"]
    assert "9000 of 16384 MiB; 1 (" in found["evidence"]
    assert "gpu-in-use" not in machine.diagnose(CUDA_VISIBLE_DEVICES="").findings(None)  # it is not to be used


def test_a_driver_that_is_older_than_torchs_cuda(machine: Machine) -> None:
    machine.driver(runs=12020)
    machine.torch(available=False)
    seen = machine.diagnose()
    assert (seen.code, list(seen.findings())) == (1, ["driver-too-old"])
    assert "runs CUDA 12.2 and torch was built for 13.0" in seen.findings()["driver-too-old"]["message"]
    assert "580.65" in seen.findings()["driver-too-old"]["evidence"]


def test_a_fabric_manager_that_does_not_run(machine: Machine) -> None:
    machine.driver(first_call=802)
    machine.torch(available=False)
    found = machine.diagnose().findings()["cuda-unavailable"]
    assert "error 802" in found["message"]
    assert "nvidia-fabricmanager" in found["way_out"]


@pytest.mark.parametrize(
    ("flags", "capability", "runs"),
    [
        ("sm_80 sm_90", "12.0", False),
        ("sm_80 sm_90 compute_90", "12.0", True),  # the driver compiles it
        ("sm_80", "8.6", True),  # a later card of the same major
        ("sm_86", "8.0", False),
        ("sm_90a", "9.0", True),
        ("sm_100a", "10.3", False),  # for that very card alone
        ("", "12.0", True),  # it does not tell
    ],
)
def test_a_card_that_torch_holds_no_code_for(machine: Machine, flags: str, capability: str, runs: bool) -> None:
    machine.driver()
    machine.torch(flags, capability)
    assert ("no-kernel-image" not in machine.diagnose().findings()) == runs


def test_a_torch_without_cuda_on_a_machine_with_a_card(machine: Machine) -> None:
    machine.clinic.healthy()
    found = machine.diagnose().findings()["torch-without-cuda"]
    assert found["severity"] == "risky"
    assert "Card of a test" in found["evidence"]


def test_a_torch_that_cannot_be_imported_is_not_taken_for_one_without_cuda(machine: Machine) -> None:
    machine.clinic.environment().install("torch", "2.13.0", torch='raise ImportError("libcudart.so.13: no such file")')
    assert list(machine.diagnose().findings()) == ["import-fails"]


def test_cuda_that_hangs_is_told_as_such(machine: Machine) -> None:
    machine.driver()
    machine.torch()
    torch = next(machine.clinic.path.glob(".pixi/uv/train/lib/*/site-packages/torch.py"))
    torch.write_text(torch.read_text() + "import time\ncuda.is_available = staticmethod(lambda: time.sleep(600))\n")
    seen = machine.clinic.diagnose("train", "--time-limit", "2", LD_LIBRARY_PATH=str(machine.folder))
    assert "initialising CUDA did not end" in seen.findings()["import-hangs"]["message"]


def test_what_triton_compiles_with(machine: Machine, tmp_path: Path) -> None:
    machine.driver()
    machine.torch()
    site = next(machine.clinic.path.glob(".pixi/uv/train/lib/*/site-packages"))
    (site / "triton-3.0.dist-info").mkdir()
    (site / "triton-3.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: triton\nVersion: 3.0\n")
    assert "compiler-missing" not in machine.diagnose().findings()
    without: dict[str, Any] = machine.diagnose(PATH=str(machine.folder)).findings()
    assert without["compiler-missing"]["severity"] == "risky"
