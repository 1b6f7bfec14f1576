"""One pair on a Markdown page: the evidence, why it matters, and the paths to a fix."""

from __future__ import annotations

from collections.abc import Iterable

from tuneyard.doctor.compatibility.compare import Pair
from tuneyard.doctor.compatibility.proof import Proof
from tuneyard.doctor.compatibility.report import headline, setback_text, solved
from tuneyard.doctor.compatibility.shared import AREAS, Shared, Side

WHY = {
    "interpreter": "one environment has one Python",
    "runtime": "compiled kernels load against one build of torch; another fails at import, or with undefined symbols",
    "arrays": "compiled extensions are built against one ABI of numpy",
    "data": "datasets are cached and read by formats that change with the major version; scripts ended with 4.0",
    "hub": "everything that loads a model goes through it, and 1.0 changed its interface",
    "models": "model classes, and the tokens a text becomes, change between versions; scores change without a warning",
    "adapters": "an adapter written by a newer release may hold settings that an older one refuses",
    "trainers": "trainers call each other's private parts; another version fails at import or in the first step",
    "interfaces": "validation models and servers fail at import against another major version",
    "other": "one of the two runs outside the versions that its authors tested",
}
"""Why it matters that versions of such packages agree."""


def section(pair: Pair) -> str:
    lines = [
        f"### {pair.a.name} with {pair.b.name}",
        "",
        f"**{headline(pair)}**. Together: {stamp(pair)}.",
        "",
        "Evidence:",
        "",
    ]
    lines += _evidence(pair)
    packages = [row.package for row in pair.rows if row.verdict != "agree"]
    packages += [name for conflict in (pair.proof.conflicts if pair.proof else ()) for name in conflict.packages]
    packages += [s.package for s in (pair.proof.far_behind if pair.proof else ())]
    areas = dict.fromkeys(AREAS.get(name, "other") for name in packages)
    lines += ["", "Why it matters:", "", *(f"- {area}: {WHY[area]}." for area in areas), *_uses(pair)]
    lines += ["", "Paths to a fix, the cheapest first:", ""]
    for number, way in enumerate(pair.mitigations, 1):
        tried = "" if way.tried else " (not tried)"
        command = f" `{way.command}`" if way.command else ""
        lines.append(f"{number}. {way.what}{tried}. Lost: {way.lost}.{command}")
    return "\n".join(lines)


def _evidence(pair: Pair) -> Iterable[str]:
    for row in pair.rows:
        if row.verdict != "agree":
            yield f"- {row.package}: {requirement(row, row.a)} and {requirement(row, row.b)}: {row.impact}."
    if pair.proof:
        yield from _proved(pair.proof)
    for check in pair.evidence.checks:
        when = f" when `{check.condition}`" if check.condition else ""
        asks = f"{check.distribution} asks for `{check.requirement}`{when} (`{check.where}`)"
        yield f"- checked at run time: {asks}: {check.holds}."
    if pair.evidence.unread:
        names = ", ".join(pair.evidence.unread)
        yield f"- The code of {names} was not read: its wheel is for one platform, or could not be had."


def _proved(proof: Proof) -> Iterable[str]:
    for name, solve in proof.alone.items():
        yield f"- `{name}` alone: {solved(solve)}." + (f" {solve.reason}" if not solve.ok else "")
    for conflict in proof.conflicts:
        members = " with ".join(f"`{item.declared.shown}` ({item.declared.where})" for item in conflict.members)
        outcome = f"uv: {solved(conflict.solve)}. {conflict.solve.reason}"
        yield f"- A smallest conflicting set, by deletion: {members}. {outcome}"
        for given in conflict.giving_up:
            yield f"    - without `{given.item.declared.shown}`: {given.consequence}"
    if proof.held is not None and not proof.held.ok:
        newest = ", ".join(f"`{s.package}>={s.alone.version}`" for s in proof.walked_back or proof.far_behind)
        yield f"- With {newest}, as new as alone: {solved(proof.held)}. {proof.held.reason}"
    for setback in proof.setbacks:
        yield f"- given up: {setback_text(setback)}"


def _uses(pair: Pair) -> Iterable[str]:
    for package, users in sorted(pair.evidence.uses.items()):
        for distribution in users:
            yield f"- {distribution} imports {package} in {pair.evidence.modules(package, distribution)}."


def stamp(pair: Pair) -> str:
    """The solve of a pair as evidence."""
    if pair.proof is None or pair.proof.together is None:
        return f"not attempted: {pair.proof.not_attempted}" if pair.proof else "not attempted"
    return solved(pair.proof.together)


def requirement(row: Shared, side: Side) -> str:
    """What one side asks for, and where."""
    return f"`{side.shown}` ({side.places})"
