"""A comparison as text for a terminal, and as JSON for a program."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tuneyard.doctor.compatibility.compare import Comparison, Pair
from tuneyard.doctor.compatibility.proof import Conflict, Proof, Setback
from tuneyard.doctor.compatibility.shared import Shared, Side
from tuneyard.doctor.compatibility.statements import Judged
from tuneyard.doctor.compatibility.uv import Resolution

MOST_SETBACKS = 6


def headline(pair: Pair) -> str:
    """The verdict in words."""
    if pair.proof is not None and pair.proof.not_attempted:
        return f"{pair.verdict} by what is declared (proof not attempted)"
    return {
        "agree": "agree",
        "conflict": "conflict",
        "far behind": "agree only on versions far behind: a conflict in disguise",
        "unknown": "cannot be decided from what is declared",
    }[pair.verdict]


def solved(solve: Resolution) -> str:
    """A solve as evidence: what came of it, when, and the hash of its output."""
    outcome = f"resolves, {len(solve.versions)} packages" if solve.versions is not None else "no solution"
    return f"{outcome} ({solve.at}, Python {solve.python}, sha256 {solve.digest})"


def setback_text(setback: Setback) -> str:
    """What is older together."""
    age = f", {setback.days} days older" if setback.days else ""
    far = ", far behind" if setback.far else ""
    return (
        f"{setback.package} {setback.together.version}; {setback.stack} alone takes {setback.alone.version}{age}{far}"
    )


def walk_back_text(setback: Setback, together: Resolution) -> str:
    """What a solver does where no version is asked for, though it need not."""
    release = (together.versions or {}).get(setback.package, setback.alone)
    newer = f"{setback.package}>={release.version.partition('+')[0]}"
    return (
        f"uv by itself walks back to {setback.package} {setback.together.version}, though {newer} resolves too: "
        f"ask for it, uv pip install '{newer}'"
    )


def conflict_text(conflict: Conflict) -> str:
    """A conflict in one line."""
    return "  with  ".join(f"{item.declared.shown} ({item.declared.where})" for item in conflict.members)


def text(comparison: Comparison) -> str:
    """What a person reads."""
    parts = [_pair(pair) for pair in comparison.pairs]
    if comparison.not_attempted:
        parts.append(f"proof: not attempted: {comparison.not_attempted}")
    if comparison.findings:
        parts.append(
            "\n".join(
                f"{f.severity}: {f.message}" + (f"\n  way out: {f.way_out}" if f.way_out else "")
                for f in comparison.findings
            )
        )
    if comparison.judged:
        parts.append("\n".join(f"{one.verdict}: {one.statement.claim}\n  {one.evidence}" for one in comparison.judged))
    return "\n\n".join(parts)


def _pair(pair: Pair) -> str:
    lines = [f"{pair.a.name}  with  {pair.b.name}: {headline(pair)}"]
    lines += _table([row for row in pair.rows if not row.is_trivial])
    free = [row.package for row in pair.rows if row.is_trivial]
    if free:
        lines.append(f"  bounded by neither: {', '.join(free)}")
    if pair.proof:
        lines += _proof(pair.proof)
    lines += [
        f"  at run time: {c.distribution} asks for {c.requirement}{_when(c.condition)} ({c.where}): {c.holds}"
        for c in pair.evidence.checks
    ]
    lines += [f"  {claim.where}: {claim.says!r}, but {claim.problem}" for claim in pair.evidence.claims]
    for number, way in enumerate(pair.mitigations, 1):
        lines.append(
            f"  {number}. {way.what}\n     lost: {way.lost}" + (f"\n     {way.command}" if way.command else "")
        )
    return "\n".join(lines)


def _when(condition: str) -> str:
    return f" when {condition}" if condition else ""


def _table(rows: list[Shared]) -> list[str]:
    cells = [("package", "first", "second", "verdict", "both")]
    cells += [(row.package, row.a.shown, row.b.shown, row.verdict, row.both) for row in rows]
    cells = [tuple(_short(cell) for cell in line) for line in cells]
    widths = [max(len(line[n]) for line in cells) for n in range(5)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    ]


def _short(cell: str, most: int = 44) -> str:
    return cell if len(cell) <= most else cell[: most - 1] + "…"


def _proof(proof: Proof) -> list[str]:
    if proof.not_attempted:
        return [f"  proof: not attempted: {proof.not_attempted}"]
    assert proof.together is not None
    lines = [f"  proof: {solved(proof.together)}"]
    lines += [f"  {name} alone: {solve.reason}" for name, solve in proof.alone.items() if not solve.ok]
    for conflict in proof.conflicts:
        lines.append(f"  conflict: {conflict_text(conflict)}")
        lines += [f"    without {g.item.declared.shown}: {g.consequence}" for g in conflict.giving_up]
    lines += [f"  warning: {walk_back_text(setback, proof.together)}" for setback in proof.walked_back]
    return lines + [f"  given up: {setback_text(setback)}" for setback in proof.setbacks[:MOST_SETBACKS]]


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """What a program reads."""
    return {
        "stacks": [
            {"name": s.name, "versions": s.versions, "complete": s.complete, "notes": s.notes}
            for s in comparison.stacks
        ],
        "pairs": [_pair_dict(pair) for pair in comparison.pairs],
        "findings": [finding.as_dict() for finding in comparison.findings],
        "claims": [_judged(one) for one in comparison.judged],
        "not_attempted": comparison.not_attempted,
        "exit_code": comparison.exit_code,
    }


def _pair_dict(pair: Pair) -> dict[str, Any]:
    return {
        "a": pair.a.name,
        "b": pair.b.name,
        "verdict": pair.verdict,
        "inventory": [_row(row) for row in pair.rows],
        "proof": _proof_dict(pair.proof) if pair.proof else None,
        "checks": [asdict(check) for check in pair.evidence.checks],
        "claims": [asdict(claim) for claim in pair.evidence.claims],
        "mitigations": [asdict(way) for way in pair.mitigations],
    }


def _row(row: Shared) -> dict[str, Any]:
    return {
        "area": row.area,
        "package": row.package,
        "a": _side(row.a),
        "b": _side(row.b),
        "both": row.both,
        "verdict": row.verdict,
        "impact": row.impact,
    }


def _side(side: Side) -> dict[str, Any]:
    return {"range": side.shown, "declared": [{"requirement": text, "where": where} for text, where in side.declared]}


def _solve(solve: Resolution) -> dict[str, Any]:
    return {
        "resolves": solve.ok,
        "at": solve.at,
        "python": solve.python,
        "sha256": solve.digest,
        "seconds": round(solve.seconds, 2),
        "message": solve.message or None,
        "versions": {name: release.version for name, release in solve.versions.items()} if solve.versions else None,
    }


def _proof_dict(proof: Proof) -> dict[str, Any]:
    return {
        "not_attempted": proof.not_attempted,
        "python": proof.python,
        "together": _solve(proof.together) if proof.together else None,
        "alone": {name: _solve(solve) for name, solve in proof.alone.items()},
        "conflicts": [
            {
                "members": [
                    {"stack": i.stack, "requirement": i.declared.shown, "where": i.declared.where} for i in c.members
                ],
                "message": c.solve.message,
                "sha256": c.solve.digest,
                "giving_up": [
                    {"requirement": g.item.declared.shown, "resolves": g.resolves, "consequence": g.consequence}
                    for g in c.giving_up
                ],
            }
            for c in proof.conflicts
        ],
        "held": _solve(proof.held) if proof.held else None,
        "walked_back": [_setback(setback) for setback in proof.walked_back],
        "given_up": [_setback(setback) for setback in proof.setbacks],
    }


def _setback(s: Setback) -> dict[str, Any]:
    return {
        "package": s.package,
        "stack": s.stack,
        "together": s.together.version,
        "alone": s.alone.version,
        "days": s.days,
        "far": s.far,
    }


def _judged(one: Judged) -> dict[str, Any]:
    return {
        "claim": one.statement.claim,
        "says": one.statement.says,
        "verdict": one.verdict,
        "evidence": one.evidence,
        "solve": _solve(one.solve) if one.solve else None,
    }
