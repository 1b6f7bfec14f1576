"""The folders that libraries fill: whether they can be written, and how much room their file systems have."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneyard.core.cache import cache_folder
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.machine import nearest_folder

FREE_BYTES = 5 << 30
"""Less room than this is risky: a small model and its checkpoints fill it."""

FREE_FILES = 10_000
"""Fewer free inodes than this are risky."""


@dataclass(frozen=True)
class Cache:
    """A folder that is filled."""

    name: str
    """The variable that names it, or what it is for."""
    path: Path
    runs_code: bool = False
    """Whether compiled code is loaded from it."""


def caches(variables: Mapping[str, str], runs: Path) -> list[Cache]:
    """Every cache as the libraries themselves find it, and the folder of the runs."""
    home = Path(variables.get("HOME") or Path.home())
    base = _path(variables, "XDG_CACHE_HOME", home / ".cache")
    hub = _path(variables, "HF_HOME", base / "huggingface")
    temporary = Path(variables.get("TMPDIR") or tempfile.gettempdir())
    compiled = temporary / f"torchinductor_{variables.get('USER') or variables.get('LOGNAME') or 'user'}"
    return [
        Cache("HF_HOME", hub),
        Cache("HF_HUB_CACHE", _path(variables, "HF_HUB_CACHE", hub / "hub")),
        Cache("HF_DATASETS_CACHE", _path(variables, "HF_DATASETS_CACHE", hub / "datasets")),
        Cache("TORCH_HOME", _path(variables, "TORCH_HOME", base / "torch")),
        Cache(
            "TORCHINDUCTOR_CACHE_DIR",
            _path(variables, "TORCHINDUCTOR_CACHE_DIR", compiled),
            True,
        ),
        Cache("TRITON_CACHE_DIR", _path(variables, "TRITON_CACHE_DIR", home / ".triton" / "cache"), True),
        Cache("UV_CACHE_DIR", _path(variables, "UV_CACHE_DIR", base / "uv")),
        Cache("TMPDIR", temporary),
        Cache("tuneyard's cache", cache_folder()),
        Cache("runs", runs),
    ]


def _path(variables: Mapping[str, str], name: str, default: Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(variables[name]))) if variables.get(name) else default


def judge(variables: Mapping[str, str], runs: Path) -> Iterator[Finding]:
    """What is wrong with the folders; a file system is named once, with all that lie on it."""
    small: dict[int, tuple[str, list[str]]] = {}
    for cache in caches(variables, runs):
        folder = nearest_folder(cache.path)
        error = _unwritable(folder)
        if error:
            yield _finding(cache, folder, error)
            continue
        facts = os.statvfs(folder)
        if reason := _short(facts):
            small.setdefault(os.stat(folder).st_dev, (reason, []))[1].append(f"{cache.name} ({cache.path})")
        if cache.runs_code and facts.f_flag & getattr(os, "ST_NOEXEC", 0):
            message = f"{cache.name} lies on a file system that runs no code: compiled kernels cannot be loaded from it"
            yield Finding("cache-noexec", "risky", message, evidence=str(cache.path), way_out=f"set {cache.name}")
    for reason, names in small.values():
        yield Finding(
            "disk-nearly-full",
            "risky",
            f"a file system is nearly full: {reason}",
            evidence=", ".join(names),
            way_out="df -h; yard rm RUN frees old runs, HF_HOME moves the hub's cache, uv cache prune frees uv's",
        )


def _unwritable(folder: Path) -> str | None:
    """Why nothing can be written into a folder, found by writing a block that leaves no trace; None where it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _finding(cache: Cache, folder: Path, error: str) -> Finding:
    where = f"{cache.path}" if folder == cache.path else f"{cache.path}, of which {folder} exists"
    way_out = (
        f"set {cache.name} to a folder that can be written" if cache.name.isupper() else f"ls -ld {folder}; df {folder}"
    )
    message = f"{cache.name} cannot be written: {error}"
    return Finding("cache-unwritable", "broken", message, evidence=where, way_out=way_out)


def _short(facts: os.statvfs_result) -> str | None:
    free = facts.f_bavail * facts.f_frsize
    if free < FREE_BYTES:
        return f"{free / 2**30:.1f} GiB free of {facts.f_blocks * facts.f_frsize / 2**30:.1f}"
    if facts.f_files and facts.f_favail < FREE_FILES:
        return f"{facts.f_favail} files can still be made on it"
    return None
