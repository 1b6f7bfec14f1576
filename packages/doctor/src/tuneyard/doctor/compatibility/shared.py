"""The inventory: what two stacks both ask for, and whether their ranges leave a version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packaging.specifiers import SpecifierSet

from tuneyard.doctor.compatibility.declared import Declared, Stack
from tuneyard.doctor.compatibility.ranges import intersect, is_empty, needs_prereleases, show, simplest

Verdict = Literal["agree", "conflict", "far behind", "unknown"]

AREAS = {
    "python": "interpreter",
    "torch": "runtime",
    "torchvision": "runtime",
    "torchaudio": "runtime",
    "triton": "runtime",
    "numpy": "arrays",
    "pandas": "arrays",
    "scipy": "arrays",
    "pyarrow": "data",
    "datasets": "data",
    "fsspec": "data",
    "evaluate": "data",
    "huggingface-hub": "hub",
    "transformers": "models",
    "tokenizers": "models",
    "safetensors": "models",
    "peft": "adapters",
    "trl": "trainers",
    "accelerate": "trainers",
    "deepspeed": "trainers",
    "pydantic": "interfaces",
    "fastapi": "interfaces",
    "gradio": "interfaces",
    "openai": "interfaces",
    "protobuf": "interfaces",
}
"""What a package is for, where people look for it by that."""


@dataclass(frozen=True)
class Side:
    """What one stack declares about one package."""

    stack: str
    versions: SpecifierSet
    declared: tuple[tuple[str, str], ...]
    """(requirement, where), as they are written."""

    @property
    def shown(self) -> str:
        return show(self.versions) if len(self.declared) == 1 or is_empty(self.versions) else simplest(self.versions)

    @property
    def places(self) -> str:
        return "; ".join(dict.fromkeys(where for _, where in self.declared))


@dataclass
class Shared:
    """One package that both stacks ask for."""

    package: str
    a: Side
    b: Side
    verdict: Verdict
    impact: str
    """What follows, one sentence."""

    @property
    def area(self) -> str:
        return AREAS.get(self.package, "other")

    @property
    def both(self) -> str:
        """The intersection."""
        return simplest(intersect((self.a.versions, self.b.versions)))

    @property
    def is_trivial(self) -> bool:
        """Whether neither side bounds it."""
        return not self.a.versions and not self.b.versions


def inventory(a: Stack, b: Stack) -> list[Shared]:
    """Python and every package that both stacks declare, disagreements first."""
    theirs = _by_name(b)
    rows = [
        _row(name, _side(a, name, mine), _side(b, name, theirs[name]))
        for name, mine in _by_name(a).items()
        if name in theirs
    ]
    if a.floors and b.floors:
        rows.append(_row("python", _python(a), _python(b)))
    return sorted(rows, key=lambda row: (row.verdict == "agree", row.package != "python", row.is_trivial, row.package))


def _by_name(stack: Stack) -> dict[str, list[Declared]]:
    found: dict[str, list[Declared]] = {}
    for declared in stack.declared:
        found.setdefault(declared.name, []).append(declared)
    return found


def _side(stack: Stack, name: str, declared: list[Declared]) -> Side:
    bounded = [d for d in declared if d.versions or d.requirement.url] or declared
    return Side(stack.name, intersect(d.versions for d in declared), tuple((d.shown, d.where) for d in bounded))


def _python(stack: Stack) -> Side:
    shown = tuple((f"python{show(floor.versions)}", floor.where) for floor in stack.floors)
    return Side(stack.name, stack.python, shown)


def _row(package: str, a: Side, b: Side) -> Shared:
    both = intersect((a.versions, b.versions))
    if any(" @ " in text for side in (a, b) for text, _ in side.declared):
        return Shared(package, a, b, "unknown", "one side takes it from an address, whose version is not known here")
    for side in (a, b):
        if is_empty(side.versions):
            return Shared(package, a, b, "conflict", f"{side.stack} contradicts itself: {side.shown}")
    if is_empty(both):
        return Shared(package, a, b, "conflict", "no version satisfies both")
    if needs_prereleases(both):
        return Shared(package, a, b, "far behind", f"only pre-releases satisfy both: {simplest(both)}")
    return Shared(package, a, b, "agree", f"{simplest(both)} satisfies both" if both else "neither bounds it")
