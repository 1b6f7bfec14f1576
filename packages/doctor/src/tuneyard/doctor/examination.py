"""Everything that `yard doctor` and the tool `env_diagnose` were asked to look at, and what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.control.workspace import Workspace
from tuneyard.doctor import deep, since, tokens
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.health import TIME_LIMIT, Health, diagnose, environment_names

SEVERITIES = ("broken", "risky", "note")


@dataclass(frozen=True)
class Asked:
    """What is to be looked at."""

    environments: list[str] = field(default_factory=list)
    """Their names; empty for all but the light one."""
    deep: bool = False
    """Also train and evaluate for real."""
    model: str | None = None
    """Also compare this model's tokens."""
    since: str | None = None
    """Also tell what changed since this run."""
    time_limit: float = TIME_LIMIT
    """Seconds for one import."""
    folder: Path = field(default_factory=Path.cwd)
    """What a relative path to a model is meant from."""


@dataclass
class Examination:
    """What was found."""

    health: Health
    deep: list[deep.Deep] = field(default_factory=list)
    tokens: tokens.Tokens | None = None
    changes: list[Finding] | None = None
    """What changed since the run that was named; None where none was."""

    @property
    def findings(self) -> list[Finding]:
        """All findings, what breaks first; changes since a run are not among them."""
        found = [*self.health.findings, *(self.tokens.findings if self.tokens else [])]
        return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))

    @property
    def exit_code(self) -> int:
        """0 fine, 1 something breaks, 3 nothing could be probed."""
        code = self.health.exit_code
        return code or int(any(finding.severity == "broken" for finding in self.findings))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = {**self.health.as_dict(), "findings": [finding.as_dict() for finding in self.findings]}
        if self.deep:
            told["deep"] = [asdict(each) for each in self.deep]
        if self.tokens is not None:
            told["tokens"] = {"model": self.tokens.model, "counts": self.tokens.counts}
        if self.changes is not None:
            told["changes"] = [finding.as_dict() for finding in self.changes]
        return told


def examine(workspace: Workspace, asked: Asked, tell: Callable[[str], None] = lambda text: None) -> Examination:
    """Look at all that was asked for.

    Args:
        workspace: whose environments.
        asked: what to look at.
        tell: called with what is being done, from several threads.

    Raises:
        RequestError: no such environment, model or run; or a file of the workspace is broken.
        SetupError: the hub is needed for a model and cannot be reached.
    """
    run, name, before = _run_asked_for(workspace, asked)
    names = list(asked.environments) or ([name] if name else [])
    if name and name not in names:
        names.append(name)
    environment_names(workspace, names)  # refused before anything is started
    found = Examination(diagnose(workspace, names, time_limit=asked.time_limit, tell=tell))
    if run is not None and name is not None:
        now, facts = found.health.inventories.get(name), found.health.facts.get(name, {})
        found.changes = since.changes(workspace, name, run, before=before, now=now, facts=facts) if now else []
    if asked.model is not None:
        found.tokens = tokens.compare(workspace, asked.model, found.health.inventories, folder=asked.folder, tell=tell)
    if asked.deep:
        _deep(workspace, found, tell)
    return found


def _run_asked_for(workspace: Workspace, asked: Asked) -> tuple[Any, str | None, dict[str, Any]]:
    if asked.since is None:
        return None, None, {}
    run, name = since.run_and_environment(workspace, asked.since)
    return run, name, since.snapshot(run)


def _deep(workspace: Workspace, found: Examination, tell: Callable[[str], None]) -> None:
    for name in found.health.inventories:
        done, findings = deep.run(workspace, name, tell)
        found.deep.append(done)
        found.health.findings += findings
        if findings and findings[0].severity == "broken":
            next(each for each in found.health.environments if each.name == name).status = "broken"
