"""Pieces of a log are bounded and clean, whatever the log holds, and together they are the whole log."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneyard.control import log_views
from tuneyard.control.log_views import BLOCK, clean, search, tail, trouble, window
from tuneyard.core.errors import RequestError
from tuneyard.core.masking import MASK

TOKEN = "hf_" + "aB3" * 12


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stderr.log"


def numbered(log: Path, count: int) -> None:
    log.write_text("".join(f"line {n}\n" for n in range(count)))


def test_the_tail_and_what_stands_before_it(log: Path) -> None:
    numbered(log, 100)
    last = tail(log, 3)
    assert last.lines == ["line 97", "line 98", "line 99"]
    assert tail(log, 2, before=last.start).lines == ["line 95", "line 96"]
    assert tail(log, 5, before=0).lines == []
    assert (last.end, last.size) == (log.stat().st_size, log.stat().st_size)


def test_windows_follow_one_another_and_begin_at_a_line(log: Path) -> None:
    numbered(log, 10)
    first = window(log, 0, 4)
    assert first.lines == [f"line {n}" for n in range(4)]
    assert window(log, first.end, 100).lines == [f"line {n}" for n in range(4, 10)]
    assert window(log, 9, 1).lines == ["line 1"]
    assert window(log, -1, 1).lines == ["line 9"]
    assert window(log, 10_000, 5).lines == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.one_of(st.text("abc ", max_size=20), st.just("x" * 50)), max_size=12), st.integers(1, 5), st.booleans()
)
def test_pieces_in_either_direction_are_the_whole_log(
    log: Path, monkeypatch: pytest.MonkeyPatch, rows: list[str], lines: int, ended: bool
) -> None:
    monkeypatch.setattr(log_views, "BLOCK", 40)  # so that lines are longer than what is read at once
    data = "\n".join(rows).encode() + (b"\n" if ended else b"")
    log.write_bytes(data)
    covered, offset = b"", 0
    while offset < len(data):
        piece = window(log, offset, lines)
        assert piece.start == offset
        assert piece.end > offset
        assert len(piece.lines) <= lines
        covered, offset = covered + data[piece.start : piece.end], piece.end
    assert covered == data
    covered, end = b"", len(data)
    while end:
        piece = tail(log, lines, before=end)
        assert piece.end == end
        assert piece.start < end
        assert len(piece.lines) <= lines
        covered, end = data[piece.start : end] + covered, piece.start
    assert covered == data


def test_a_search_finds_lines_without_regard_to_case_and_goes_on(log: Path) -> None:
    numbered(log, 50)
    with open(log, "a") as file:
        file.write("RuntimeError: CUDA out of Memory\nkilled\n")
    found = search(log, "out of memory|KILLED")
    assert [m.line for m in found.matches] == ["RuntimeError: CUDA out of Memory", "killed"]
    assert window(log, found.matches[0].offset, 1).lines == ["RuntimeError: CUDA out of Memory"]
    first = search(log, "line", most=2)
    assert [m.line for m in first.matches] == ["line 0", "line 1"]
    assert [m.line for m in search(log, "line", offset=first.end, most=2).matches] == ["line 2", "line 3"]
    assert search(log, "(a+)+$").matches == []
    with pytest.raises(RequestError):
        search(log, "|")


def test_colours_bars_and_bytes_that_are_no_text_are_taken_out(log: Path) -> None:
    log.write_bytes(b"\x1b[31mred\x1b[0m\n 1%|\r 50%|\r100%|\r\n" + b"\xff\x00" * 50 + b"end\n\x1b]0;title\x07x\n")
    assert tail(log, 10).lines == ["red", "100%|", "\ufffd…end", "x"]


def test_a_line_of_two_gigabytes_costs_nothing(log: Path) -> None:
    with open(log, "wb") as file:
        file.write(b"first\n")
        file.seek(2_000_000_000)
        file.write(b" the end")
    for piece in (tail(log, 100), window(log, 1_000_000_000, 100), window(log, 0, 100)):
        assert sum(map(len, piece.lines)) < 3000
    assert tail(log, 1).lines[-1].endswith("the end")
    assert window(log, 0, 1).lines == ["first"]


def test_secrets_are_masked_also_where_a_piece_is_cut(log: Path) -> None:
    assert clean(f"\x1b[1m{TOKEN}") == MASK
    log.write_text(f"{'y ' * 100}{TOKEN} " * 5000)
    for offset in range(BLOCK, BLOCK + len(TOKEN) + 300, 7):
        for piece in (window(log, offset, 1), tail(log, 1, before=offset)):
            assert not [word for line in piece.lines for word in line.split() if word[:8] in TOKEN and len(word) > 5]


def test_what_speaks_of_trouble_is_shown(log: Path) -> None:
    numbered(log, 1000)
    with open(log, "a") as file:
        file.write("WARNING: slow\nfine\nValueError: no\nTraceback (most recent call last):\n")
    assert trouble(log) == ["WARNING: slow", "Traceback (most recent call last):"]
    assert trouble(log, 1) == ["Traceback (most recent call last):"]


def test_a_log_that_is_not_there_is_said_so(log: Path) -> None:
    with pytest.raises(RequestError, match="no such log yet"):
        tail(log, 1)
