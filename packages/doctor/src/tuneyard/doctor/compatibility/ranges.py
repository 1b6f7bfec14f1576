"""Version ranges: intersections, whether anything is left, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.specifiers import SpecifierSet

_ORDER = ("===", "==", "~=", ">=", ">", "!=", "<", "<=")


def intersect(ranges: Iterable[SpecifierSet]) -> SpecifierSet:
    """The versions that all ranges accept."""
    both = SpecifierSet()
    for one in ranges:
        both &= one
    return both


def is_empty(versions: SpecifierSet) -> bool:
    """Whether no version at all, released or not, can satisfy the range."""
    return versions.is_unsatisfiable()


def needs_prereleases(versions: SpecifierSet) -> bool:
    """Whether only pre-releases are left, which installers take only when they are named."""
    return not is_empty(versions) and SpecifierSet(str(versions), prereleases=False).is_unsatisfiable()


def show(versions: SpecifierSet) -> str:
    """A range as people write it: lower bound, holes, upper bound; `any` without one."""
    parts = sorted(versions, key=lambda s: (_ORDER.index(s.operator), s.version))
    return ",".join(f"{part.operator}{part.version}" for part in parts) or "any"


def simplest(versions: SpecifierSet) -> str:
    """A range without what its other bounds imply already; `none` when it is empty."""
    if is_empty(versions):
        return "none"
    reduced = versions.to_range().to_specifier_set()
    return show(versions if reduced is None else reduced)


def is_exact(versions: SpecifierSet) -> bool:
    """Whether the range names one version: `==1.2`, not `==1.2.*`."""
    return any(s.operator == "===" or (s.operator == "==" and not s.version.endswith("*")) for s in versions)
