"""From a distribution to what it declares: its Requires-Dist with markers and extras decided for one Python."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from packaging.markers import UndefinedEnvironmentName, default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from tuneyard.core.errors import TuneyardError
from tuneyard.doctor.compatibility.declared import Declared, PythonFloor, Stack
from tuneyard.doctor.compatibility.distributions import Distribution, fetch
from tuneyard.doctor.compatibility.ranges import is_exact
from tuneyard.doctor.compatibility.uv import Solver

LOCK_LINES = 30
"""More exact versions than this, and nothing else, is a lock: nobody writes that by hand."""


def expand_all(stack: Stack, solver: Solver | None) -> None:
    """Add what the roots of a stack declare themselves; what cannot be read becomes a note.

    Only a distribution whose version is settled declares something for certain: one that is pinned, or a single one
    that was named without a version, where the newest is meant. A lock is left alone, since it names all versions.
    """
    wanted = [d for d in stack.to_solve() if not d.optional and d.name not in stack.expanded]
    names = {d.name for d in wanted}
    pinned = [d for d in wanted if is_exact(d.versions)]
    if len(pinned) > LOCK_LINES and len(pinned) == len(wanted):
        return
    settled = wanted if len(names) == 1 and not stack.local else pinned
    questions = {d.name: _question(stack, d) for d in settled}
    answers = fetch(dict.fromkeys(questions.values()), solver, stack.target)
    for declared in settled:
        answer = answers[questions[declared.name]]
        if isinstance(answer, TuneyardError):
            stack.notes.append(f"the requirements of {declared.shown} are not known: {answer.message}")
            stack.complete = False
        else:
            expand(stack, declared, answer)


def _question(stack: Stack, declared: Declared) -> str:
    """The requirement with every other bound that the stack sets on the same name."""
    bounds = [str(d.versions) for d in stack.roots if d.name == declared.name and str(d.versions)]
    return f"{declared.name}{','.join(dict.fromkeys(bounds))}"


def expand(stack: Stack, root: Declared, found: Distribution) -> None:
    """Add what one distribution declares, for the extras with which it is asked for."""
    if root.name not in stack.expanded:
        stack.versions[root.name] = found.version
        stack.distributions.append(found)
        stack.expanded.add(root.name)
        add_floor(stack, found)
    known = {(d.text, d.where) for d in stack.inner}
    declared = required(found, root.requirement.extras, stack.target)
    stack.inner += [d for d in declared if (d.text, d.where) not in known]


def add_floor(stack: Stack, found: Distribution) -> None:
    """What a distribution says about Python."""
    if not found.requires_python:
        return
    try:
        versions = SpecifierSet(found.requires_python)
    except InvalidSpecifier:
        stack.notes.append(f"{found.label} states a Python that cannot be read: {found.requires_python!r}")
    else:
        stack.floors.append(PythonFloor(versions, f"{found.label}, Requires-Python"))


def required(found: Distribution, extras: Iterable[str], python: str) -> list[Declared]:
    """The requirements that count: markers decided, and extras that ask for further extras of the same distribution."""
    environment = markers_for(python)
    queue: list[str | None] = [None, *(canonicalize_name(extra) for extra in sorted(extras))]
    declared: dict[str, Declared] = {}
    parsed = _parse(found.requires)
    for extra in queue:  # grows while it is walked
        for requirement in _applying(parsed, extra, environment):
            if canonicalize_name(requirement.name) == found.name:
                queue += [e for e in map(canonicalize_name, sorted(requirement.extras)) if e not in queue]
                continue
            where = f"{found.label}, Requires-Dist" + (f" of the extra {extra}" if extra else "")
            text = str(requirement).removesuffix(f"; {requirement.marker}").strip()
            declared.setdefault(text, Declared(text, where, extra=extra))
    return list(declared.values())


def _applying(parsed: list[Requirement], extra: str | None, environment: dict[str, str]) -> list[Requirement]:
    """The requirements that hold here with this extra and, where there is one, not already without it."""
    found = []
    for requirement in parsed:
        marker = requirement.marker
        try:
            without = marker is None or marker.evaluate({**environment, "extra": ""})
            holds = (
                without if extra is None else marker is not None and marker.evaluate({**environment, "extra": extra})
            )
        except UndefinedEnvironmentName:
            continue
        if holds and (extra is None or not without):
            found.append(requirement)
    return found


def _parse(lines: list[str]) -> list[Requirement]:
    found = []
    for line in lines:
        with suppress(InvalidRequirement):  # installers pass over such lines of old releases as well
            found.append(Requirement(line))
    return found


def markers_for(python: str) -> dict[str, str]:
    """This machine's markers with another version of Python."""
    full = python if python.count(".") > 1 else f"{python}.0"
    here = {name: str(value) for name, value in default_environment().items()}
    return {**here, "python_version": ".".join(python.split(".")[:2]), "python_full_version": full}
