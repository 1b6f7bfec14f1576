"""What every environment of this machine shares: memory that processes share, limits, the clock, variables."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tuneyard.doctor.findings import Finding

SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_BYTES = 1 << 30
"""Less than this is risky: the workers of a data loader pass their batches through it. Docker's default is 64 MiB."""

OPEN_FILES = 1024
"""Fewer open files than this are risky: a data loader's workers, sockets and shards add up."""

CLOCK_SECONDS = 5.0
"""How far the clock of the runs' file system may be from this machine's."""

OFFLINE_FLAGS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE")
_TRUE = frozenset({"1", "on", "yes", "true"})
_FALSE = frozenset({"0", "off", "no", "false", ""})


def judge(variables: Mapping[str, str], runs: Path) -> Iterator[Finding]:
    """What is wrong with this machine, whichever environment is used."""
    yield from _shared_memory()
    yield from _limits()
    yield from _clock(runs)
    yield from offline_flags(variables)


def _shared_memory() -> Iterator[Finding]:
    if sys.platform != "linux":
        return
    try:
        facts = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        yield _no_shared_memory(f"{SHARED_MEMORY} cannot be used: {error.strerror}")
        return
    size, free = facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize
    if not os.access(SHARED_MEMORY, os.W_OK):
        yield _no_shared_memory(f"{SHARED_MEMORY} cannot be written")
    elif min(size, free) < SHARED_MEMORY_BYTES:
        yield Finding(
            "shm-small",
            "risky",
            f"{SHARED_MEMORY} is small: a data loader's workers die of a bus error when it is full",
            evidence=f"{size / 2**20:.0f} MiB, of which {free / 2**20:.0f} MiB are free",
            way_out="docker run --shm-size=8g (or --ipc=host); mount -o remount,size=8g /dev/shm; or "
            "engine.dataloader_num_workers=0",
        )


def _no_shared_memory(message: str) -> Finding:
    way_out = "mount -t tmpfs tmpfs /dev/shm; in a container --shm-size=8g"
    return Finding("shm-unusable", "broken", message, evidence=str(SHARED_MEMORY), way_out=way_out)


def _limits() -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < OPEN_FILES:
        yield Finding(
            "file-limit-low",
            "risky",
            "few files may be open at once: data loaders, sockets and shards run out of them",
            evidence=f"ulimit -n is {files}",
            way_out="ulimit -n 65536, or LimitNOFILE= of the service",
        )
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    if memory != resource.RLIM_INFINITY:
        yield Finding(
            "address-space-limited",
            "risky",
            "the address space is limited: CUDA reserves more of it than any machine has memory",
            evidence=f"ulimit -v is {memory // 1024} KiB",
            way_out="ulimit -v unlimited; ask a scheduler for memory, not for virtual memory",
        )


def _clock(runs: Path) -> Iterator[Finding]:
    """The clock against that of the file system that runs lie on, and against this very program's age."""
    folder = nearest_folder(runs)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"1")
            file.flush()
            apart = os.fstat(file.fileno()).st_mtime - time.time()
    except OSError:
        apart = 0.0  # that it cannot be written is told where disks are looked at
    if abs(apart) > CLOCK_SECONDS:
        yield Finding(
            "clock-skew",
            "risky",
            "the runs' file system and this machine do not agree on the time: a live run may be taken for a dead one",
            evidence=f"{apart:+.0f} s on {folder}",
            way_out="timedatectl set-ntp true, here and on the file server",
        )
    behind = Path(__file__).stat().st_mtime - time.time()
    if behind > 24 * 3600:
        yield Finding(
            "clock-behind",
            "risky",
            "the clock is behind: certificates will not be believed, and newer files look old",
            evidence=f"tuneyard itself is {behind / 86400:.0f} days from the future",
            way_out="timedatectl set-ntp true",
        )


def offline_flags(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that say that the hub is to be asked and that it is not."""
    given = {name: variables[name].strip() for name in OFFLINE_FLAGS if name in variables}
    unclear = {name: value for name, value in given.items() if value.lower() not in _TRUE | _FALSE}
    for name, value in unclear.items():
        message = f"{name} is neither true nor false: one library takes it for the one, another for the other"
        way_out = f"{name}=1, or unset it"
        yield Finding("offline-flag-unclear", "risky", message, evidence=f"{name}={value[:40]}", way_out=way_out)
    if len({value.lower() in _TRUE for name, value in given.items() if name not in unclear}) > 1:
        others = " ".join(name for name in given if name != "HF_HUB_OFFLINE")
        yield Finding(
            "offline-flags-contradict",
            "broken",
            "one library is told to be offline and another to be online: a model loads and its dataset does not",
            evidence=", ".join(f"{name}={value}" for name, value in given.items()),
            way_out=f"unset {others}: HF_HUB_OFFLINE serves all",
        )


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    for folder in (path, *path.parents):
        if os.path.lexists(folder):
            return folder
    return Path("/")
