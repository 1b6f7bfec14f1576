"""A comparison as a Markdown page: overview, conflict inventory, each conflict with its evidence, next steps."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tuneyard.core.files import write_atomically
from tuneyard.core.masking import mask_secrets
from tuneyard.doctor.compatibility.compare import Comparison, Pair
from tuneyard.doctor.compatibility.pair_page import requirement, section, stamp
from tuneyard.doctor.compatibility.proof import Conflict
from tuneyard.doctor.compatibility.report import headline, setback_text, solved, walk_back_text
from tuneyard.doctor.compatibility.shared import AREAS


def write(comparison: Comparison, path: Path) -> None:
    """Write the page, in one step; a file that is there is replaced, as with any output that a command names."""
    write_atomically(path, mask_secrets(page(comparison)))


def page(comparison: Comparison) -> str:
    """The whole page."""
    parts = [
        "# Compatibility",
        _introduction(comparison),
        _overview(comparison),
        _claims(comparison),
        _inventory(comparison),
        _conflicts(comparison),
        _checks(comparison),
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
    lines += [comparison.command, "```"]
    if versions:
        lines += ["", f"Where no exact version was named, the newest that installs was taken: {versions}."]
    return "\n".join(lines)


def _overview(comparison: Comparison) -> str:
    count = {
        name: sum(pair.verdict == name for pair in comparison.pairs)
        for name in ("agree", "far behind", "conflict", "unknown")
    }
    summary = (
        f"{len(comparison.pairs)} pairs: {count['agree']} agree, {count['far behind']} agree only on versions far "
        f"behind, {count['conflict']} conflict"
        + (f", {count['unknown']} cannot be decided" if count["unknown"] else "")
        + "."
    )
    rows = [(p.a.name, p.b.name, headline(p), _reason(p), stamp(p)) for p in comparison.pairs]
    why_not = f"\n\n**Proof not attempted**: {comparison.not_attempted}" if comparison.not_attempted else ""
    return f"## Overview\n\n{summary}{why_not}\n\n" + _table(
        ("A", "B", "verdict", "because of", "uv: outcome, time, hash"), rows
    )


def _reason(pair: Pair) -> str:
    proof = pair.proof
    if proof and proof.conflicts:
        return "; ".join(
            " with ".join(conflict.packages) if len(conflict.packages) > 1 else conflict.packages[0]
            for conflict in proof.conflicts
        )
    if proof and proof.far_behind:
        return "; ".join(dict.fromkeys(s.package for s in proof.far_behind))
    if pair.verdict == "agree":
        return _found(pair)
    alone = [f"{name} by itself" for name, solve in (proof.alone.items() if proof else ()) if not solve.ok]
    return "; ".join(alone or [row.package for row in pair.rows if row.verdict != "agree"])


def _found(pair: Pair) -> str:
    """The releases with which two stacks agree, where the newest do not."""
    together = (pair.proof.together.versions if pair.proof and pair.proof.together else None) or {}
    walked = pair.proof.walked_back if pair.proof else []
    return ", ".join(dict.fromkeys(f"with {s.package} {together[s.package].version}" for s in walked))


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
            impact = f"{row.impact}; {_found(pair)} both resolve" if _found(pair) else row.impact
            yield (name, f"{row.area}: {row.package}", requirement(row, row.a), requirement(row, row.b), impact)
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


def _conflicts(comparison: Comparison) -> str:
    parts = [section(pair) for pair in comparison.pairs if pair.verdict in ("conflict", "far behind")]
    return "\n\n".join(["## The conflicts, one by one", *parts]) if parts else ""


def _checks(comparison: Comparison) -> str:
    """Checks at run time where two stacks agree; those of a conflict stand with it."""
    rows = [
        (
            f"{pair.a.name} + {pair.b.name}",
            f"{check.distribution}, `{check.where}`",
            f"`{check.requirement}`" + (f" when `{check.condition}`" if check.condition else ""),
            check.holds,
        )
        for pair in comparison.pairs
        if pair.verdict == "agree"
        for check in pair.evidence.checks
    ]
    return "## Checked at run time\n\n" + _table(("pair", "where", "asks for", "which is"), rows) if rows else ""


def _said(comparison: Comparison) -> str:
    claims = dict.fromkeys(claim for pair in comparison.pairs for claim in pair.evidence.claims)
    notes = [f"- {finding.message}" for finding in comparison.findings]
    for pair in comparison.pairs:
        if pair.proof and pair.proof.together:
            walks = [walk_back_text(setback, pair.proof.together) for setback in pair.proof.walked_back]
            notes += [f"- {pair.a.name} with {pair.b.name}: {text}." for text in walks]
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
    return f"- {pair.a.name} with {pair.b.name}: {pair.mitigations[0].what}."


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
