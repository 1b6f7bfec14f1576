"""Ranges: what two of them have in common, decided without asking an index."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tuneyard.doctor.compatibility.ranges import intersect, is_empty, is_exact, needs_prereleases, show, simplest


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (">=0.14.0,<=0.17.1", ">=0.2.0", ">=0.14.0,<=0.17.1"),
        (">=4.55,!=4.57.0,<=5.6.0", ">=5.16.1,<5.21", "none"),
        ("<2", ">=2", "none"),
        ("<=2", ">=2", "==2"),
        ("==1.2.*", "!=1.2.*", "none"),
        ("==1.2.*", ">=1.2.5", ">=1.2.5,<1.3"),
        ("~=1.4.2", ">=1.5", "none"),
        ("", "", "any"),
    ],
)
def test_the_common_part_of_two_ranges(first: str, second: str, both: str) -> None:
    found = intersect((SpecifierSet(first), SpecifierSet(second)))
    assert simplest(found) == both or SpecifierSet(both).to_range().is_subset(found.to_range())
    assert is_empty(found) == (both == "none")


def test_a_hole_that_swallows_the_rest_leaves_nothing() -> None:
    assert is_empty(SpecifierSet(">=4.57.0,<=4.57.0,!=4.57.0"))


def test_only_pre_releases_are_told_from_nothing() -> None:
    both = intersect((SpecifierSet(">=2.0rc1"), SpecifierSet("<=2.0rc3")))
    assert needs_prereleases(both)
    assert not is_empty(both)
    assert not needs_prereleases(SpecifierSet(">=1,<3"))


def test_a_range_is_shown_as_people_write_it() -> None:
    assert show(SpecifierSet("<=4.57.1,!=4.52.0,>=4.51.0")) == ">=4.51.0,!=4.52.0,<=4.57.1"
    assert show(SpecifierSet("")) == "any"


@pytest.mark.parametrize(("text", "exact"), [("==1.2", True), ("==1.2.*", False), ("===1.2", True), (">=1", False)])
def test_what_names_one_version(text: str, exact: bool) -> None:
    assert is_exact(SpecifierSet(text)) is exact


numbers = st.builds("{}.{}.{}".format, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
clauses = st.builds("{}{}".format, st.sampled_from([">=", "<=", ">", "<", "==", "!="]), numbers)
ranges = st.lists(clauses, max_size=3).map(lambda parts: SpecifierSet(",".join(parts)))


@given(ranges, ranges, numbers)
def test_a_version_that_both_accept_is_never_lost(first: SpecifierSet, second: SpecifierSet, number: str) -> None:
    version = Version(number)
    both = intersect((first, second))
    accepted = first.contains(version) and second.contains(version)
    assert both.contains(version) == accepted
    assert not (accepted and is_empty(both))
    reduced = simplest(both)
    if reduced not in ("none", "any"):
        assert SpecifierSet(reduced).contains(version) == accepted
