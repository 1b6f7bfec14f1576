"""Ways out of a conflict, the cheapest first, each tried by a real solve where that tells, with what is lost by it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.version import Version

from tuneyard.core.errors import TuneyardError
from tuneyard.doctor.compatibility.declared import Declared, Stack
from tuneyard.doctor.compatibility.evidence import Evidence
from tuneyard.doctor.compatibility.proof import Conflict, GivingUp, Proof, Setback
from tuneyard.doctor.compatibility.ranges import is_exact
from tuneyard.doctor.compatibility.uv import Release, Resolution, Solver
from tuneyard.doctor.compatibility.walking import newest_below


@dataclass(frozen=True)
class Mitigation:
    """One way out."""

    kind: str
    """move, extra, split, relax, leave out, no dependencies."""
    what: str
    lost: str
    """The features that are lost by it."""
    command: str = ""
    tried: bool = False
    """Whether a solve showed that it resolves."""


def ways_out(a: Stack, b: Stack, proof: Proof, evidence: Evidence, solver: Solver | None) -> list[Mitigation]:
    """The ways out of one pair's conflicts; empty where there are none."""
    if proof.resolves and not proof.far_behind:
        return []
    moves = [*_moves(a, b, proof, solver), *_moves(b, a, proof, solver)]
    found = [*(way for way in moves if way.kind == "move"), *_extras(proof)]
    found.append(_split(a, b))
    if len(proof.conflicts) == 1:
        found += _relaxed(a, b, proof.conflicts[0], evidence)
    found += _without_dependencies(b, proof, evidence)
    return [*found, *(way for way in moves if way.kind != "move")]


def _moves(stack: Stack, other: Stack, proof: Proof, solver: Solver | None) -> Iterable[Mitigation]:
    """Another version of the one distribution that a stack pins: a newer one if any fits, else an older one."""
    pinned = [d for d in stack.to_solve() if is_exact(d.versions)]
    if solver is None or len(pinned) != 1 or len(stack.to_solve()) != 1:
        return
    root, now = pinned[0], stack.versions.get(pinned[0].name)
    extras = f"[{','.join(sorted(root.requirement.extras))}]" if root.requirement.extras else ""
    others = [_as_it_is(other, d) for d in other.to_solve()]

    def ask(text: str) -> Resolution:
        bounded = f"{root.name}{extras}{text.removeprefix(root.name)}"
        return solver.solve([*others, bounded], python=proof.python)

    if now is None:
        return
    try:
        newer = ask(f"{root.name}>{now}")
        answer = newer if newer.ok else newest_below(root.name, now, ask)
    except TuneyardError:
        return
    if answer and answer.versions:
        yield _moved(root, now, answer.versions[root.name], proof, stack)


def _as_it_is(stack: Stack, declared: Declared) -> str:
    """A requirement with the version that was compared: one without a version would walk back instead."""
    known = stack.versions.get(declared.name)
    extras = f"[{','.join(sorted(declared.requirement.extras))}]" if declared.requirement.extras else ""
    return f"{declared.name}{extras}=={known}" if known else str(declared.requirement)


def _moved(root: Declared, now: str, release: Release, proof: Proof, stack: Stack) -> Mitigation:
    newer = Version(release.version) > Version(now)
    alone = (proof.alone[stack.name].versions or {}).get(root.name)
    price = alone and not newer and Setback(root.name, stack.name, release, alone)
    if price and price.far:
        age = f", {price.days} days older" if price.days else ""
        found = f"the newest found that does is {release.version}{age}"
        what = f"no newer {root.name} fits; {found}: an old release is no way out"
        return Mitigation("no move", what, f"all that {root.name} has learnt since", tried=True)
    lost = "what the newer release has dropped" if newer else f"what came after {release.version}"
    command = f"uv pip install {shlex.quote(f'{root.name}=={release.version}')}"
    return Mitigation("move", f"move {root.name} from {now} to {release.version}", lost, command, tried=True)


def _extras(proof: Proof) -> Iterable[Mitigation]:
    for conflict in proof.conflicts:
        for item in conflict.members:
            if item.declared.extra:
                owner = item.declared.where.partition(",")[0]
                what = (
                    f"install {owner} without its extra {item.declared.extra}, which alone brings {item.declared.shown}"
                )
                yield Mitigation("extra", what, f"what the extra {item.declared.extra} is for")


def _split(a: Stack, b: Stack) -> Mitigation:
    what = f"give {a.name} and {b.name} an environment each and pass files, or HTTP to a served model, between them"
    lost = "both in one process; the disk space of what both need"
    return Mitigation("split", what, lost, "uv venv a; uv venv b, or an environment each in pixi.toml", tried=True)


def _relaxed(a: Stack, b: Stack, conflict: Conflict, evidence: Evidence) -> Iterable[Mitigation]:
    """Overrides are worth naming only where they mend everything: with one conflict."""
    for given_up in conflict.giving_up:
        if not given_up.resolves or "Requires-Dist" not in given_up.item.declared.where:
            continue
        owner = given_up.item.declared.where.partition(",")[0]
        name = given_up.item.declared.name
        modules = evidence.modules(name, owner)
        touched = f"{owner} imports it in {modules}" if modules else f"whatever in {owner} needs the declared range"
        if given_up.version is None:
            what = f"move {given_up.item.declared.shown} of {owner} to an extra, and leave it out"
            yield Mitigation("leave out", what, touched, tried=True)
        else:
            yield _override(given_up, a, b, owner, touched)


def _override(given_up: GivingUp, a: Stack, b: Stack, owner: str, touched: str) -> Mitigation:
    pin = f"{given_up.item.declared.name}=={given_up.version}"
    both = " ".join(shlex.quote(str(d.requirement)) for stack in (a, b) for d in stack.to_solve()[:4])
    command = f"echo {shlex.quote(pin)} > overrides.txt; uv pip install {both} --overrides overrides.txt"
    what = f"relax {given_up.item.declared.shown} of {owner} to {pin}, against what it declares"
    return Mitigation("relax", what, f"support by its authors; {touched}", command, tried=True)


def _without_dependencies(stack: Stack, proof: Proof, evidence: Evidence) -> Iterable[Mitigation]:
    roots = [str(d.requirement) for d in stack.to_solve()]
    if not proof.conflicts or len(roots) > 3:
        return
    packages = sorted({package for conflict in proof.conflicts for package in conflict.packages})
    used = [f"{p} in {m}" for p in packages for label in stack_labels(stack) if (m := evidence.modules(p, label))]
    lost = f"what uses {'; '.join(used)}" if used else f"what needs {', '.join(packages)}"
    command = f"uv pip install --no-deps {' '.join(map(shlex.quote, roots))}"
    what = f"install {stack.name} without dependencies, and by hand those that do not conflict"
    yield Mitigation("no dependencies", what, f"{lost}; every later solve", command)


def stack_labels(stack: Stack) -> list[str]:
    """`name version` of each distribution whose metadata were read."""
    return [distribution.label for distribution in stack.distributions]
