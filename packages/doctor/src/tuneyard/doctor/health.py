"""The health of environments: each is probed by its own interpreter, all at once; what is wrong becomes findings."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from tuneyard.control import devices
from tuneyard.control.environments import environment_prefix, worker_environment, worker_python
from tuneyard.control.resolving.hub import OFFLINE_VARIABLE, Hub, hub_of
from tuneyard.control.workspace import MANIFEST, Workspace
from tuneyard.core.errors import RequestError, SetupError, unknown
from tuneyard.doctor import across, disks, gpus, hub_access, importing, inventory, machine, torch_build
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.importing import Importer, Imports
from tuneyard.doctor.inventory import ENGINES, LIBRARIES, Inventory
from tuneyard.doctor.probing import Probed, probe

TIME_LIMIT = 180.0
"""Seconds that one import may take: on a network disk, with nothing in memory yet, minutes are no wonder."""

INVENTORY_SECONDS = 60.0


@dataclass
class EnvironmentHealth:
    """One environment, as it was found."""

    name: str
    status: str
    """ready; broken: it has findings that break; not_built; unprobed: its Python could not be asked."""
    made_by: str | None = None
    """pixi, pixiw, or settings (an interpreter named in tuneyard.yaml)."""
    prefix: str | None = None
    python: str | None = None
    """Version of its Python."""
    engines: dict[str, str] = field(default_factory=dict)
    """The engines it has, and their versions."""
    libraries: dict[str, str] = field(default_factory=dict)
    """Versions of the libraries that decide a result."""
    imports: dict[str, float] = field(default_factory=dict)
    """Module -> seconds that importing it took, after those before it."""


@dataclass
class Health:
    """What was found out."""

    environments: list[EnvironmentHealth] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    inventories: dict[str, Inventory] = field(default_factory=dict)
    """Environment -> what is installed; those that could not be asked are not among them."""
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Environment -> what its imports told."""
    graphics: gpus.Graphics = field(default_factory=gpus.Graphics)

    @property
    def exit_code(self) -> int:
        """0 nothing breaks, 1 something does, 3 no environment could be probed."""
        if self.environments and not self.inventories:
            return 3
        return 1 if any(finding.severity == "broken" for finding in self.findings) else 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "environments": [asdict(each) for each in self.environments],
            "gpus": [asdict(card) for card in self.graphics.cards],
            "findings": [finding.as_dict() for finding in self.findings],
        }


def environment_names(workspace: Workspace, asked: Sequence[str] = ()) -> list[str]:
    """The environments that are meant: those that were asked for, else all but the light one.

    Raises:
        RequestError: there is no environment of that name, or the manifest cannot be read.
    """
    path = workspace.path / MANIFEST
    try:
        manifest = tomllib.loads(path.read_text()) if path.is_file() else {}
    except (ValueError, OSError) as error:
        raise RequestError(f"cannot be read: {error}", where=str(path)) from error
    named = workspace.settings.environments if workspace.has_settings else {}
    known = sorted({*manifest.get("environments", {}), *named})
    for name in asked:
        if name not in known:
            raise unknown("environment", name, known, where=str(path))
    return list(dict.fromkeys(asked)) or [name for name in known if name != "default"]


def diagnose(
    workspace: Workspace,
    asked: Sequence[str] = (),
    *,
    time_limit: float = TIME_LIMIT,
    tell: Callable[[str], None] = lambda text: None,
) -> Health:
    """Probe environments and the machine.

    Args:
        workspace: whose environments.
        asked: their names. Default: all but the light one.
        time_limit: seconds that one import may take.
        tell: called with what is being done; from several threads.

    Raises:
        RequestError: there is no environment of that name, or a file of the workspace is broken.
    """
    names = environment_names(workspace, asked)
    for name in names:
        inventory.pins(workspace, name)  # a file that cannot be read is refused before anything is started
    probing = _Probing(workspace, time_limit, tell)
    with ThreadPoolExecutor(max_workers=len(names) + 2) as pool, probing:
        shared = pool.submit(_of_the_machine, workspace, hub_of(workspace))
        graphics = pool.submit(gpus.look)
        probes = [pool.submit(probing.environment, name) for name in names]
        health = Health(graphics=graphics.result())
        health.findings += [*shared.result(), *health.graphics.findings]
        for probed in [each.result() for each in probes]:
            _add(health, workspace, probed, expected=bool(asked))
    health.findings += across.judge(workspace, health.inventories)
    return health


def _of_the_machine(workspace: Workspace, hub: Hub) -> list[Finding]:
    found = [*machine.judge(hub.variables, workspace.runs), *disks.judge(hub.variables, workspace.runs)]
    return [*found, *hub_access.judge(hub)]


@dataclass
class _Probed:
    """What came of one environment."""

    health: EnvironmentHealth
    finding: Finding | None = None
    """Why it could not be asked."""
    inventory: Inventory | None = None
    imports: list[Imports] = field(default_factory=list)


@dataclass(frozen=True)
class _Probing:
    """Probes environments; leaving it ends what still runs, as where somebody presses Ctrl-C."""

    workspace: Workspace
    limit: float
    tell: Callable[[str], None]
    stop: Event = field(default_factory=Event)

    def __enter__(self) -> _Probing:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop.set()

    def environment(self, name: str) -> _Probed:
        """Ask one environment what is installed, then have it import what it is for."""
        try:
            prefix, python = environment_prefix(self.workspace, name), worker_python(self.workspace, name)
            variables = worker_environment(self.workspace, name, {OFFLINE_VARIABLE: "1"})
        except SetupError as error:
            id = "interpreter-missing" if _is_named(self.workspace, name) else "not-built"
            finding = Finding(id, "broken", error.message, name, error.where, error.way_out)
            return _Probed(EnvironmentHealth(name, "not_built"), finding)
        health = EnvironmentHealth(name, "unprobed", _made_by(self.workspace, prefix), str(prefix))
        self.tell(f"{name}: what is installed")
        options: dict[str, Any] = {"variables": variables, "cwd": self.workspace.path, "stop": self.stop}
        told = probe(python, "inventory.py", name, limit=INVENTORY_SECONDS, **options)
        if not told.reports:
            return _Probed(health, _unasked(name, python, told))
        self.tell(f"{name}: importing what it is for")
        found = inventory.parse(told.reports[-1])
        return _Probed(health, None, found, self._imports(Importer(name, python, limit=self.limit, **options), found))

    def _imports(self, importer: Importer, found: Inventory) -> list[Imports]:
        groups = importing.groups(found.versions)
        with ThreadPoolExecutor(max_workers=max(1, len(groups))) as pool:
            return list(pool.map(importer.imports, groups))


def _is_named(workspace: Workspace, name: str) -> bool:
    """Whether tuneyard.yaml names an interpreter for the environment."""
    settings = workspace.settings.environments.get(name) if workspace.has_settings else None
    return settings is not None and settings.interpreter is not None


def _unasked(name: str, python: Path, told: Probed) -> Finding:
    last = told.log.strip().splitlines()[-1:]
    why = f"the system refuses to start it: {told.refused}" if told.refused else f"it {told.ending()}"
    evidence = " ".join([f"{python} -> {os.path.realpath(python)};", *last])
    mend = f"./pixiw install -e {name}, or name another interpreter in tuneyard.yaml"
    return Finding("interpreter-broken", "broken", f"its Python does not work: {why}", name, evidence, mend)


def _add(health: Health, workspace: Workspace, probed: _Probed, expected: bool) -> None:
    """Put what came of one environment into the whole."""
    each, found = probed.health, probed.inventory
    health.environments.append(each)
    if found is None:
        assert probed.finding is not None
        unneeded = probed.finding.id == "not-built" and not expected
        health.findings.append(replace(probed.finding, severity="note") if unneeded else probed.finding)
        return
    facts = _facts(probed.imports)
    health.inventories[each.name], health.facts[each.name] = found, facts
    each.python = found.python
    each.engines = {n: found.versions[n] for n in ENGINES if n in found.versions}
    each.libraries = {n: found.versions[n] for n in LIBRARIES if n in found.versions}
    each.imports = {
        module: taken for group in probed.imports for module, taken in group.seconds.items() if taken >= 0.01
    }
    findings = [finding for group in probed.imports for finding in group.findings]
    findings += inventory.judge(workspace, each.name, found)
    findings += torch_build.judge(each.name, found, facts, _usable_cards(health.graphics), health.graphics.driver)
    findings += importing.judge(each.name, found, facts)
    health.findings += _unique(findings)
    each.status = "broken" if any(finding.severity == "broken" for finding in findings) else "ready"


def _facts(imports: Sequence[Imports]) -> dict[str, Any]:
    """What the imports told, together; of the loaded CUDA libraries those of the first process that has any."""
    facts: dict[str, Any] = {}
    for group in reversed(imports):
        facts |= {step: told for step, told in group.facts.items() if told or step not in facts}
    return facts


def _usable_cards(graphics: gpus.Graphics) -> list[str]:
    usable = set(devices.gpus())
    return [card.name for card in graphics.cards if card.uuid in usable]


_TOLD_ONCE = frozenset({"torchaudio-missing", *(f"{name}-mismatch" for name in importing.EXTENSIONS)})
"""Seen in several places: in the metadata, and at the import of whatever needs it."""


def _unique(findings: Sequence[Finding]) -> list[Finding]:
    """Without repetitions; the first of them, which an import gave, stays."""
    kept: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        kept.setdefault((finding.id, "" if finding.id in _TOLD_ONCE else finding.message), finding)
    return list(kept.values())


def _made_by(workspace: Workspace, prefix: Path) -> str:
    for folder, maker in ((".pixi/envs", "pixi"), (".pixi/uv", "pixiw")):
        if prefix.is_relative_to(workspace.path / folder):
            return maker
    return "settings"
