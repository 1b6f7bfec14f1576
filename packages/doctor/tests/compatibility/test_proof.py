"""The proof by real solves, on made-up distributions."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from tuneyard.core.errors import SetupError
from tuneyard.doctor.compatibility.declared import Stack
from tuneyard.doctor.compatibility.expand import expand_all
from tuneyard.doctor.compatibility.proof import Proof, prove, python_for, smallest
from tuneyard.doctor.compatibility.shared import Shared, inventory
from tuneyard.doctor.compatibility.stacks import read_stack
from tuneyard.doctor.compatibility.walking import newest_below, windows

if TYPE_CHECKING:
    from conftest import Index

    from tuneyard.doctor.compatibility.uv import Solver


def stacks(solver: Solver, *texts: str) -> list[Stack]:
    found = [read_stack(text, None, Path(), "3.11") for text in texts]
    for stack in found:
        expand_all(stack, solver)
    return found


def proved(solver: Solver, first: str, second: str) -> tuple[list[Shared], Proof]:
    a, b = stacks(solver, first, second)
    rows = inventory(a, b)
    return rows, prove(a, b, rows, solver, "3.11")


def members(proof: Proof) -> list[set[str]]:
    return [{item.declared.shown for item in conflict.members} for conflict in proof.conflicts]


def test_ranges_that_overlap_agree_and_resolve(index: Index, solver: Solver) -> None:
    for version in ("0.2.0", "0.15.0", "0.17.1", "0.20.0"):
        index.add("adapters", version)
    index.add("trainer", "1.0", "adapters>=0.14.0,<=0.17.1")
    index.add("judge", "2.0", "adapters>=0.2.0")
    rows, proof = proved(solver, "trainer==1.0", "judge==2.0")
    assert [(row.package, row.verdict, row.both) for row in rows if row.package != "python"] == [
        ("adapters", "agree", ">=0.14.0,<=0.17.1")
    ]
    assert proof.together is not None
    assert proof.together.versions is not None
    assert proof.together.versions["adapters"].version == "0.17.1"
    assert [(s.package, s.stack, s.alone.version) for s in proof.setbacks] == [("adapters", "judge==2.0", "0.20.0")]
    assert not proof.far_behind


def test_a_declared_conflict_is_found_with_its_price(index: Index, solver: Solver) -> None:
    for version in ("4.0", "5.0"):
        index.add("models", version)
    index.add("plots", "1.0")
    index.add("trainer", "1.0", "models<5", "plots")
    index.add("server", "2.0", "models>=5", "plots")
    rows, proof = proved(solver, "trainer==1.0", "server==2.0")
    assert rows[0].package == "models"
    assert rows[0].verdict == "conflict"
    assert proof.resolves is False
    assert members(proof) == [{"models<5", "models>=5"}]
    given_up = {given.item.declared.shown: given for given in proof.conflicts[0].giving_up}
    assert given_up["models<5"].version == "5.0"
    assert "outside what trainer 1.0, Requires-Dist declares" in given_up["models<5"].consequence
    assert given_up["models>=5"].version == "4.0"


def test_a_conflict_that_no_declaration_shows_is_found_by_deletion(index: Index, solver: Solver) -> None:
    """Neither names the other's package: the disagreement lies one step further down."""
    index.add("images", "11")
    index.add("images", "12")
    index.add("web", "1", "images<12")
    for name in ("a", "b", "c", "d"):
        index.add(name, "1")
    index.add("trainer", "1.0", "a", "web>=1", "b")
    index.add("server", "2.0", "c", "images>=12", "d")
    rows, proof = proved(solver, "trainer==1.0", "server==2.0")
    assert [row.package for row in rows] == ["python"]
    assert members(proof) == [{"web>=1", "images>=12"}]
    consequences = {given.item.declared.shown: given.consequence for given in proof.conflicts[0].giving_up}
    assert consequences["web>=1"] == "web is not installed at all"


def test_two_conflicts_are_told_apart(index: Index, solver: Solver) -> None:
    for name in ("models", "data"):
        index.add(name, "1")
        index.add(name, "2")
    index.add("trainer", "1.0", "models<2", "data<2")
    index.add("server", "2.0", "models>=2", "data>=2")
    _, proof = proved(solver, "trainer==1.0", "server==2.0")
    assert sorted(map(sorted, members(proof))) == [["data<2", "data>=2"], ["models<2", "models>=2"]]


def test_a_walk_back_to_an_ancient_release_is_a_conflict_in_disguise(index: Index, solver: Solver) -> None:
    index.add("models", "4.0", uploaded="2025-06-01")
    index.add("models", "5.0", uploaded="2026-06-01")
    index.add("trainer", "1.0", "models<5", uploaded="2026-01-01")
    index.add("server", "0.1.2", uploaded="2023-06-01")
    index.add("server", "0.32.0", "models>=5", uploaded="2026-10-01")
    _, proof = proved(solver, "trainer==1.0", "server")
    assert proof.resolves is True
    assert [(s.package, s.together.version, s.days) for s in proof.far_behind] == [("server", "0.1.2", 1218)]
    assert members(proof) == [{"models<5", "models>=5"}]


def test_without_dates_the_number_decides_what_is_ancient(index: Index, solver: Solver) -> None:
    index.add("models", "4.0")
    index.add("models", "5.0")
    index.add("trainer", "1.0", "models<5")
    index.add("server", "0.1.2")
    index.add("server", "0.32.0", "models>=5")
    index.add("near", "0.30")
    index.add("near", "0.32", "models>=5")
    assert [s.package for s in proved(solver, "trainer==1.0", "server")[1].far_behind] == ["server"]
    _, proof = proved(solver, "trainer==1.0", "near")
    assert "near" in [s.package for s in proof.setbacks]
    assert not proof.far_behind


def test_an_overlap_in_which_nothing_was_released_is_no_agreement(index: Index, solver: Solver) -> None:
    index.add("models", "4.0")
    index.add("models", "5.0")
    index.add("trainer", "1.0", "models<5,>=4")
    index.add("server", "2.0", "models>4.0")
    rows, proof = proved(solver, "trainer==1.0", "server==2.0")
    assert rows[0].package != "models" or rows[0].verdict == "agree"
    assert proof.resolves is False
    assert members(proof) == [{"models>=4,<5", "models>4.0"}]


def test_python_floors_that_exclude_each_other(index: Index, solver: Solver) -> None:
    index.add("old", "1.0", python=">=3.9,<3.11")
    index.add("new", "1.0", python=">=3.12")
    a, b = stacks(solver, "old==1.0", "new==1.0")
    rows = inventory(a, b)
    assert (rows[0].package, rows[0].verdict) == ("python", "conflict")
    proof = prove(a, b, rows, solver, "3.11")
    assert proof.resolves is False
    assert "Python" in proof.conflicts[0].solve.message


def test_the_python_that_both_take_is_chosen() -> None:
    from packaging.specifiers import SpecifierSet

    from tuneyard.doctor.compatibility.declared import PythonFloor

    a, b = Stack("a"), Stack("b")
    assert python_for(a, b, "3.12") == "3.12"
    a.floors.append(PythonFloor(SpecifierSet(">=3.13"), "x"))
    assert python_for(a, b, "3.11") == "3.13"


def test_pre_releases_are_taken_only_where_they_are_named(index: Index, solver: Solver) -> None:
    index.add("models", "5.0rc1")
    index.add("models", "4.0")
    index.add("trainer", "1.0", "models")
    index.add("server", "2.0", "models>=5.0rc1")
    _, proof = proved(solver, "trainer==1.0", "server==2.0")
    assert proof.together is not None
    assert proof.together.versions is not None
    assert proof.together.versions["models"].version == "5.0rc1"


def test_extras_count_only_where_they_are_asked_for(index: Index, solver: Solver) -> None:
    index.add("models", "1")
    index.add("models", "2")
    index.add("trainer", "1.0", 'models<2; extra == "old"', extras=("old",))
    index.add("server", "2.0", "models>=2")
    assert proved(solver, "trainer==1.0", "server==2.0")[1].resolves is True
    _, proof = proved(solver, "trainer[old]==1.0", "server==2.0")
    assert proof.resolves is False
    assert proof.conflicts[0].members[0].declared.extra == "old"


def test_the_hash_belongs_to_the_outcome(index: Index, solver: Solver) -> None:
    index.add("models", "1")
    first = solver.solve(["models"])
    index.add("models", "2")
    solver.solved.clear()
    solver.fresh = True
    again = solver.solve(["models"])
    assert first.digest != again.digest
    assert first.digest == solver.solve(["models==1"]).digest


def test_an_answer_is_kept_with_its_time(index: Index, solver: Solver) -> None:
    index.add("models", "1", uploaded="2026-01-31")
    first = solver.solve(["models"])
    solver.solved.clear()
    kept = solver.solve(["models"])
    assert kept == first
    assert kept.versions is not None
    assert kept.versions["models"].uploaded is not None


def test_an_index_that_does_not_answer_is_no_conflict(
    index: Index, solver: Solver, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.endswith("INDEX_URL")}
    solver.environ = {**environ, "UV_INDEX_URL": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    with pytest.raises(SetupError, match="could not be reached"):
        solver.solve(["models"])


@given(st.integers(1, 24).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_deletion_finds_exactly_the_core(case: tuple[int, set[int]]) -> None:
    size, core = case
    from tuneyard.doctor.compatibility.declared import declare
    from tuneyard.doctor.compatibility.proof import Item

    items = [Item("x", declare(f"p{n}", "")) for n in range(size)]
    wanted = {items[n] for n in core}
    assert set(smallest(items, lambda some: wanted <= set(some))) == wanted


def test_a_walk_back_without_need_is_no_conflict(index: Index, solver: Solver) -> None:
    """uv decides for the newest `early` first and then takes the old server, though both could be new enough."""
    index.add("early", "1.8")
    index.add("early", "1.9")
    index.add("server", "0.1.2")
    index.add("server", "0.32.0", "early<1.9")
    _, proof = proved(solver, "early", "server")
    assert [(s.package, s.together.version) for s in proof.walked_back] == [("server", "0.1.2")]
    assert proof.together is not None
    assert proof.together.versions is not None
    assert proof.together.versions["server"].version == "0.32.0"
    assert [s.package for s in proof.setbacks] == ["early"]
    assert not proof.conflicts
    assert not proof.far_behind


@pytest.mark.parametrize("version", ["0.32.0", "2.3.4", "1.0", "10.0.1", "2026.10.19"])
def test_windows_cover_everything_older_without_a_gap(version: str) -> None:
    found = list(windows(version))
    assert Version(found[0][1]) <= Version(version)
    assert all(Version(lower[1]) == Version(upper[0]) for upper, lower in pairwise(found))
    assert len(found) < 20
    assert Version(found[-1][0]) == Version("0")


def test_the_newest_release_that_fits_is_found_where_the_solver_jumps_over_it(index: Index, solver: Solver) -> None:
    """Left alone uv keeps the newest `early` and takes server 0.1.2; 0.31 needs an older `early`, which would do."""
    index.add("early", "1.8")
    index.add("early", "1.9")
    index.add("other", "1")
    index.add("server", "0.1.2")
    index.add("server", "0.30.0", "early<1.9")
    index.add("server", "0.31.0", "early<1.9")
    index.add("server", "0.32.0", "early<1.9", "other>=2")
    index.add("server", "0.32.1", "early<1.0")
    index.add("server", "0.33.0", "other<2")
    index.add("early", "2.0", "other>=2")
    index.add("trainer", "1.0", "early>=1.8,<2", "other<2")
    a, b = stacks(solver, "trainer==1.0", "server<0.33")
    found = newest_below("server", "0.32.1", lambda text: solver.solve(["trainer==1.0", text]))
    assert found is not None
    assert found.versions is not None
    assert found.versions["server"].version == "0.31.0"
    assert prove(a, b, inventory(a, b), solver, "3.11").resolves
