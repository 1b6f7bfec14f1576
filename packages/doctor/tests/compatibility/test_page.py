"""docs/compatibility.md: made by the command, and still what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tuneyard.doctor.compatibility.ranges import intersect, is_empty, needs_prereleases, simplest
from tuneyard.doctor.compatibility.statements import judge, read_statements

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
STAMP = re.compile(r"\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, Python 3\.\d+, sha256 [0-9a-f]{12}\)")


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def ranges(cell: str) -> SpecifierSet:
    text = cell.strip("`")
    return SpecifierSet("" if text == "any" else text)


def test_every_shared_range_on_the_page_has_the_verdict_that_the_code_gives() -> None:
    rows = table("Everything that both sides declare")
    assert len(rows) > 100
    for a, b, package, first, second, both, verdict in rows:
        common = intersect((ranges(first), ranges(second)))
        expected = "conflict" if is_empty(common) else "far behind" if needs_prereleases(common) else "agree"
        assert verdict == expected, (a, b, package)
        assert both == f"`{simplest(common)}`", (a, b, package)


def test_every_pair_that_the_page_promises_is_there_with_its_solve() -> None:
    rows = table("Overview")
    factories, judges = [f"llamafactory==0.9.{n}" for n in (3, 4, 5)], ["lm-eval==0.4.9.2", "lm-eval[hf]==0.4.13"]
    others = ["vllm==0.32.0", "vllm", "vllm==0.22.*", "inspect-evals", "trl==1.16.0"]
    promised = {(a, b) for a in factories for b in (*judges, *others)} | {(a, b) for a in judges for b in others}
    assert promised <= {(row[0], row[1]) for row in rows}
    for row in rows:
        assert STAMP.search(row[4]), row
        assert row[4].startswith("no solution") == (row[2] == "conflict")


def test_a_declared_conflict_of_exact_versions_is_a_conflict_on_the_page() -> None:
    verdicts = {(row[0], row[1]): row[2:4] for row in table("Overview")}
    for a, b, package, *_, verdict in table("Everything that both sides declare"):
        if verdict == "conflict":
            outcome, because = verdicts[a, b]
            older = because.startswith("with ")  # the row is about the newest release, and an older one was found
            assert outcome != "agree" or older, (a, b, package)


def test_the_true_conflicts_are_named() -> None:
    named = " ".join(row[1] for row in table("Conflict inventory"))
    for package in ("transformers", "datasets", "trl", "numpy", "pydantic"):
        assert f": {package}" in named


def test_the_claims_of_the_page_are_those_of_the_file_and_their_ranges_say_the_same() -> None:
    statements = read_statements(ROOT / "docs" / "compatibility.claims.yaml")
    rows = table("Statements held against the facts")
    assert [row[0] for row in rows] == [statement.claim for statement in statements]
    for row, statement in zip(rows, statements, strict=True):
        assert STAMP.search(row[3])
        static = judge(statement, None).evidence
        assert static == "no uv" or row[2].startswith(static)


@pytest.mark.parametrize(
    "claim",
    [
        "the peft ranges peft>=0.14.0,<=0.17.1 and peft>=0.2.0 do not overlap",
        "training must move to peft >=0.4.0",
        "evaluation should freeze peft 0.6",
        "Python 3.9 is enough",
    ],
)
def test_wrong_claims_are_refuted_on_the_page(claim: str) -> None:
    rows = [row for row in table("Statements held against the facts") if row[0].startswith(claim)]
    assert rows
    assert all(row[1] == "**refuted**" for row in rows)


def test_the_run_time_check_of_lm_eval_stands_on_the_page() -> None:
    rows = {row[0]: row for row in table("Checked at run time") if "`peft>=0.4.0` when `model_kwargs.get(" in row[2]}
    row = rows["llamafactory==0.9.4 + lm-eval==0.4.9.2"]
    assert row[1].startswith("lm-eval 0.4.9.2, `lm_eval/models/huggingface.py:")
    assert row[3] == "met by every version that both accept, >=0.14.0,<=0.17.1"


def test_nothing_on_the_page_belongs_to_one_machine() -> None:
    assert not re.search(r"file://|/(?:home|root|tmp|work|opt)/", PAGE)
