"""Statements of documents about compatibility, each held against the ranges and a real solve.

A statement says of some requirements that they resolve together, or that they conflict:

    - claim: the peft ranges peft>=0.14.0,<=0.17.1 and peft>=0.2.0 do not overlap
      together: ["peft>=0.14.0,<=0.17.1", "peft>=0.2.0"]
      says: conflict
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet

from tuneyard.core.errors import TuneyardError
from tuneyard.doctor.compatibility.declared import declare
from tuneyard.doctor.compatibility.ranges import intersect, is_empty, show, simplest
from tuneyard.doctor.compatibility.uv import Resolution, Solver


@dataclass(frozen=True)
class Statement:
    """What a document says."""

    claim: str
    together: list[str]
    says: Literal["resolves", "conflict"]
    python: str
    where: str


@dataclass(frozen=True)
class Judged:
    """A statement with what is the case."""

    statement: Statement
    verdict: Literal["confirmed", "refuted", "not attempted"]
    evidence: str
    solve: Resolution | None


def read_statements(path: Path) -> list[Statement]:
    """The statements of a YAML file.

    Raises:
        RequestError: it is not readable, or an entry lacks a key or has a wrong one.
    """
    from tuneyard.core.documents import Document, read_yaml, validate

    class Entry(Document):
        claim: str
        together: list[str]
        says: Literal["resolves", "conflict"]
        python: str = "3.11"

    class Entries(Document):
        claims: list[Entry]

    entries = validate(Entries, read_yaml(path), str(path)).claims
    for entry in entries:
        for requirement in entry.together:
            declare(requirement, str(path))
    return [Statement(e.claim, e.together, e.says, e.python, str(path)) for e in entries]


def judge(statement: Statement, solver: Solver | None) -> Judged:
    """Hold a statement against the ranges, and against a solve where there is a solver."""
    words = _ranges(statement)
    if solver is None:
        return Judged(statement, "not attempted", words or "no uv", None)
    try:
        answer = solver.solve(statement.together, python=statement.python)
    except TuneyardError as error:
        return Judged(statement, "not attempted", error.message, None)
    right = answer.ok == (statement.says == "resolves")
    return Judged(
        statement, "confirmed" if right else "refuted", "; ".join(filter(None, (words, _solved(answer)))), answer
    )


def _ranges(statement: Statement) -> str:
    """What the ranges alone say, for each package that is named more than once."""
    named: dict[str, list[SpecifierSet]] = {}
    for text in statement.together:
        declared = declare(text, statement.where)
        named.setdefault(declared.name, []).append(declared.versions)
    words = []
    for name, ranges in named.items():
        if len(ranges) < 2:
            continue
        both = intersect(ranges)
        shown = " and ".join(show(one) for one in ranges)
        words.append(
            f"{name}: {shown} have " + ("nothing in common" if is_empty(both) else f"{simplest(both)} in common")
        )
        first, second = ranges[0], intersect(ranges[1:])
        if not is_empty(both) and first.to_range().is_subset(second.to_range()):
            words.append(f"every version in {show(first)} meets {show(second)} already")
    return "; ".join(words)


def _solved(answer: Resolution) -> str:
    if answer.versions is None:
        return f"uv for Python {answer.python}: {answer.reason}"
    asked = [declare(text, "") for text in answer.asked]
    found = [f"{d.name} {answer.versions[d.name].version}" for d in asked if d.name in answer.versions]
    return f"uv for Python {answer.python} resolves them with {', '.join(dict.fromkeys(found))}"
