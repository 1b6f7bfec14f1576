"""Adapters against the peft of those who will read them: one that a newer peft wrote may hold what a reader lacks."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tuneyard.control.index import newest_first
from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.inventory import Inventory

RUNS = 200
"""How many of the newest trainings are looked at."""

CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Adapter:
    """An adapter and the peft that wrote it."""

    folder: Path
    peft: str
    config: dict[str, Any]


def judge(workspace: Workspace, inventories: Mapping[str, Inventory]) -> Iterator[Finding]:
    """Adapters of this workspace's runs that are newer than an environment's peft."""
    readers = {name: found for name, found in inventories.items() if "peft" in found.versions}
    if not readers:
        return
    found = list(of_runs(workspace))
    for name, inventory in readers.items():
        yield from unread(name, inventory, found)


def of_runs(workspace: Workspace) -> Iterator[Adapter]:
    """The adapters of the newest trainings."""
    for run in islice(newest_first(workspace.runs, kind="train"), RUNS):
        adapter = read(run.adapter, lambda run=run: _peft_of(run))
        if adapter is not None:
            yield adapter


def read(folder: Path, otherwise: Any = lambda: None) -> Adapter | None:
    """The adapter in a folder; None where there is none, or where nothing tells which peft wrote it.

    Args:
        folder: of the adapter.
        otherwise: gives peft's version where the adapter itself, written before peft noted it, does not.
    """
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        return None
    version = config.get("peft_version") if isinstance(config, dict) else None
    version = str(version).partition("@")[0] if version else otherwise()
    return Adapter(folder, version, config) if version else None


def _peft_of(run: RunFolder) -> str | None:
    latest = run.latest()
    try:
        return json.loads(latest.environment.read_bytes())["versions"].get("peft") if latest else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def unread(name: str, inventory: Inventory, found: list[Adapter]) -> Iterator[Finding]:
    """The finding for adapters that an environment's peft is older than; one for all of them."""
    own = inventory.versions["peft"]
    newer = [adapter for adapter in found if _newer(adapter.peft, own)]
    if not newer:
        return
    lacking = _unknown_keys(newer[0], inventory)
    keys = f"; peft {own} does not know {', '.join(lacking)}" if lacking else ""
    what = f"{len(newer)} adapter{'s were' if len(newer) > 1 else ' was'} written by peft {newer[0].peft}"
    yield Finding(
        "adapter-newer-peft",
        "broken" if lacking else "risky",
        f"{what}, and {name} has {own}: it may not read {'them' if len(newer) > 1 else 'it'}",
        name,
        ", ".join(str(adapter.folder) for adapter in newer[:3]) + keys,
        f"{inventory.executable} -m pip install peft=={newer[0].peft}, or train with merge=true",
    )


def _newer(written: str, own: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(written).release[:2] > Version(own).release[:2]  # a patch release adds no setting
    except InvalidVersion:
        return False


def _unknown_keys(adapter: Adapter, inventory: Inventory) -> list[str]:
    """Settings of an adapter, in use, that the reader's peft has no field for; found in its source, nothing is run."""
    package = Path(inventory.places["peft"]).parent / "peft"
    kind = str(adapter.config.get("peft_type", "")).lower()
    known = _fields(package / "tuners" / kind / "config.py")
    if not known:
        return []
    known |= _fields(package / "config.py")
    return sorted(
        key for key, value in adapter.config.items() if key not in known and value not in (None, False, {}, [])
    )


def _fields(source: Path) -> set[str]:
    """Names of the annotated fields of every class in a file."""
    try:
        tree = ast.parse(source.read_text())
    except (OSError, ValueError, SyntaxError):
        return set()
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    fields = [node.target for each in classes for node in each.body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in fields if isinstance(target, ast.Name)}
