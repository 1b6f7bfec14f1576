"""A comparison as a Markdown page: overview, conflict inventory, each conflict with its evidence, next steps."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tuneyard.core.files import write_atomically
from tuneyard.doctor.compatibility.compare import Comparison, Pair
from tuneyard.doctor.compatibility.proof import Conflict
from tuneyard.doctor.compatibility.report import headline, setback_text, solved
from tuneyard.doctor.compatibility.shared import AREAS, Shared, Side

WHY = {
    "interpreter": "one environment has one Python",
    "runtime": "compiled kernels load against one build of torch; another fails at import, or with undefined symbols",
    "arrays": "compiled extensions are built against one ABI of numpy",
    "data": "datasets are cached and read by formats that change with the major version; loading scripts ended with 4.0",
    "hub": "everything that loads a model goes through it, and 1.0 changed its interface",
    "models": "model classes, and the tokens a text becomes, change between versions: scores then differ without a warning",
    "adapters": "an adapter written by a newer release may hold settings that an older one refuses",
    "trainers": "trainers call each other's private parts; a trainer of another version fails at import or in the first step",
    "interfaces": "validation models and servers fail at import against another major version",
    "other": "one of the two runs outside the versions that its authors tested",
}
"""Why it matters that versions of such packages agree."""


def write(comparison: Comparison, path: Path) -> None:
    """Write the page, in one step; a file that is there is replaced, as with any output that a command names."""
    write_atomically(path, page(comparison))


def page(comparison: Comparison) -> str:
    """The whole page."""
    parts = [
        "# Compatibility",
        _introduction(comparison),
        _overview(comparison),
        _claims(comparison),
        _inventory(comparison),
        _conflicts(comparison),
        _said(comparison),
        _agreements(comparison),
        _next_steps(comparison),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(comparison: Comparison) -> str:
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    versions = ", ".join(
        f"`{stack.name}` is {', '.join(f'{name} {version}' for name, version in list(stack.versions.items())[:4])}"
        for stack in comparison.stacks
        if stack.versions and len(stack.versions) <= 4 and not all(v in stack.name for v in stack.versions.values())
    )
    lines = [f"Made on {day} by this command; run it again to bring the page up to date:", "", "```sh"]
    lines += [_command(comparison), "```"]
    if versions:
        lines += ["", f"Where no exact version was named, the newest that installs was taken: {versions}."]
    return "\n".join(lines)


def _command(comparison: Comparison) -> str:
    _, _, rest = comparison.command.partition("yard doctor compare ")
    names = [stack.name for stack in comparison.stacks if stack.name in rest]
    for name in names:
        rest = rest.replace(name, shlex.quote(name)) if shlex.quote(name) != name else rest
    return f"yard doctor compare {rest}".rstrip()


def _overview(comparison: Comparison) -> str:
    count = {
        name: sum(pair.verdict == name for pair in comparison.pairs)
        for name in ("agree", "far behind", "conflict", "unknown")
    }
    summary = (
        f"{len(comparison.pairs)} pairs: {count['agree']} agree, {count['far behind']} agree only on versions far behind, "
        f"{count['conflict']} conflict" + (f", {count['unknown']} cannot be decided" if count["unknown"] else "") + "."
    )
    rows = [(p.a.name, p.b.name, headline(p), _reason(p), _stamp(p)) for p in comparison.pairs]
    why_not = f"\n\n**Proof not attempted**: {comparison.not_attempted}" if comparison.not_attempted else ""
    return f"## Overview\n\n{summary}{why_not}\n\n" + _table(
        ("A", "B", "verdict", "because of", "uv: outcome, time, hash"), rows
    )


def _stamp(pair: Pair) -> str:
    if pair.proof is None or pair.proof.together is None:
        return f"not attempted: {pair.proof.not_attempted}" if pair.proof else "not attempted"
    return solved(pair.proof.together)


def _reason(pair: Pair) -> str:
    proof = pair.proof
    if proof and proof.conflicts:
        return "; ".join(
            " with ".join(conflict.packages) if len(conflict.packages) > 1 else conflict.packages[0]
            for conflict in proof.conflicts
        )
    if proof and proof.far_behind:
        return "; ".join(dict.fromkeys(s.package for s in proof.far_behind))
    alone = [f"{name} by itself" for name, solve in (proof.alone.items() if proof else ()) if not solve.ok]
    return "; ".join(alone or [row.package for row in pair.rows if row.verdict != "agree"])


def _claims(comparison: Comparison) -> str:
    if not comparison.judged:
        return ""
    rows = [
        (one.statement.claim, f"**{one.verdict}**", one.evidence, solved(one.solve) if one.solve else "not attempted")
        for one in comparison.judged
    ]
    return "## Statements held against the facts\n\n" + _table(("statement", "verdict", "evidence", "uv"), rows)


def _inventory(comparison: Comparison) -> str:
    rows = [line for pair in comparison.pairs for line in _conflict_rows(pair)]
    if not rows:
        return ""
    header = ("pair", "area", "A's requirement", "B's requirement", "impact")
    return "## Conflict inventory\n\n" + _table(header, rows)


def _conflict_rows(pair: Pair) -> Iterable[tuple[str, ...]]:
    name = f"{pair.a.name} + {pair.b.name}"
    shown = set()
    for row in pair.rows:
        if row.verdict != "agree":
            shown.add(row.package)
            yield (name, f"{row.area}: {row.package}", _requirement(row, row.a), _requirement(row, row.b), row.impact)
    for conflict in pair.proof.conflicts if pair.proof else ():
        if not set(conflict.packages) <= shown:
            mine, theirs = ([i for i in conflict.members if i.stack == s.name] for s in (pair.a, pair.b))
            sides = (
                "<br>".join(f"`{i.declared.shown}` ({i.declared.where})" for i in side) or "-"
                for side in (mine, theirs)
            )
            yield (name, _area(conflict), *sides, "what one of them needs in turn refuses the other")
    for setback in pair.proof.far_behind if pair.proof else ():
        yield (name, f"{AREAS.get(setback.package, 'other')}: {setback.package}", "", "", setback_text(setback))


def _area(conflict: Conflict) -> str:
    return "; ".join(dict.fromkeys(f"{AREAS.get(name, 'other')}: {name}" for name in conflict.packages))


def _requirement(row: Shared, side: Side) -> str:
    return f"`{side.shown}` ({side.places})"


def _conflicts(comparison: Comparison) -> str:
    parts = [_one(pair) for pair in comparison.pairs if pair.verdict in ("conflict", "far behind")]
    return "\n\n".join(["## The conflicts, one by one", *parts]) if parts else ""


def _one(pair: Pair) -> str:
    lines = [
        f"### {pair.a.name} with {pair.b.name}",
        "",
        f"**{headline(pair)}**. Together: {_stamp(pair)}.",
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
            yield f"- {row.package}: {_requirement(row, row.a)} and {_requirement(row, row.b)}: {row.impact}."
    if pair.proof:
        for name, solve in pair.proof.alone.items():
            yield f"- `{name}` alone: {solved(solve)}." + (f" {solve.message}" if not solve.ok else "")
        for conflict in pair.proof.conflicts:
            members = " with ".join(f"`{item.declared.shown}` ({item.declared.where})" for item in conflict.members)
            yield f"- A smallest conflicting set, by deletion: {members}. uv: {solved(conflict.solve)}. {conflict.solve.message}"
            for given in conflict.giving_up:
                yield f"    - without `{given.item.declared.shown}`: {given.consequence}"
        for setback in pair.proof.setbacks:
            yield f"- given up: {setback_text(setback)}"
    for check in pair.evidence.checks:
        when = f" when `{check.condition}`" if check.condition else ""
        yield f"- checked at run time: {check.distribution} asks for `{check.requirement}`{when} (`{check.where}`): {check.holds}."
    if pair.evidence.unread:
        yield f"- The code of {', '.join(pair.evidence.unread)} was not read: its wheel is for one platform, or could not be had."


def _uses(pair: Pair) -> Iterable[str]:
    for package, users in sorted(pair.evidence.uses.items()):
        for distribution in users:
            yield f"- {distribution} imports {package} in {pair.evidence.modules(package, distribution)}."


def _said(comparison: Comparison) -> str:
    claims = dict.fromkeys(claim for pair in comparison.pairs for claim in pair.evidence.claims)
    notes = [f"- {finding.message}" for finding in comparison.findings]
    if not claims and not notes:
        return ""
    rows = [(claim.where, f"`{claim.says}`", claim.problem) for claim in claims]
    table = _table(("where", "says", "but"), rows) if rows else ""
    return "\n\n".join(filter(None, ["## Documents that say something else, and notes", table, "\n".join(notes)]))


def _agreements(comparison: Comparison) -> str:
    rows = [
        (pair.a.name, pair.b.name, row.package, f"`{row.a.shown}`", f"`{row.b.shown}`", f"`{row.both}`", row.verdict)
        for pair in comparison.pairs
        for row in pair.rows
        if not row.is_trivial
    ]
    header = ("A", "B", "package", "A's range", "B's range", "both", "verdict")
    return "## Everything that both sides declare\n\n" + _table(header, rows) if rows else ""


def _next_steps(comparison: Comparison) -> str:
    bad = [pair for pair in comparison.pairs if pair.verdict in ("conflict", "far behind")]
    lines = [_step(pair) for pair in bad if pair.mitigations]
    lines = list(dict.fromkeys(lines)) or ["- Nothing to do: every pair can share an environment."]
    return "## Next steps\n\n" + "\n".join(lines)


def _step(pair: Pair) -> str:
    best = next((way for way in pair.mitigations if way.kind not in ("no move",)), pair.mitigations[0])
    return f"- {pair.a.name} with {pair.b.name}: {best.what}."


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
