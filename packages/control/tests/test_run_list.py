"""Runs page by page: every run once, whatever happens between two pages, and no more reading than is needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tuneyard.control.run_list import RunList
from tuneyard.core.errors import RequestError
from tuneyard.core.files import write_json
from tuneyard.core.run_folder import RunFolder, create_run


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def made(runs: Path, kind: str = "train", name: str = "x", state: str | None = "succeeded") -> RunFolder:
    run = create_run(runs, kind, name)
    write_json(run.spec, {"kind": kind})
    if state:
        end(run, state)
    return run


def end(run: RunFolder, state: str) -> None:
    attempt = run.new_attempt()
    write_json(attempt.result, {"status": state, "metrics": {"loss": {"value": 1.5}}, "seconds": 2.0})


def ids(listed: RunList, **question: object) -> list[str]:
    return [row[0] for row in listed.page(**question).rows]  # type: ignore[arg-type]


def test_pages_follow_one_another_and_hold_every_run_once(runs: Path) -> None:
    expected = {made(runs).id for _ in range(23)}
    listed, seen, after = RunList(runs), [], None
    for _ in range(5):
        page = listed.page(limit=5, after=after)
        assert page.total == 23
        seen += [row[0] for row in page.rows]
        after = page.after
    assert after is None
    assert len(seen) == 23
    assert set(seen) == expected


def test_a_run_that_starts_or_goes_between_two_pages_moves_nothing(runs: Path) -> None:
    for _ in range(6):
        made(runs)
    listed = RunList(runs)
    everything = ids(listed, limit=10)
    first = listed.page(limit=3)
    new = made(runs)
    assert ids(listed, limit=3, after=first.after) == everything[3:]
    assert new.id in ids(listed, limit=10)


def test_states_kinds_and_texts_are_told_apart(runs: Path) -> None:
    good, bad = made(runs, name="alpha"), made(runs, kind="eval", name="beta", state="failed")
    waiting = made(runs, name="gamma", state=None)
    listed = RunList(runs)
    assert ids(listed, states=["failed"]) == [bad.id]
    assert ids(listed, states=["queued", "succeeded"]) == ids(listed, kind="train")
    assert ids(listed, text="alpha") == [good.id]
    assert ids(listed, text="nothing") == []
    end(waiting, "failed")
    assert set(ids(listed, states=["failed"])) == {bad.id, waiting.id}


def test_a_resumed_run_is_not_remembered_as_failed(runs: Path) -> None:
    run = made(runs, state="failed")
    old = 1_700_000_000
    os.utime(run.path, (old, old))  # long ago: its ending is kept
    listed = RunList(runs)
    assert ids(listed, states=["failed"]) == [run.id]
    assert ids(listed, states=["failed"]) == [run.id]
    end(run, "succeeded")
    assert ids(listed, states=["failed"]) == []
    assert ids(listed, states=["succeeded"]) == [run.id]


def test_no_folder_yet_has_no_runs(runs: Path) -> None:
    listed = RunList(runs)
    assert listed.page().rows == []
    run = made(runs)
    assert ids(listed) == [run.id]


def test_a_page_behind_no_run_is_refused(runs: Path) -> None:
    with pytest.raises(RequestError):
        RunList(runs).page(after="../x")
