"""What was found, as a person reads it: each environment on a line, then what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable

from tuneyard.doctor.examination import SEVERITIES, Examination
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.gpus import Card
from tuneyard.doctor.health import EnvironmentHealth

STATUS = {"not_built": "not built", "unprobed": "could not be probed"}
"""Statuses whose name is not what a person would say."""


def text(found: Examination) -> str:
    """The whole report."""
    of_none = [finding for finding in found.findings if finding.environment is None]
    parts = [_part("this machine", of_none, [_card(card) for card in found.health.graphics.cards])]
    for each in found.health.environments:
        own = [finding for finding in found.findings if finding.environment == each.name]
        done = [f"deep: {d.state}{_took(d.seconds)}" for d in found.deep if d.environment == each.name]
        parts.append(_part(_title(each), own, done))
    if found.tokens is not None:
        counts = ", ".join(f"{name} {count}" for name, count in found.tokens.counts.items())
        parts.append(f"tokens of a fixed text, with {found.tokens.model}: {counts or 'no environment could say'}")
    if found.changes is not None:
        parts.append(_part("changed since the run", found.changes, [] if found.changes else ["nothing"]))
    return "\n\n".join([*parts, _sum(found.findings)])


def _title(each: EnvironmentHealth) -> str:
    decisive = {name: version for name, version in each.libraries.items() if name in ("torch", "transformers")}
    versions = [f"{name} {version}" for name, version in {**each.engines, **decisive}.items()]
    python = [f"Python {each.python}"] if each.python else []
    slowest = max(each.imports.items(), key=lambda item: item[1], default=None)
    took = f"imports {sum(each.imports.values()):.1f} s, most of it {slowest[0]}" if slowest else ""
    where = f"{each.prefix} (by {each.made_by})" if each.prefix else ""
    lines = (f"{each.name}: {STATUS.get(each.status, each.status)}", ", ".join([*python, *versions]), where, took)
    return "\n  ".join(line for line in lines if line)


def _card(card: Card) -> str:
    held = f"leased to {card.run}" if card.run else f"used by {', '.join(card.processes)}" if card.processes else "free"
    return f"{card.name}, {card.used} of {card.memory} MiB in use, {held}"


def _took(seconds: float | None) -> str:
    return f" after {seconds:.0f} s" if seconds else ""


def _part(title: str, findings: Iterable[Finding], lines: Iterable[str] = ()) -> str:
    told = [f"  {line}" for line in lines] + [_finding(finding) for finding in findings]
    return "\n".join([title, *(told or ["  nothing was found"])])


def _finding(finding: Finding) -> str:
    lines = [f"  {finding.severity:<6}  {finding.id}: {finding.message}"]
    lines += [f"          evidence: {finding.evidence}"] if finding.evidence else []
    return "\n".join([*lines, *([f"          way out:  {finding.way_out}"] if finding.way_out else [])])


def _sum(findings: list[Finding]) -> str:
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}
    return ", ".join(f"{count} {'notes' if severity == 'note' else severity}" for severity, count in counts.items())
