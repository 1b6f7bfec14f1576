"""The devices of this machine, found without torch: GPUs by their UUID, CPU slots by the number of cores."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Literal

from tuneyard.control.resolving.scheduled import later
from tuneyard.core.errors import RequestError, SetupError

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Bounds the GPUs that may be used, as CUDA itself reads it."""

SLOTS_VARIABLE = "TUNEYARD_CPU_SLOTS"
"""How many runs without a GPU may work at once, where one per two cores is not what is wanted."""

_DRIVER = Path("/proc/driver/nvidia/gpus")
_UUID = re.compile(r"GPU UUID:\s*(GPU-[0-9a-f-]{36})", re.IGNORECASE)
_MINOR = re.compile(r"Device Minor:\s*(\d+)")


def gpus() -> list[str]:
    """UUIDs of the GPUs that may be used, in the order of their PCI addresses (`nvidia-smi`'s order).

    CUDA_VISIBLE_DEVICES bounds them: indices, UUIDs or beginnings of UUIDs; what follows an entry that names no
    device is ignored, as CUDA does; MIG devices are taken as they are given.
    """
    visible = os.environ.get(VISIBLE_VARIABLE)
    return list(_present()) if visible is None else _bounded(visible, _present())


def _bounded(visible: str, present: tuple[str, ...]) -> list[str]:
    chosen: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        device = entry if entry.startswith("MIG-") else _named(entry, present)
        if device is None or device in chosen:
            break
        chosen.append(device)
    return chosen


def _named(entry: str, present: tuple[str, ...]) -> str | None:
    if entry.isdecimal():
        return present[int(entry)] if int(entry) < len(present) else None
    matches = [uuid for uuid in present if entry.startswith("GPU-") and uuid.lower().startswith(entry.lower())]
    return matches[0] if len(matches) == 1 else None


@cache
def _present() -> tuple[str, ...]:
    """Every GPU of this machine; from the driver's own files, which cost nothing, else from nvidia-smi."""
    from_driver = _from_driver(_DRIVER)
    return tuple(from_driver if from_driver is not None else _from_nvidia_smi())


def _from_driver(folder: Path) -> list[str] | None:
    """UUIDs as the driver's files say; None where they do not, as under WSL or before the first use of a card."""
    try:
        texts = [(card / "information").read_text() for card in sorted(folder.iterdir())]
    except OSError:
        return None
    uuids = [(_UUID.search(text), _MINOR.search(text)) for text in texts]
    if not all(uuid for uuid, _ in uuids):
        return None
    return [uuid[1] for uuid, minor in uuids if uuid and (minor is None or Path(f"/dev/nvidia{minor[1]}").exists())]


def _from_nvidia_smi() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []  # no driver, or one that does not answer: nothing to train on
    return [line.strip() for line in answer.splitlines() if line.startswith("GPU-")]


def title(device: str) -> str:
    """A GPU as a person knows it: `GPU 0`, in `nvidia-smi`'s order; a MIG device by its UUID."""
    present = _present()
    return f"GPU {present.index(device)}" if device in present else device


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_slots() -> int:
    """How many runs without a GPU may work at once: as TUNEYARD_CPU_SLOTS says, else one per two cores, at least one.

    Raises:
        SetupError: the variable is no positive whole number.
    """
    given = os.environ.get(SLOTS_VARIABLE, "").strip()
    if not given:
        return max(1, cores() // 2)
    if not given.isdecimal() or int(given) < 1:
        raise SetupError(
            f"{SLOTS_VARIABLE}={given} is no number of runs that may work at once",
            way_out=f"a whole number from 1, or `unset {SLOTS_VARIABLE}` for one per two cores",
        )
    return int(given)


def threads_per_slot() -> int:
    """CPU threads that one such run is given."""
    return max(1, cores() // cpu_slots())


def resolve_gpus(requested: int | Literal["all"] | None) -> int:
    """The number of GPUs of a run; for a scheduler's job, on each of its nodes.

    Args:
        requested: a number; `all`; or None for one where there is one, else none. For a scheduler's job, None and `all`
            are what its settings ask for.

    Raises:
        RequestError: there are not so many here, or the number is negative.
        SetupError: the run is to have a CPU slot, and how many there are is set wrongly.
    """
    job = later()
    if job is not None and (requested in (None, "all") or requested >= 0):
        return requested if isinstance(requested, int) else job.gpus
    available = gpus()
    if requested is None:
        requested = min(1, len(available))
    elif requested == "all":
        requested = len(available)
    if requested == 0:
        cpu_slots()  # refused here, before a run is made, rather than by its supervisor
    if 0 <= requested <= len(available):
        return requested
    if requested < 0:
        raise RequestError(f"gpus: {requested} is no number of GPUs", way_out="gpus=0 runs on the CPU")
    bounded = f" ({VISIBLE_VARIABLE}={os.environ[VISIBLE_VARIABLE]})" if VISIBLE_VARIABLE in os.environ else ""
    raise RequestError(
        f"gpus: {requested} asked for, {len(available)} to be had{bounded}",
        way_out=f"gpus={len(available)}, or gpus=all" if available else "gpus=0 runs on the CPU",
    )
