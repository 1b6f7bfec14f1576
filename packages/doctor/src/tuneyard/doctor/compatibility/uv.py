"""Real solves by uv, with the index settings that the user has for pip and for uv."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from tuneyard.core.cache import cache_folder
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import read_json, write_json

SOLVE_SECONDS = 300
"""How long one solve may take: a cold cache on a slow line needs minutes."""

KEPT_SECONDS = 6 * 3600
"""How long an answer stands: an index changes within a day, and comparing again should not take minutes again."""

FORMAT = 1
"""Of the answers that are kept."""

PYTHONS = ("3.11", "3.12", "3.13", "3.10", "3.14", "3.9")
"""Tried in this order where the version that was asked for does not serve."""

_OLDEST = (0, 9)
"""The first uv whose pylock.toml tells when a release was uploaded."""

_UNREACHABLE = re.compile(
    r"failed to fetch|error sending request|dns error|connection|timed out|network connectivity is disabled|"
    r"network was disabled|could not connect|tls|certificate|http status (server|client) error|status code 5",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Release:
    """One version of a distribution, as the index offers it."""

    version: str
    uploaded: datetime | None = None
    """When; None where the index does not say."""
    files: tuple[str, ...] = ()
    """Addresses of its wheels, or of its source where it has none."""


@dataclass(frozen=True)
class Resolution:
    """What came of one solve."""

    asked: tuple[str, ...]
    python: str
    versions: dict[str, Release] | None
    """None: there is no solution."""
    message: str
    """The solver's own words, where there is none."""
    at: str
    """UTC, to the second."""
    seconds: float

    @property
    def ok(self) -> bool:
        return self.versions is not None

    @property
    def reason(self) -> str:
        """The solver's words without the sentence that every failure begins with."""
        return self.message.partition(" cause: ")[2] or self.message

    @property
    def digest(self) -> str:
        """The first 12 digits of the sha256 of the outcome: `name==version` lines, or the solver's words."""
        lines = sorted(f"{name}=={release.version}" for name, release in (self.versions or {}).items())
        return hashlib.sha256(("\n".join(lines) or self.message).encode()).hexdigest()[:12]


@dataclass
class Solver:
    """uv, asked about one version of Python."""

    program: str
    environ: dict[str, str]
    options: list[str]
    python: str = "3.11"
    solved: dict[tuple[Any, ...], Resolution] = field(default_factory=dict)
    """Every question of this run; the same one is not put twice."""
    fresh: bool = False
    """Put every question anew. False: answers of the last six hours stand; each keeps the time it was given at."""

    def solve(self, requirements: Iterable[str], *, dependencies: bool = True, python: str | None = None) -> Resolution:
        """Resolve requirements together.

        Args:
            requirements: lines of a requirements file.
            dependencies: False: the named distributions alone, whatever they need.
            python: another version of Python than the solver's.

        Raises:
            SetupError: uv could not work: no network, an index that answers wrongly.
        """
        asked = tuple(sorted(set(requirements)))
        key = (asked, dependencies, python or self.python)
        if key not in self.solved:
            place = self._place(key)
            self.solved[key] = _stored(place, self.fresh) or self._solve(asked, dependencies, python or self.python)
            _store(place, self.solved[key])
        return self.solved[key]

    def _place(self, key: tuple[Any, ...]) -> Path:
        digest = hashlib.sha256(repr((FORMAT, self.index, key)).encode()).hexdigest()[:24]
        return cache_folder() / "doctor" / "solves" / f"{digest}.json"

    def _solve(self, asked: tuple[str, ...], dependencies: bool, python: str) -> Resolution:
        command = ["pip", "compile", "--format", "pylock.toml", "--quiet", "--no-header", "--color", "never"]
        command += ["--python", sys.executable, "--python-version", python]  # else uv asks every Python of PATH
        command += [*self.options, *([] if dependencies else ["--no-deps"]), "-"]
        started = time.monotonic()
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        done = self.run(command, "\n".join([*asked, ""]))
        seconds = time.monotonic() - started
        if done.returncode == 0:
            return Resolution(asked, python, _releases(done.stdout), "", at, seconds)
        message = _words(done.stderr)
        if "No solution found" not in message or re.search(r"network (was|is|connectivity is) disabled", message):
            raise _could_not(message)
        return Resolution(asked, python, None, message, at, seconds)

    def run(self, arguments: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run uv; what it prints is kept for the caller.

        Raises:
            SetupError: it does not start, or does not come back in time.
        """
        command = [self.program, *arguments]
        try:
            return subprocess.run(
                command,
                input=text,
                env=self.environ,
                capture_output=True,
                text=True,
                timeout=SOLVE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SetupError(f"uv did not answer within {SOLVE_SECONDS} s", way_out="try again later") from error
        except OSError as error:
            raise SetupError(f"uv does not start: {error}", where=self.program) from error

    @cached_property
    def index(self) -> str:
        """A short name of the index settings, for keys of caches."""
        settings = sorted((k, v) for k, v in self.environ.items() if re.match(r"UV_.*(INDEX|LINKS)", k))
        return hashlib.sha256(repr((settings, self.options)).encode()).hexdigest()[:12]

    @cached_property
    def cache(self) -> Path:
        """The folder of uv's cache."""
        return Path(self.run(["cache", "dir", "--color", "never"]).stdout.strip())


def _stored(place: Path, fresh: bool) -> Resolution | None:
    try:
        if fresh or time.time() - place.stat().st_mtime > KEPT_SECONDS:
            return None
        entry = read_json(place)
    except (OSError, ValueError):
        return None
    if entry["versions"] is not None:
        entry["versions"] = {name: _release_from(stored) for name, stored in entry["versions"].items()}
    return Resolution(**{**entry, "asked": tuple(entry["asked"])})


def _release_from(stored: dict[str, Any]) -> Release:
    uploaded = stored["uploaded"] and datetime.fromisoformat(stored["uploaded"])
    return Release(stored["version"], uploaded, tuple(stored["files"]))


def _store(place: Path, answer: Resolution) -> None:
    """Keep an answer, where the cache may be written; the modification time stays that of the first writing."""
    if place.exists() and time.time() - place.stat().st_mtime <= KEPT_SECONDS:
        return
    entry = asdict(answer)
    for release in (entry["versions"] or {}).values():
        release["uploaded"] = release["uploaded"] and release["uploaded"].isoformat()
    with suppress(OSError, SetupError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, entry)


def find_solver(root: Path | None, python: str = "3.11", *, fresh: bool = False) -> Solver:
    """uv with the user's settings.

    Args:
        root: the workspace, whose launcher may have installed a uv and knows how to read pip's settings.
        python: the version that is solved for.
        fresh: put every question anew.

    Raises:
        SetupError: there is no uv, or only one that is too old.
    """
    candidates = [os.environ.get("UV"), shutil.which("uv"), root and str(root / ".pixi" / "uv-tool" / "bin" / "uv")]
    program = next((c for c in candidates if c and _version(c) >= _OLDEST), None)
    if program is None:
        raise SetupError(
            f"no uv {'.'.join(map(str, _OLDEST))} or newer on PATH",
            way_out="pip install uv, or name one in the variable UV",
        )
    launcher = load_launcher(root)
    environ = launcher.uv_environ() if launcher else dict(os.environ)
    return Solver(program, environ, launcher.index_strategy() if launcher else [], python, fresh=fresh)


@cache
def load_launcher(root: Path | None) -> ModuleType | None:
    """The workspace's pixiw as a module: it knows the manifest, and pip's settings under uv's names."""
    path = root / "pixiw" if root else None
    if path is None or not path.is_file():
        return None
    module = ModuleType("pixiw")
    module.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    return module


def _version(program: str) -> tuple[int, ...]:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:3])


def _releases(pylock: str) -> dict[str, Release]:
    return {entry["name"]: _release(entry) for entry in tomllib.loads(pylock).get("packages", [])}


def _release(entry: dict[str, Any]) -> Release:
    files = entry.get("wheels") or [part for part in (entry.get("archive"), entry.get("sdist")) if part]
    times = [file["upload-time"] for file in files if "upload-time" in file]
    addresses = tuple(file.get("url") or file.get("path", "") for file in files)
    return Release(entry.get("version", "0"), min(times, default=None), addresses)


def _words(stderr: str) -> str:
    """The solver's message as one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stderr)
    if "No solution found" in plain and "network was disabled" not in plain:
        plain = plain.partition("\nhint:")[0]  # advice about uv's own options, which differs from release to release
    return re.sub(r"\s+", " ", plain).strip().removeprefix("error: ")


def _could_not(message: str) -> SetupError | RequestError:
    end = message[:600]
    if _UNREACHABLE.search(message):
        return SetupError(
            f"the package index could not be reached: {end}",
            way_out="check the network and pip's index settings (pip config list)",
        )
    return RequestError(f"uv refused the question: {end}")
