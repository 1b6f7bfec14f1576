"""An environment that exists: what its distributions declare, read from their metadata without running anything."""

from __future__ import annotations

from importlib.metadata import Distribution as Installed
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from tuneyard.core.errors import RequestError, SetupError
from tuneyard.doctor.compatibility.declared import Stack, declare
from tuneyard.doctor.compatibility.distributions import Distribution
from tuneyard.doctor.compatibility.expand import expand, required


def prefix_of(path: Path) -> Path | None:
    """The folder of the environment that a path names: the folder itself, or its interpreter."""
    if path.is_dir():
        return path if (path / "bin" / "python").exists() or (path / "pyvenv.cfg").exists() else None
    is_python = path.name.startswith("python") and path.parent.name == "bin"
    return path.parent.parent if is_python else None


def read_environment(prefix: Path, stack: Stack) -> None:
    """Add what is installed in an environment.

    What nothing else there requires is taken as asked for, in its version; everything else by what is declared for it:
    a version that happened to be newest on the day of the installation binds nobody.

    Raises:
        SetupError: no packages, or no Python, are found in it.
    """
    folders = sorted(prefix.glob("lib/python3.*/site-packages")) or sorted(prefix.glob("Lib/site-packages"))
    if not folders:
        raise SetupError(
            "no installed packages are found in it",
            where=str(prefix),
            way_out="name the folder of an environment, such as .venv, or its bin/python",
        )
    stack.target = folders[-1].parent.name.removeprefix("python") or stack.target
    site = str(folders[-1])
    found = {item.name: item for item in (_read(one, site) for one in distributions(path=[site])) if item}
    asked_for = {d.name: d for item in found.values() for d in required(item, (), stack.target)}
    roots = [item for name, item in found.items() if name not in asked_for or name.startswith("tuneyard-")]
    for item in roots or list(found.values()):
        where = f"{folders[-1]}/{item.name}"
        if item.name.startswith("tuneyard-"):
            _add_own(item, stack)
        else:
            stack.roots.append(declare(f"{item.name}=={item.version}", where))
    _expand_through(stack, found)


def _add_own(item: Distribution, stack: Stack) -> None:
    stack.local.add(item.name)
    stack.roots += [d for d in required(item, (), stack.target) if not d.name.startswith("tuneyard-")]


def _expand_through(stack: Stack, found: dict[str, Distribution]) -> None:
    """From the roots to everything they need, as far as it is installed."""
    waiting = list(stack.roots)
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        declared = waiting.pop()
        item = found.get(declared.name)
        key = (declared.name, frozenset(declared.requirement.extras))
        if item is None or key in seen:
            continue
        seen.add(key)
        before = len(stack.inner)
        expand(stack, declared, item)
        waiting += stack.inner[before:]


def _read(installed: Installed, site: str) -> Distribution | None:
    metadata = installed.metadata
    if not metadata or not metadata["Name"] or not metadata["Version"]:
        return None  # what an interrupted removal left behind
    return Distribution(
        name=canonicalize_name(metadata["Name"]),
        version=metadata["Version"],
        requires=metadata.get_all("Requires-Dist") or [],
        requires_python=metadata["Requires-Python"] or "",
        folder=site,
    )


def no_environment(path: Path) -> RequestError:
    """The refusal of a path that is neither an environment nor a file with requirements."""
    return RequestError(
        "is neither an environment nor a file that declares requirements",
        where=str(path),
        way_out="name a requirements file, a pyproject.toml, a wheel, a lock, or the folder of an environment",
    )
