"""The proof: uv resolves what two stacks ask for, alone and together; where it cannot, the smallest reasons are found.

A set of requirements conflicts by itself when uv finds no solution for it and finds one as soon as any member is taken
out. Such sets are found by deletion, each step a real solve: first in halves, then one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from packaging.version import Version

from tuneyard.core.errors import TuneyardError
from tuneyard.doctor.compatibility.declared import Declared, Stack, declare
from tuneyard.doctor.compatibility.ranges import intersect
from tuneyard.doctor.compatibility.shared import Shared
from tuneyard.doctor.compatibility.uv import PYTHONS, Release, Resolution, Solver
from tuneyard.doctor.compatibility.walking import newest_below

FAR_BEHIND_DAYS = 180
"""A release this much older than what every stack takes by itself is the price of a conflict, not a solution."""

MOST_SETS = 6
"""Conflicts that are taken apart for one pair; more are counted as one rest."""


@dataclass(frozen=True)
class Item:
    """One requirement of one stack."""

    stack: str
    declared: Declared

    @property
    def line(self) -> str:
        """As a solver is asked for it."""
        return str(self.declared.requirement)


@dataclass(frozen=True)
class GivingUp:
    """What happens without one member of a conflict."""

    item: Item
    resolves: bool
    consequence: str
    version: str | None
    """The version of the package that is then installed; None: none, or nothing resolves."""


@dataclass(frozen=True)
class Conflict:
    """A smallest set of requirements without a solution."""

    members: list[Item]
    solve: Resolution
    """Of the members alone."""
    giving_up: list[GivingUp]

    @property
    def packages(self) -> list[str]:
        return sorted({item.declared.name for item in self.members})


@dataclass(frozen=True)
class Setback:
    """A package that is older together than a stack has it alone."""

    package: str
    stack: str
    together: Release
    alone: Release
    price: bool = True
    """Older than every stack has it alone: the price of being together. False: another stack has it as old alone."""
    root: bool = False
    """The stack asks for it by name."""

    @property
    def days(self) -> int | None:
        """Days between the two releases; None where the index tells no dates."""
        if self.together.uploaded is None or self.alone.uploaded is None:
            return None
        return (self.alone.uploaded - self.together.uploaded).days

    @property
    def far(self) -> bool:
        """By date where there is one, else by number: an older major version, or less than half the minor of 0.x."""
        if not self.price:
            return False
        if self.days is not None:
            return self.days > FAR_BEHIND_DAYS
        old, new = Version(self.together.version), Version(self.alone.version)
        return old.major < new.major or (new.major == 0 and old.minor * 2 < new.minor)


@dataclass
class Proof:
    """What uv found for one pair."""

    python: str
    alone: dict[str, Resolution] = field(default_factory=dict)
    together: Resolution | None = None
    conflicts: list[Conflict] = field(default_factory=list)
    setbacks: list[Setback] = field(default_factory=list)
    walked_back: list[Setback] = field(default_factory=list)
    """What the solver took for no need: it walks back to an old release unless a newer one is asked for."""
    held: Resolution | None = None
    """The solve in which what is far behind was asked for as new as it is alone; None: nothing is far behind."""
    not_attempted: str | None = None
    """Why there is no proof."""

    @property
    def resolves(self) -> bool | None:
        """None: not attempted."""
        return None if self.together is None else self.together.ok

    @property
    def far_behind(self) -> list[Setback]:
        """What is too old to count as an answer; once something asked for by name is older, the rest follows."""
        roots = [setback for setback in self.setbacks if setback.root]
        return [setback for setback in roots or self.setbacks if setback.far]


def prove(a: Stack, b: Stack, rows: Sequence[Shared], solver: Solver, wanted: str) -> Proof:
    """Solve for two stacks, alone and together.

    Args:
        a, b: the stacks; their names differ.
        rows: the inventory: its disagreements are looked at first, which saves most of the solves.
        solver: uv.
        wanted: the version of Python, unless the stacks want another.
    """
    proof = Proof(python_for(a, b, wanted))
    try:
        _solve(proof, a, b, rows, solver)
    except TuneyardError as error:
        proof.not_attempted = error.message
    return proof


def python_for(a: Stack, b: Stack, wanted: str) -> str:
    """The wanted version where both take it, else the first that they do, else the first that A takes."""
    both, first = intersect((a.python, b.python)), a.python
    for versions in (both, first):
        for python in (wanted, *PYTHONS):
            if versions.contains(f"{python}.99" if python.count(".") == 1 else python):
                return python
    return wanted


def _solve(proof: Proof, a: Stack, b: Stack, rows: Sequence[Shared], solver: Solver) -> None:
    ask = _asker(solver, proof.python)
    for stack in (a, b):
        proof.alone[stack.name] = ask(Item(stack.name, d) for d in stack.to_solve())
    whole = [Item(stack.name, d) for stack in (a, b) for d in stack.to_solve()]
    proof.together = ask(whole)
    held: list[Item] = []
    if proof.together.ok:
        names = _of_interest(a, b, rows)
        proof.setbacks = setbacks(proof, whole, names)
        held = _hold(proof, whole, names, ask)
    if not proof.together.ok or proof.far_behind:
        parts = [Item(s.name, d) for s, other in ((a, b), (b, a)) for d in s.parts({d.name for d in other.declared})]
        proof.conflicts = conflicts([*parts, *held], rows, ask) or conflicts([*whole, *held], rows, ask)


def _hold(proof: Proof, whole: list[Item], names: set[str], ask: Ask) -> list[Item]:
    """Ask for what is far behind as new as it is alone: a solver may have walked back for no need.

    Where that resolves, it is the answer, and the walk back only a warning.
    """
    far = proof.far_behind
    if not far:
        return []
    held = [Item(s.stack, declare(f"{s.package}>={s.alone.version}", f"{s.stack} alone")) for s in far]
    proof.held = ask([*whole, *held])
    better = proof.held if proof.held.ok else _newest_that_fits(far, whole, ask)
    if better is not None:
        proof.together, proof.walked_back = better, far
        proof.setbacks = setbacks(proof, whole, names)
    return held


def _newest_that_fits(far: list[Setback], whole: list[Item], ask: Ask) -> Resolution | None:
    """The solve with the newest release of the one package that is far behind; None: several are, or none is newer."""
    if len({setback.package for setback in far}) != 1:
        return None
    name = far[0].package
    found = newest_below(
        name, far[0].alone.version, lambda text: ask([*whole, Item(far[0].stack, declare(text, "tried"))])
    )
    newer = found and found.versions and Version(found.versions[name].version) > Version(far[0].together.version)
    return found if newer else None


Ask = Callable[[Iterable[Item]], Resolution]


def _asker(solver: Solver, python: str) -> Ask:
    return lambda items: solver.solve([item.line for item in items], python=python)


def _of_interest(a: Stack, b: Stack, rows: Sequence[Shared]) -> set[str]:
    return {row.package for row in rows} | {d.name for stack in (a, b) for d in stack.roots}


def setbacks(proof: Proof, whole: list[Item], names: set[str]) -> list[Setback]:
    """The packages of interest that are older together than alone, the furthest first."""
    asked = {(item.stack, item.declared.name) for item in whole}
    together = proof.together.versions if proof.together and proof.together.versions else {}
    oldest = {
        name: [r.versions[name] for r in proof.alone.values() if r.versions and name in r.versions] for name in names
    }
    found = []
    for stack, resolution in proof.alone.items():
        for name, release in (resolution.versions or {}).items():
            now = together.get(name)
            if name in names and now and Version(now.version) < Version(release.version):
                price = all(Version(now.version) < Version(other.version) for other in oldest[name])
                found.append(Setback(name, stack, now, release, price, (stack, name) in asked))
    return sorted(found, key=lambda s: (not s.far, -(s.days or 0), s.package))


def conflicts(items: list[Item], rows: Sequence[Shared], ask: Ask) -> list[Conflict]:
    """Smallest conflicting sets that share no member, those of the inventory first."""
    suspects = [row.package for row in rows if row.verdict == "conflict"]
    sets: list[tuple[list[Item], Resolution]] = []
    left = list(items)
    for package in suspects:
        _take_out([item for item in left if item.declared.name == package], left, sets, ask)
    while len(sets) < MOST_SETS and _take_out(left, left, sets, ask):
        pass
    members = [item for found, _ in sets for item in found]
    others = [item for item in items if item not in members]
    return [Conflict(found, solve, [_giving_up(item, found, others, ask) for item in found]) for found, solve in sets]


def _take_out(suspects: list[Item], left: list[Item], sets: list[tuple[list[Item], Resolution]], ask: Ask) -> bool:
    """Find one set among the suspects and take its members from what is left; False where there is none."""
    answer = ask(suspects) if suspects else None
    if answer is None or answer.ok:
        return False
    found = smallest(_named(suspects, answer, ask), lambda items: not ask(items).ok)
    sets.append((found, ask(found)))
    left[:] = [item for item in left if item not in found]
    return True


def _named(items: list[Item], answer: Resolution, ask: Ask) -> list[Item]:
    """The items that the solver names in its reason, where they conflict by themselves: far fewer solves are needed."""
    named = [item for item in items if re.search(rf"\b{re.escape(item.declared.name)}\b", answer.message)]
    return named if named and len(named) < len(items) and not ask(named).ok else items


def smallest(items: Sequence[Item], conflict: Callable[[Sequence[Item]], bool]) -> list[Item]:
    """A smallest part of the items that still conflicts: no member can be taken out.

    Args:
        items: they conflict together.
        conflict: whether some of them do; more items never conflict less.
    """
    kept = list(items)
    size = max(1, len(kept) // 2)
    while True:
        position = 0
        while position < len(kept):
            without = kept[:position] + kept[position + size :]
            if without and conflict(without):
                kept = without
            else:
                position += size
        if size == 1:
            return kept
        size = max(1, size // 2)


def _giving_up(item: Item, members: list[Item], others: list[Item], ask: Ask) -> GivingUp:
    """What uv makes of everything that is not in another conflict, without one member of this one."""
    rest = [*others, *(member for member in members if member != item)]
    resolution = ask(rest)
    name = item.declared.name
    if resolution.versions is None:
        return GivingUp(item, False, f"still no solution: {resolution.reason[:300]}", None)
    release = resolution.versions.get(name)
    if release is None:
        return GivingUp(item, True, f"{name} is not installed at all", None)
    outside = item.declared.versions and not item.declared.versions.contains(release.version, prereleases=True)
    said = f"outside what {item.declared.where} declares" if outside else "which satisfies it all the same"
    return GivingUp(item, True, f"{name} {release.version} is installed, {said}", release.version)
