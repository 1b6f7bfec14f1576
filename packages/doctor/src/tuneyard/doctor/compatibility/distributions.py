"""Metadata of distributions that are not installed: what they require, as their release says it.

uv finds the file, with the user's index settings, and keeps the metadata of every wheel that it considers in its cache:
that is where they are taken from, since a wheel for one platform may weigh hundreds of megabytes. Where they are not
there, uv installs the distribution alone into a temporary folder. What was read is kept in the user's cache; a release
does not change any more.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tuneyard.core.cache import cache_folder
from tuneyard.core.errors import SetupError, TuneyardError
from tuneyard.core.files import read_json, write_json
from tuneyard.doctor.compatibility.uv import PYTHONS, Release, Solver

FORMAT = 2
"""Of the files in the cache: another number reads everything anew."""


@dataclass(frozen=True)
class Distribution:
    """One release."""

    name: str
    version: str
    requires: list[str] = field(default_factory=list)
    """Requires-Dist, as written."""
    requires_python: str = ""
    files: list[str] = field(default_factory=list)
    """Addresses of its wheels."""
    folder: str = ""
    """The site-packages it is installed in; empty where it is not installed."""

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def wheel(self) -> Path | None:
        """Its wheel, where that lies on this disk."""
        for address in self.files:
            part = urlsplit(address)
            if part.scheme in ("", "file") and part.path.endswith(".whl"):
                return Path(unquote(part.path))
        return None

    @property
    def is_pure(self) -> bool:
        """Whether it has a wheel that serves every platform; such a wheel is small."""
        return any(urlsplit(address).path.endswith("-none-any.whl") for address in self.files)


def parse_metadata(text: str, files: Iterable[str] = ()) -> Distribution:
    """A METADATA file."""
    message = HeaderParser().parsestr(text)
    return Distribution(
        name=canonicalize_name(message["Name"]),
        version=message["Version"],
        requires=message.get_all("Requires-Dist") or [],
        requires_python=message["Requires-Python"] or "",
        files=list(files),
    )


def metadata_of_wheel(path: Path) -> str:
    """The METADATA file of a wheel that lies on this disk.

    Raises:
        SetupError: it is no wheel.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
            return archive.read(entry).decode("utf-8", "replace")
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise SetupError("cannot be read as a wheel", where=str(path), way_out="download or build it again") from error


def read_wheel(path: Path) -> Distribution:
    """The metadata of a wheel that lies on this disk; raises as `metadata_of_wheel` does."""
    return parse_metadata(metadata_of_wheel(path), [path.as_uri()])


def fetch(requirements: Iterable[str], solver: Solver | None, python: str) -> dict[str, Distribution | TuneyardError]:
    """The newest release of each requirement, with what is known about it; an error in place of what cannot be had.

    Args:
        requirements: such as `llamafactory==0.9.5`, `vllm`.
        solver: finds what is not in the cache; None: only the cache is asked.
        python: the version the release must take.
    """
    found: dict[str, Distribution | TuneyardError] = {}
    missing = []
    for text in requirements:
        known = _cached(text, solver)
        if known:
            found[text] = known
        else:
            missing.append(text)
    return {**found, **_fetch(missing, solver, python)} if missing else found


def _fetch(texts: list[str], solver: Solver | None, python: str) -> dict[str, Distribution | TuneyardError]:
    if solver is None:
        return {text: SetupError("not in the cache, and there is no uv to fetch them") for text in texts}
    found: dict[str, Distribution | TuneyardError] = {}
    releases: dict[str, tuple[str, Release]] = {}
    for text in texts:
        try:
            releases[text] = _release(text, texts, solver, python)
        except TuneyardError as error:
            found[text] = error
    _warm_up(releases.values(), solver, python)
    for text, (name, release) in releases.items():
        try:
            found[text] = _load(name, release, solver, python)
        except TuneyardError as error:
            found[text] = error
    return found


def _warm_up(releases: Iterable[tuple[str, Release]], solver: Solver, python: str) -> None:
    """One solve for everything that is not known yet: whatever comes of it, uv has the metadata then."""
    if any(_read(name, release.version, solver.index) is None for name, release in releases):
        with suppress(TuneyardError):
            solver.solve([f"{name}=={release.version}" for name, release in releases], python=python)


def _release(text: str, texts: list[str], solver: Solver, python: str) -> tuple[str, Release]:
    """The release a requirement leads to: all are asked for together, and one by one where that fails.

    For a single one the newest is meant that can be installed at all, with everything it needs.

    Raises:
        SetupError: there is no such release.
    """
    answer = solver.solve(texts, dependencies=len(texts) == 1 and "==" not in text, python=python)
    for version in () if answer.ok else (python, *PYTHONS):  # one that refuses this Python declares something too
        answer = solver.solve([text], dependencies=False, python=version)
        if answer.ok or "Python" not in answer.message:
            break
    if answer.versions is None:
        raise SetupError(answer.message)
    name = canonicalize_name(Requirement(text).name)
    return name, answer.versions[name]


def _load(name: str, release: Release, solver: Solver, python: str) -> Distribution:
    found = _read(name, release.version, solver.index)
    if found is None:
        found = _obtain(name, release, solver, python)
        write_json(_place(found.name, release.version, solver.index), {"format": FORMAT, **asdict(found)})
    return found


def _obtain(name: str, release: Release, solver: Solver, python: str) -> Distribution:
    plain = Distribution(name, release.version, files=list(release.files))
    if plain.wheel:
        return parse_metadata(metadata_of_wheel(plain.wheel), release.files)
    found = _from_uv_cache(plain, solver)
    if found is None:
        solver.solve([f"{name}=={release.version}"], python=python)
        found = _from_uv_cache(plain, solver)
    if found:
        return found
    with tempfile.TemporaryDirectory(prefix="tuneyard-doctor-") as folder:
        return parse_metadata(install_alone(plain, solver, python, Path(folder)), release.files)


def install_alone(distribution: Distribution, solver: Solver, python: str, folder: Path) -> str:
    """Install one distribution, without what it needs, into a folder; its METADATA.

    Raises:
        SetupError: that failed; with uv's words.
    """
    command = ["pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    command += ["--python", sys.executable, "--python-version", python]
    done = solver.run([*command, *solver.options, f"{distribution.name}=={distribution.version}"])
    metadata = next(folder.glob("*.dist-info/METADATA"), None)
    if done.returncode or metadata is None:
        raise SetupError(f"{distribution.label} cannot be had: {done.stderr.strip()[-400:]}")
    return metadata.read_text(encoding="utf-8", errors="replace")


def _from_uv_cache(plain: Distribution, solver: Solver) -> Distribution | None:
    """What uv keeps about a wheel that it considered; the format is its own, so anything unexpected is None."""
    import msgspec

    for address in plain.files:
        tags = Path(unquote(urlsplit(address).path)).stem.partition("-")[2]
        for path in solver.cache.glob(f"wheels-v*/*/**/{plain.name}/{tags}.msgpack"):
            data = path.read_bytes()
            length = int.from_bytes(data[-8:], "little")  # the metadata, then how long the server lets them be kept
            try:
                entry = msgspec.msgpack.decode(data[:length], type=tuple[str, str, list[str], str | None, Any, Any])
            except msgspec.MsgspecError:
                continue
            return Distribution(plain.name, plain.version, entry[2], entry[3] or "", plain.files)
    return None


def _cached(text: str, solver: Solver | None) -> Distribution | None:
    """Only an exact version can be known without asking what is newest."""
    name, exact, version = text.partition("==")
    if not exact or any(sign in version for sign in "*,;<>! "):
        return None
    return _read(name.partition("[")[0].strip(), version.strip(), solver.index if solver else "*")


def _read(name: str, version: str, index: str) -> Distribution | None:
    stem = f"{canonicalize_name(name)}-{version}"
    exact = sorted(_folder().glob(f"{stem}.{index}.json"))
    builds = [] if "+" in version else sorted(_folder().glob(f"{stem}+*.{index}.json"))  # 2.13.0 is met by 2.13.0+cpu
    for path in (*exact, *builds):
        entry = read_json(path)
        if entry.pop("format", None) == FORMAT:
            return Distribution(**entry)
    return None


def _place(name: str, version: str, index: str) -> Path:
    _folder().mkdir(parents=True, exist_ok=True)
    return _folder() / f"{canonicalize_name(name)}-{version}.{index}.json"


def _folder() -> Path:
    return cache_folder() / "doctor" / "distributions"
