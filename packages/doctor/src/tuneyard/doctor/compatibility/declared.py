"""What a stack declares: requirements with the place they stand in, the Python it takes, and what could not be read."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tuneyard.core.errors import RequestError
from tuneyard.core.masking import MASK
from tuneyard.doctor.compatibility.distributions import Distribution
from tuneyard.doctor.compatibility.ranges import intersect, show


@dataclass(frozen=True)
class Declared:
    """One requirement."""

    text: str
    """As it is written, without its marker where that is true here."""
    where: str
    """`file:line`, or the distribution whose metadata states it."""
    extra: str | None = None
    """The extra that brings it."""
    optional: bool = False
    """A constraint: it binds the version, and asks for nothing by itself."""

    @cached_property
    def requirement(self) -> Requirement:
        return Requirement(self.text)

    @property
    def name(self) -> str:
        """The distribution, spelled as the index does."""
        return canonicalize_name(self.requirement.name)

    @property
    def versions(self) -> SpecifierSet:
        return self.requirement.specifier

    @property
    def shown(self) -> str:
        """`name>=1,<2`, in the order in which people write it."""
        address = f" @ {without_credentials(self.requirement.url)}" if self.requirement.url else ""
        extras = f"[{','.join(sorted(self.requirement.extras))}]" if self.requirement.extras else ""
        bounds = "" if not self.versions else show(self.versions)
        return f"{self.requirement.name}{extras}{bounds}{address}"


@dataclass(frozen=True)
class PythonFloor:
    """What one part of a stack says about Python."""

    versions: SpecifierSet
    where: str


@dataclass
class Stack:
    """One thing that is to share an environment with others."""

    name: str
    target: str = "3.11"
    """The Python for which markers are decided."""
    roots: list[Declared] = field(default_factory=list)
    """What the user, or the file, asks for."""
    inner: list[Declared] = field(default_factory=list)
    """What the distributions that are asked for declare themselves."""
    expanded: set[str] = field(default_factory=set)
    """Names of roots whose own requirements stand in `inner`."""
    local: set[str] = field(default_factory=set)
    """Names that lie on this disk, so that the index is not asked for them; what they need stands in `roots`."""
    floors: list[PythonFloor] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    """Version whose metadata were read, of each distribution asked for."""
    distributions: list[Distribution] = field(default_factory=list)
    """Those whose metadata were read."""
    notes: list[str] = field(default_factory=list)
    """What was left out or could not be read, for people."""
    complete: bool = True
    """False: metadata of something could not be read, so the inventory may lack requirements."""

    @property
    def declared(self) -> list[Declared]:
        return [*self.roots, *self.inner]

    @property
    def python(self) -> SpecifierSet:
        return intersect(floor.versions for floor in self.floors)

    def to_solve(self) -> list[Declared]:
        """The requirements as a solver is asked for them: what the index cannot know is left out."""
        return [d for d in self.roots if d.requirement.url is None and d.name not in self.local]

    def parts(self, named_elsewhere: Collection[str] = ()) -> list[Declared]:
        """The same as single requirements: a distribution whose metadata are known gives way to what it declares.

        Args:
            named_elsewhere: names that another stack declares: the version this one asks for must stay.
        """
        known = (self.expanded - set(named_elsewhere)) | self.local
        return [d for d in self.declared if d.requirement.url is None and d.name not in known]


def without_credentials(address: str) -> str:
    """An address that may be shown: `https://user:password@host/` without the part before the @."""
    return re.sub(r"//[^/@\s]+@", f"//{MASK}@", address)


def declare(text: str, where: str, **rest: object) -> Declared:
    """A requirement, checked.

    Raises:
        RequestError: it is no requirement; with the place and what is wrong with it.
    """
    declared = Declared(text.strip(), where, **rest)  # type: ignore[arg-type]
    try:
        _ = declared.requirement
    except InvalidRequirement as error:
        raise RequestError(
            f"{text.strip()!r} is no requirement: {str(error).splitlines()[0]}",
            where=where,
            way_out="write name, name==1.2 or 'name>=1,<2'; docs: packaging.python.org, dependency specifiers",
        ) from error
    return declared
