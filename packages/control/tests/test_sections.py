"""A section's list is edited; every other byte of the file stays."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tuneyard.control.agents_md.sections import as_item, as_text, insert_items, items, remove_items, set_items

TITLE = "Recent changes"

LINES = st.sampled_from(
    [
        b"",
        b"   ",
        b"text",
        b"# Title",
        b"## Recent changes",
        b"### recent changes ##",
        b"## Other",
        b"####### seven",
        b"Recent changes",
        b"---",
        b"===",
        b"- item",
        b"* item",
        b"  more of it",
        b"\tmore of it",
        b"N/A",
        b"```",
        b"```python",
        b"````",
        b"~~~",
        b"- ```",
        b"<!--",
        b"-->",
        b"<!-- - old -->",
        b"> quote",
        b"| a | b |",
        b"1. one",
        b"-",
        b"- - -",
        b"* * *",
        b"\xff\xfe\x00",
        "ünï".encode(),
        b"#",
    ]
)
ENDINGS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A Markdown file of any kind: endings mixed, a byte order mark, a last line without an end."""
    rows = draw(st.lists(st.tuples(st.one_of(LINES, st.binary(max_size=12)), ENDINGS), max_size=25))
    data = b"".join(line + ending for line, ending in rows)
    bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return bom + (data if draw(st.booleans()) else data.rstrip(b"\r\n"))


texts = st.text(min_size=1, max_size=60).filter(lambda t: as_item(t) != b"- ")


def only_adds(old: bytes, new: bytes, item: bytes) -> bool:
    """Whether `new` is `old` with one stretch more, in which the item stands."""
    added = len(new) - len(old)
    return any(
        new[:at] == old[:at] and new[at + added :] == old[at:] and item in new[at : at + added]
        for at in range(len(old) + 1)
    )


def is_placeholder(data: bytes) -> bool:
    return re.search(rb"(?im)^N/A[ \t]*\r?$", data.replace(b"\r", b"\n")) is not None


@example(b"## Recent changes\n   ", "a")
@given(files().filter(lambda d: not is_placeholder(d)), texts)
def test_an_inserted_item_is_the_first_and_all_else_is_as_it_was(old: bytes, text: str) -> None:
    new = insert_items(old, TITLE, [as_item(text)])
    assert only_adds(old, new, as_item(text))
    assert items(new, TITLE)[0].rstrip(b"\r\n") == as_item(text)
    assert items(new, TITLE)[1:] == items(old, TITLE)


@given(files(), texts)
def test_a_second_item_goes_above_the_first_without_another_section(old: bytes, text: str) -> None:
    once = insert_items(old, TITLE, [as_item(text)])
    twice = insert_items(once, TITLE, [as_item("second")])
    assert [i.rstrip(b"\r\n") for i in items(twice, TITLE)[:2]] == [b"- second", as_item(text)]
    assert len(twice) - len(once) <= len(b"- second\r\n")


@given(files(), st.integers(0, 3))
def test_removing_takes_only_items_and_blank_lines(old: bytes, first: int) -> None:
    before = items(old, TITLE)
    new = remove_items(old, TITLE, first)
    assert items(new, TITLE)[:first] == before[:first]
    assert len(old) - len(new) >= sum(map(len, before[first:]))
    gone = b"".join(before[first:])
    left = sorted(b"".join(new.split()))
    assert sorted(left + sorted(b"".join(gone.split()))) == sorted(b"".join(old.split()))


@example(b"## Recent changes\n   ", [])
@example(b"## Recent changes\n-", [])
@example(b"## Recent changes\n- item\n```", [])
@example(b"## Recent changes\nN/A\n- item", [])
@example(b"## Recent changes\nN/A\n  more of it", ["0"])
@example(b"## Recent changes\n- item\n===", [])
@example(b"## Recent changes\n- item\n---", [])
@example(b"## Recent changes\ntext\r# Title", [])
@example(b"## Recent changes\n\r\n", ["0"])
@given(files(), st.lists(texts, max_size=4))
def test_setting_the_same_twice_changes_nothing_more(old: bytes, new: list[str]) -> None:
    wanted = [as_item(text) for text in new]
    once = set_items(old, TITLE, wanted)
    assert set_items(once, TITLE, wanted) == once


@given(st.text())
@example("a\nb")
@example("```")
@example("--> end")
@example("\x1b[31mred\x00")
def test_any_text_becomes_one_line(text: str) -> None:
    item = as_item(text)
    assert item.startswith(b"- ")
    assert not re.search(rb"[\x00-\x1f\x7f]", item)
    assert len(item.splitlines()) == 1


def test_line_endings_and_the_mark_in_front_are_kept() -> None:
    old = "\ufeff# A\r\n\r\n## Recent changes\r\n\r\n- b\r\n".encode()
    assert insert_items(old, TITLE, [b"- c"]) == "\ufeff# A\r\n\r\n## Recent changes\r\n\r\n- c\r\n- b\r\n".encode()


def test_a_section_is_made_at_the_end_or_in_front_of_another() -> None:
    assert insert_items(b"# A", TITLE, [b"- c"]) == b"# A\n\n## Recent changes\n\n- c\n"
    made = set_items(b"# A\n\n## Recent changes\n\n- c\n", "Current tasks", [], before=TITLE)
    assert made == b"# A\n\n## Current tasks\n\nN/A\n\n## Recent changes\n\n- c\n"


def test_a_heading_in_a_fence_or_a_comment_is_none() -> None:
    hidden = b"```\n## Recent changes\n```\n<!--\n## Recent changes\n- no\n-->\n"
    assert items(hidden, TITLE) == []
    assert insert_items(hidden, TITLE, [b"- c"]) == hidden + b"\n## Recent changes\n\n- c\n"


def test_a_fence_that_is_never_closed_hides_nothing() -> None:
    assert items(b"```\n## Recent changes\n- yes\n", TITLE) == [b"- yes\n"]


@pytest.mark.parametrize("heading", [b"# Recent changes", b"### RECENT CHANGES ###", b"Recent changes\n--------"])
def test_headings_of_any_rank_and_form_are_found(heading: bytes) -> None:
    assert items(heading + b"\n\ntext\n\n- a\n  b\n\n  c\n- d\n", TITLE) == [b"- a\n  b\n\n  c\n", b"- d\n"]


def test_text_of_the_section_stays_where_it_is() -> None:
    old = b"## Recent changes\n\nNewest first.\n\n- a\n\nThat is all.\n\n## Next\n"
    assert set_items(old, TITLE, [b"- b"]) == old.replace(b"- a", b"- b")
    assert set_items(old, TITLE, []) == old.replace(b"- a", b"N/A")
    assert set_items(set_items(old, TITLE, []), TITLE, [b"- a"]) == old


def test_a_subsection_belongs_to_its_section() -> None:
    assert items(b"## Recent changes\n### 2026\n- a\n## Next\n- b\n", TITLE) == [b"- a\n"]


def test_a_large_file_of_fences_that_never_close_is_read_in_linear_time() -> None:
    data = b"".join(b"`" * (3 + n % 50) + b"a\n<!--\n" for n in range(20_000))
    assert items(data, TITLE) == []


def test_an_item_reads_as_its_text() -> None:
    assert as_text(b"- a\n  b\n") == "a b"
