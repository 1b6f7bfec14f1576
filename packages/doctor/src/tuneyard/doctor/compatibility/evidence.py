"""Evidence beside the declared ranges: checks made at run time, READMEs, and the code that a conflict touches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tuneyard.core.errors import TuneyardError
from tuneyard.doctor.compatibility.claims import Claim, Facts, facts, read_claims
from tuneyard.doctor.compatibility.declared import Stack
from tuneyard.doctor.compatibility.distributions import Distribution
from tuneyard.doctor.compatibility.proof import Proof
from tuneyard.doctor.compatibility.ranges import intersect, is_empty, simplest
from tuneyard.doctor.compatibility.shared import Shared
from tuneyard.doctor.compatibility.source import RuntimeCheck
from tuneyard.doctor.compatibility.uv import Solver

MOST_MODULES = 6
"""Modules that are named for one package; more are counted."""


@dataclass(frozen=True)
class Check:
    """A check made at run time on a package that both stacks have, beside what is declared."""

    distribution: str
    requirement: str
    where: str
    condition: str
    holds: str
    """What it means for these two stacks."""


@dataclass
class Evidence:
    """Everything beyond the ranges, for one pair."""

    checks: list[Check] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    uses: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """package -> distribution -> its modules that import the package."""
    unread: list[str] = field(default_factory=list)
    """Distributions whose code is not at hand."""

    def modules(self, package: str, distribution: str) -> str:
        """The modules of a distribution that import a package, in words; empty where none is known."""
        found = self.uses.get(package, {}).get(distribution, [])
        more = f" and {len(found) - MOST_MODULES} more" if len(found) > MOST_MODULES else ""
        return ", ".join(found[:MOST_MODULES]) + more


def gather(a: Stack, b: Stack, rows: Sequence[Shared], proof: Proof | None, solver: Solver | None) -> Evidence:
    """Read the code and the READMEs of the distributions that matter to a pair: those named, and those in conflicts."""
    evidence = Evidence()
    for stack in (a, b):
        for distribution in _that_matter(stack, rows, proof):
            try:
                read = facts(distribution, solver, stack.target)
            except TuneyardError:
                read = None
            if read is None:
                evidence.unread.append(distribution.label)
                continue
            shared = {row.package: row for row in rows}
            evidence.checks += _checks(distribution, read, shared)
            evidence.claims += read_claims(read.readme, distribution.label, _declared_by(stack, distribution))
            for package in _in_conflict(rows, proof):
                if modules := read.source.imports.get(package.replace("-", "_")):
                    evidence.uses.setdefault(package, {})[distribution.label] = modules
    return evidence


def _that_matter(stack: Stack, rows: Sequence[Shared], proof: Proof | None) -> list[Distribution]:
    places = {
        where.partition(",")[0]
        for row in rows
        if row.verdict != "agree"
        for s in (row.a, row.b)
        for _, where in s.declared
    }
    for conflict in proof.conflicts if proof else ():
        places |= {item.declared.where.partition(",")[0] for item in conflict.members}
    few = len(stack.distributions) <= 3
    return [d for d in stack.distributions if few or d.label in places]


def _checks(distribution: Distribution, read: Facts, shared: dict[str, Shared]) -> Iterable[Check]:
    for check in read.source.checks:
        holds = _meaning(check, shared)
        if holds:
            yield Check(distribution.label, check.requirement, check.where, check.condition, holds)


def _in_conflict(rows: Sequence[Shared], proof: Proof | None) -> set[str]:
    """The packages that two stacks disagree about."""
    named = {package for conflict in (proof.conflicts if proof else ()) for package in conflict.packages}
    return named | {row.package for row in rows if row.verdict != "agree"}


def _meaning(check: RuntimeCheck, shared: dict[str, Shared]) -> str | None:
    """What a check on a package of both means for them; None where it adds nothing to what is declared."""
    try:
        wanted = Requirement(check.requirement)
    except InvalidRequirement:
        return None
    row = shared.get(canonicalize_name(wanted.name))
    if row is None:
        return None
    both = intersect((row.a.versions, row.b.versions))
    if is_empty(both):
        return f"beside the declared {row.a.shown} and {row.b.shown}"
    narrowed = intersect((both, wanted.specifier))
    if is_empty(narrowed):
        return f"refuses all that both accept, {simplest(both)}: what stands there does not run"
    if not both.to_range().is_subset(wanted.specifier.to_range()):
        return f"narrows what both accept to {simplest(narrowed)}"
    return f"met by every version that both accept, {simplest(both)}" if check.condition else None


def _declared_by(stack: Stack, distribution: Distribution) -> dict[str, SpecifierSet]:
    """What one distribution declares, extras included: a README may speak of any of them."""
    found: dict[str, SpecifierSet] = {"python": SpecifierSet(distribution.requires_python)}
    for declared in stack.inner:
        if declared.where.startswith(f"{distribution.label},"):
            found[declared.name] = intersect((found.get(declared.name, SpecifierSet()), declared.versions))
    return found
