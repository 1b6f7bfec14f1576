"""What is said about a distribution elsewhere: its README beside its metadata, and its code when it runs."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from tuneyard.core.cache import cache_folder
from tuneyard.core.errors import RequestError
from tuneyard.core.files import read_json, write_json
from tuneyard.doctor.compatibility.distributions import Distribution, install_alone, metadata_of_wheel
from tuneyard.doctor.compatibility.install_command import read_install_command
from tuneyard.doctor.compatibility.ranges import intersect, is_empty, show
from tuneyard.doctor.compatibility.source import SourceFacts, facts_of_folder, facts_of_wheel
from tuneyard.doctor.compatibility.uv import Solver

FORMAT = 1


@dataclass(frozen=True)
class Claim:
    """A README that says something else than the metadata."""

    where: str
    """`llamafactory 0.9.4, README line 545`."""
    says: str
    """The line, shortened."""
    problem: str
    """What the metadata say instead, or what a shell makes of a command."""


@dataclass(frozen=True)
class Facts:
    """What was read from one distribution beyond its metadata."""

    readme: str
    source: SourceFacts


def facts(distribution: Distribution, solver: Solver | None, python: str) -> Facts | None:
    """README and code of a distribution; None where they are not at hand: no uv, or a wheel for one platform only."""
    if distribution.folder:
        return _installed(distribution)
    place = cache_folder() / "doctor" / "facts" / f"{distribution.name}-{distribution.version}.json"
    if place.is_file():
        entry = read_json(place)
        if entry.get("format") == FORMAT:
            return Facts(entry["readme"], SourceFacts.from_cache(entry["source"]))
    found = _read(distribution, solver, python)
    if found:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, {"format": FORMAT, **asdict(found)})
    return found


def _read(distribution: Distribution, solver: Solver | None, python: str) -> Facts | None:
    wheel = distribution.wheel
    if wheel and distribution.is_pure:
        with zipfile.ZipFile(wheel) as archive:
            return Facts(_description(metadata_of_wheel(wheel)), facts_of_wheel(archive))
    if solver is None or not distribution.is_pure:
        return None
    with tempfile.TemporaryDirectory(prefix="tuneyard-doctor-") as folder:
        metadata = install_alone(distribution, solver, python, Path(folder))
        return Facts(_description(metadata), facts_of_folder(Path(folder)))


def _installed(distribution: Distribution) -> Facts | None:
    site = Path(distribution.folder)
    stem = distribution.name.replace("-", "_")
    metadata = next(
        (p for p in site.glob("*.dist-info/METADATA") if p.parent.name.lower().startswith(f"{stem}-")), None
    )
    if metadata is None:
        return None
    code = site / stem
    source = facts_of_folder(code) if code.is_dir() else SourceFacts()
    return Facts(_description(metadata.read_text(encoding="utf-8", errors="replace")), source)


def _description(metadata: str) -> str:
    message = HeaderParser().parsestr(metadata)
    return message["Description"] or str(message.get_payload())


def read_claims(readme: str, label: str, declared: dict[str, SpecifierSet]) -> list[Claim]:
    """Where a README states another range than the requirements, or an install command that a shell misreads.

    Args:
        readme: Markdown.
        label: whose README it is.
        declared: what the metadata declare, by name; `python` among them.
    """
    found: list[Claim] = []
    for number, line in enumerate(readme.splitlines(), 1):
        where = f"{label}, README line {number}"
        if line.lstrip().startswith("|"):
            found += _table_row(line, where, declared)
        else:
            found += _command(line, where, declared)
    return found


def _table_row(line: str, where: str, declared: dict[str, SpecifierSet]) -> Iterable[Claim]:
    """`| transformers | 4.49.0 | 4.50.0 |` under Minimum and Recommend."""
    cells = [cell.strip(" `*") for cell in line.strip().strip("|").split("|")]
    if len(cells) < 2 or not re.fullmatch(r"[\w.-]+", cells[0]):
        return
    versions = declared.get(canonicalize_name(cells[0]))
    named = [cell for cell in cells[1:3] if re.fullmatch(r"\d+(\.\d+)*", cell)]
    refused = [text for text in named if versions and not versions.contains(_whole(text), prereleases=True)]
    if versions and refused:
        yield Claim(
            where, " | ".join(cells), f"its metadata ask for {show(versions)}, which refuses {', '.join(refused)}"
        )


def _whole(text: str) -> Version:
    return Version(text)


def _command(line: str, where: str, declared: dict[str, SpecifierSet]) -> Iterable[Claim]:
    code = re.search(r"`([^`]*pip3? install[^`]*)`", line)
    try:
        command = read_install_command(code[1] if code else line)
    except RequestError:
        return  # prose with an apostrophe
    if command is None:
        return
    if command.misread:
        yield Claim(where, command.text, f"{command.explain()}; write {command.quoted()}")
    for text in command.meant:
        try:
            wanted = Requirement(text)
        except (InvalidRequirement, InvalidVersion):
            continue
        versions = declared.get(canonicalize_name(wanted.name))
        if versions is not None and is_empty(intersect((versions, wanted.specifier))):
            yield Claim(where, command.text, f"its metadata ask for {show(versions)}, which leaves nothing of {text}")
