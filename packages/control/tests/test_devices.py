"""Which GPUs a run may have, told without torch, and how many CPU slots there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.control import devices
from tuneyard.core.errors import RequestError, SetupError

CARDS = tuple(f"GPU-{n}{n}a1b2c3-0000-4000-8000-00000000000{n}" for n in range(4))


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_present", lambda: CARDS)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def driver(folder: Path, uuids: list[str]) -> Path:
    """The files of the NVIDIA driver, as it lays them out under /proc."""
    for number, uuid in reversed(list(enumerate(uuids))):
        card = folder / f"0000:{number:02x}:00.0"
        card.mkdir(parents=True)
        (card / "information").write_text(f"Model: \t\t NVIDIA H200\nIRQ:   \t\t 82\nGPU UUID: \t {uuid}\n")
    return folder


def test_the_drivers_files_name_the_cards_in_the_order_of_their_addresses(tmp_path: Path) -> None:
    assert devices._from_driver(driver(tmp_path, list(CARDS))) == list(CARDS)


def test_a_card_whose_uuid_the_driver_does_not_know_yet_is_left_to_nvidia_smi(tmp_path: Path) -> None:
    unused = "GPU-????????-????-????-????-????????????"
    assert devices._from_driver(driver(tmp_path, [CARDS[0], unused])) is None


def test_a_card_that_this_container_has_no_device_file_of_is_left_out(tmp_path: Path) -> None:
    folder = driver(tmp_path, list(CARDS[:2]))
    for card in folder.iterdir():
        with (card / "information").open("a") as file:
            file.write("Device Minor: \t 4711\n")
    assert devices._from_driver(folder) == []


def test_nvidia_smi_is_asked_where_the_driver_has_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho {CARDS[0]}\necho {CARDS[1]}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert devices._from_driver(tmp_path / "missing") is None
    assert devices._from_nvidia_smi() == list(CARDS[:2])
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    assert devices._from_nvidia_smi() == []


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("0,2", [CARDS[0], CARDS[2]]),
        ("3,0", [CARDS[3], CARDS[0]]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,9,0", [CARDS[1]]),
        ("1,1,0", [CARDS[1]]),
        (CARDS[2], [CARDS[2]]),
        (CARDS[2][:8].upper(), [CARDS[2]]),
        ("GPU-", []),
        (" 0 , 1 ", [CARDS[0], CARDS[1]]),
        ("MIG-6d3f0a1b-1111-5222-8333-444444444444", ["MIG-6d3f0a1b-1111-5222-8333-444444444444"]),
    ],
)
def test_cuda_visible_devices_bounds_the_pool_as_cuda_reads_it(
    four_gpus: None, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpus() == expected


@given(st.text(alphabet="0123456789,GPUMI- abcdef", max_size=40))
def test_whatever_the_variable_holds_the_pool_is_a_part_of_what_there_is(visible: str) -> None:
    chosen = devices._bounded(visible, CARDS)
    assert len(chosen) == len(set(chosen))
    assert all(device in CARDS or device.startswith("MIG-") for device in chosen)


def test_a_gpu_is_called_by_its_number_on_the_machine_whatever_bounds_the_pool(
    four_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert devices.title(devices.gpus()[0]) == "GPU 3"
    assert devices.title("MIG-6d3f") == "MIG-6d3f"


def test_a_run_gets_one_gpu_where_there_is_one(four_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.resolve_gpus(None) == 1
    assert devices.resolve_gpus("all") == 4
    assert devices.resolve_gpus(3) == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.resolve_gpus(None) == 0
    assert devices.resolve_gpus("all") == 0


def test_more_gpus_than_there_are_is_refused(four_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="5 asked for, 4 to be had") as caught:
        devices.resolve_gpus(5)
    assert "gpus=4" in (caught.value.way_out or "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(RequestError, match="CUDA_VISIBLE_DEVICES=1"):
        devices.resolve_gpus(2)
    with pytest.raises(RequestError):
        devices.resolve_gpus(-1)


@pytest.mark.parametrize(("cores", "slots", "threads"), [(1, 1, 1), (2, 1, 2), (3, 1, 3), (8, 4, 2)])
def test_cores_are_divided_into_slots(monkeypatch: pytest.MonkeyPatch, cores: int, slots: int, threads: int) -> None:
    monkeypatch.setattr(devices, "cores", lambda: cores)
    monkeypatch.delenv("TUNEYARD_CPU_SLOTS", raising=False)
    assert (devices.cpu_slots(), devices.threads_per_slot()) == (slots, threads)


@pytest.mark.parametrize(
    ("given", "slots", "threads"), [("2", 2, 4), (" 3 ", 3, 2), ("8", 8, 1), ("20", 20, 1), ("", 4, 2)]
)
def test_a_person_may_say_how_many_slots_there_are(
    monkeypatch: pytest.MonkeyPatch, given: str, slots: int, threads: int
) -> None:
    monkeypatch.setattr(devices, "cores", lambda: 8)
    monkeypatch.setenv("TUNEYARD_CPU_SLOTS", given)
    assert (devices.cpu_slots(), devices.threads_per_slot()) == (slots, threads)


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "two", "²"])
def test_what_is_no_number_of_slots_is_refused_before_a_run_is_made(
    four_gpus: None, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("TUNEYARD_CPU_SLOTS", given)
    with pytest.raises(SetupError, match=f"TUNEYARD_CPU_SLOTS={given} is no number of runs") as caught:
        devices.resolve_gpus(0)
    assert "unset TUNEYARD_CPU_SLOTS" in (caught.value.way_out or "")
    assert devices.resolve_gpus(1) == 1, "a run on a GPU wants no slot"


def test_the_affinity_of_the_process_counts_and_not_the_machine() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no sched_setaffinity on this system")
    first = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{first}}}); from tuneyard.control.devices import cores; print(cores())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_finding_devices_imports_no_torch() -> None:
    code = "import sys; from tuneyard.control.devices import gpus; gpus(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
