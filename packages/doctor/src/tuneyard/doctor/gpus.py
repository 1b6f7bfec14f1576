"""The GPUs of this machine: which they are, who holds them, and whether the driver is whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tuneyard.control.devices import gpus, title
from tuneyard.control.leases import holder
from tuneyard.core.errors import SetupError
from tuneyard.doctor.findings import Finding

SECONDS = 10.0
"""How long nvidia-smi may take: longer, and the driver hangs."""

_CARDS = "--query-gpu=uuid,name,memory.total,memory.used,driver_version"
_PROCESSES = "--query-compute-apps=gpu_uuid,pid,used_memory"


@dataclass(frozen=True)
class Card:
    """One GPU."""

    uuid: str
    name: str
    memory: int
    """MiB."""
    used: int
    """MiB in use by anybody."""
    run: str | None = None
    """The run that has its lease."""
    processes: list[str] = field(default_factory=list)
    """`PID (user)` of those that compute on it."""


@dataclass
class Graphics:
    """What nvidia-smi tells."""

    cards: list[Card] = field(default_factory=list)
    driver: str | None = None
    findings: list[Finding] = field(default_factory=list)


def look() -> Graphics:
    """Ask nvidia-smi; nothing where there is none."""
    rows, error = _asked(_CARDS)
    found = Graphics()
    if error:
        found.findings.append(_driver_broken(error))
    processes: dict[str, list[str]] = {}
    for uuid, pid, *_ in _asked(_PROCESSES)[0] if rows else []:
        processes.setdefault(uuid, []).append(f"{pid} ({_user(pid)})")
    for uuid, name, total, used, driver in (row for row in rows if len(row) == 5):
        found.driver = driver
        found.cards.append(Card(uuid, name, _number(total), _number(used), _leased(uuid), processes.get(uuid, [])))
    found.findings += _held(found.cards)
    return found


def _asked(query: str) -> tuple[list[list[str]], str | None]:
    """Rows of an answer, and what went wrong; neither where there is no such program."""
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except FileNotFoundError:
        return [], None
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi: {error}"
    if done.returncode:
        return [], (done.stdout + done.stderr).strip()[:500] or f"nvidia-smi ended with {done.returncode}"
    return [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()], None


def _driver_broken(error: str) -> Finding:
    if "version mismatch" in error:
        message = "the driver's kernel module and its library are of different versions"
        way_out = "restart the machine, or reload the NVIDIA kernel modules: the driver was updated under them"
        return Finding("nvml-mismatch", "broken", message, evidence=error, way_out=way_out)
    message = "nvidia-smi is there and does not work"
    return Finding("driver-broken", "risky", message, evidence=error, way_out="nvidia-smi -q; dmesg")


def _held(cards: list[Card]) -> Iterator[Finding]:
    """Cards that may be used here and that others compute on, without a lease."""
    usable = set(gpus())
    for card in cards:
        if card.uuid in usable and card.processes and card.run is None:
            yield Finding(
                "gpu-in-use",
                "risky",
                f"{title(card.uuid)} ({card.name}) is in use without a lease: a run may not find the memory it needs",
                evidence=f"{card.used} of {card.memory} MiB; {', '.join(card.processes[:5])}",
                way_out="CUDA_VISIBLE_DEVICES leaves it out; nvidia-smi shows who it is",
            )


def _leased(uuid: str) -> str | None:
    try:
        return holder(uuid)
    except (SetupError, OSError):
        return None


def _user(pid: str) -> str:
    import pwd

    try:
        return pwd.getpwuid(os.stat(Path("/proc") / pid).st_uid).pw_name
    except (OSError, KeyError):
        return "unknown"


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
