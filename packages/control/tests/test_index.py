"""Runs are found newest first and by state; the index is derived, and nothing depends on it."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tuneyard.control.index import VERSION, Index, headline, index_file, listing, newest_first, rebuild, run_ids
from tuneyard.core.run_folder import START_PATIENCE, RunFolder, create_run

LONG_AGO = time.time() - 3600


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "runs"


def make(runs: Path, name: str, state: str = "succeeded", written: float = LONG_AGO) -> RunFolder:
    """A run that ended in `state`, or has not begun where that is `queued`."""
    run = RunFolder(runs / name)
    run.path.mkdir(parents=True)
    run.spec.write_text("{}")
    if state != "queued":
        end(run, state)
        os.utime(run.spec, (written, written))
    os.utime(run.path, (written, written))
    return run


def end(run: RunFolder, state: str) -> None:
    """Another attempt that ended so."""
    result = {"status": state, "seconds": 1.5, "metrics": {"train_loss": {"value": 0.5}}}
    run.new_attempt().result.write_text(json.dumps(result))


def ids(found: tuple[list[Any], int]) -> list[str]:
    return [row[0] for row in found[0]]


def indexed(runs: Path) -> set[str]:
    with sqlite3.connect(index_file(runs)) as connection:
        return {name for (name,) in connection.execute("select id from runs")}


def test_without_a_folder_there_are_no_runs(runs: Path) -> None:
    assert listing(runs) == ([], 0)
    assert listing(runs, limit=5) == ([], 0)


def test_the_newest_come_first_and_within_a_minute_those_written_last(runs: Path) -> None:
    names = ["eval-z-261119-1200-aaa", "train-a-261120-0900-zzz", "train-b-261120-0900-aaa", "eval-c-261120-0900-mmm"]
    for number, name in enumerate(names):
        make(runs, name, written=LONG_AGO + number)
    expected = [names[3], names[2], names[1], names[0]]
    assert [run.id for run in newest_first(runs)] == expected
    for limit in (None, 4):
        assert ids(listing(runs, limit=limit)) == expected
    assert ids(listing(runs, states=["succeeded"])) == expected
    assert ids(listing(runs, kind="train", limit=1)) == [names[2]]


def test_what_is_no_run_is_passed_over(runs: Path) -> None:
    make(runs, "train-a-261120-0900-zzz")
    for name in (".removed-train-a-261120-0900-zzz-7", "notes", "train-a"):
        (runs / name).mkdir()
    (runs / "spec.yaml").touch()
    assert run_ids(runs) == ["train-a-261120-0900-zzz"]


def test_a_kind_whose_name_begins_another_is_not_taken_for_it(runs: Path) -> None:
    make(runs, "trainer-a-261120-0900-zzz")
    assert run_ids(runs, "train") == []


def test_only_runs_of_the_owner_are_taken_where_one_is_named(runs: Path) -> None:
    make(runs, "train-a-261120-0900-zzz")
    assert [run.id for run in newest_first(runs, owner=os.getuid())]
    assert [run.id for run in newest_first(runs, owner=os.getuid() + 1)] == []


def test_states_are_found_and_counted(runs: Path) -> None:
    for number in range(6):
        make(runs, f"train-a-261120-090{number}-zzz", "failed" if number % 2 else "succeeded")
    found, total = listing(runs, states=["failed"], limit=2)
    assert total == 3
    assert [row[:1] + row[2:] for row in found] == [
        ("train-a-261120-0905-zzz", "failed", 1, 1.5, "train_loss 0.5"),
        ("train-a-261120-0903-zzz", "failed", 1, 1.5, "train_loss 0.5"),
    ]
    assert len(ids(listing(runs, states=["failed", "succeeded"]))) == 6


def test_an_ending_is_read_from_its_files_once(runs: Path) -> None:
    run = make(runs, "train-a-261120-0900-zzz")
    assert ids(listing(runs, states=["succeeded"])) == [run.id]
    run.attempt(1).result.write_text("no longer JSON")
    assert listing(runs)[0][0][2:] == ("succeeded", 1, 1.5, "train_loss 0.5")


def test_a_new_attempt_is_seen(runs: Path) -> None:
    run = make(runs, "train-a-261120-0900-zzz", "failed")
    assert ids(listing(runs, states=["failed"])) == [run.id]
    end(run, "succeeded")
    assert ids(listing(runs, states=["failed"])) == []
    assert listing(runs)[0][0][2:4] == ("succeeded", 2)


def test_what_was_changed_just_now_is_not_believed_yet(runs: Path) -> None:
    run = make(runs, "train-a-261120-0900-zzz", "failed", written=time.time())
    listing(runs)
    assert indexed(runs) == set()
    os.utime(run.path, (LONG_AGO, LONG_AGO))
    listing(runs)
    assert indexed(runs) == {run.id}


def test_what_has_not_ended_is_read_every_time(runs: Path) -> None:
    run = make(runs, "train-a-261120-0900-zzz", "queued")
    just_now = time.time() - START_PATIENCE / 2
    os.utime(run.spec, (just_now, just_now))
    os.utime(run.path, (LONG_AGO, LONG_AGO))
    assert listing(runs)[0][0][2] == "queued"
    os.utime(run.spec, (LONG_AGO, LONG_AGO))
    os.utime(run.path, (LONG_AGO, LONG_AGO))
    assert listing(runs)[0][0][2] == "lost"
    assert indexed(runs) == set()


def test_a_run_that_is_gone_is_forgotten(runs: Path) -> None:
    run, _ = make(runs, "train-a-261120-0900-zzz"), make(runs, "train-b-261120-0900-zzz")
    listing(runs)
    run.path.rename(runs.parent / "gone")
    assert ids(listing(runs, states=["succeeded"])) == ["train-b-261120-0900-zzz"]
    assert indexed(runs) == {"train-b-261120-0900-zzz"}


SPOILT: dict[str, Callable[[Path], Any]] = {
    "no database": lambda file: file.write_text("this is no database, however long one looks at it" * 100),
    "empty": lambda file: file.write_bytes(b""),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:5000]),
    "another version": lambda file: sqlite3.connect(file).executescript(
        f"drop table runs; create table runs (x); pragma user_version = {VERSION + 1}"
    ),
    "not writable": lambda file: file.parent.chmod(0o500),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("how", SPOILT)
def test_whatever_is_wrong_with_the_index_the_answer_is_right(runs: Path, how: str) -> None:
    make(runs, "train-a-261120-0900-zzz", "failed")
    listing(runs)
    file = index_file(runs)
    SPOILT[how](file)
    for _ in range(2):
        assert [row[2] for row in listing(runs, states=["failed"])[0]] == ["failed"]
    file.parent.chmod(0o700)
    assert rebuild(runs) == 1
    assert indexed(runs) == {"train-a-261120-0900-zzz"}


def test_while_another_writes_the_answer_is_right_and_in_time(runs: Path) -> None:
    make(runs, "train-a-261120-0900-zzz", "failed")
    listing(runs)
    make(runs, "train-b-261120-0900-zzz", "failed")
    with sqlite3.connect(index_file(runs)) as other:
        other.execute("begin exclusive")
        assert len(listing(runs, states=["failed"])[0]) == 2


def test_many_at_once_agree(runs: Path) -> None:
    for number in range(40):
        make(runs, f"train-a-261120-09{number:02d}-zzz", "failed" if number % 4 else "succeeded")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: listing(runs, states=["failed"]), range(24)))
    assert all(answer == found[0] and answer[1] == 30 for answer in found)


def test_each_folder_of_runs_has_an_index_of_its_own(runs: Path, tmp_path: Path) -> None:
    assert index_file(runs) != index_file(tmp_path / "other")
    runs.mkdir()
    (tmp_path / "link").symlink_to(runs)
    assert index_file(tmp_path / "link") == index_file(runs)


@pytest.mark.parametrize(
    ("kind", "result", "expected"),
    [
        ("train", {"metrics": {"epoch": {"value": 3}, "train_loss": {"value": 0.12345}}}, "train_loss 0.1235"),
        ("train", {"metrics": {"train_loss": {"value": 1}, "eval_loss": {"value": 2}}}, "eval_loss 2"),
        (
            "eval",
            {"metrics": {"gsm8k/exact_match": {"value": 0.5, "standard_error": 0.0125}}},
            "gsm8k/exact_match 0.5 ± 0.013",
        ),
        ("eval", {"metrics": {}}, None),
        ("train", {"failure": {"kind": "failed", "message": "no\nmore"}}, "failed: no"),
    ],
)
def test_a_result_has_one_headline(kind: str, result: dict[str, Any], expected: str | None) -> None:
    assert headline(kind, result) == expected


class Truth(RuleBasedStateMachine):
    """Whatever happens to runs, in whatever order, the index says what their files say."""

    runs: Path

    def __init__(self) -> None:
        super().__init__()
        for entry in list(self.runs.iterdir()) if self.runs.exists() else []:
            _remove(entry)
        self.count = 0
        self.states: dict[str, str] = {}
        self.clock = LONG_AGO - 1e6

    def settle(self, run: RunFolder) -> None:
        self.clock += 1
        os.utime(run.path, (self.clock, self.clock))

    @rule(state=st.sampled_from(["succeeded", "failed", "cancelled"]))
    def finish_one(self, state: str) -> None:
        self.count += 1
        name = f"train-a-2611{1 + self.count % 28:02d}-{self.count // 60 % 24:02d}{self.count % 60:02d}-zzz"
        if name not in self.states:
            self.settle(make(self.runs, name, state))
            self.states[name] = state

    @rule(state=st.sampled_from(["succeeded", "failed", "cancelled"]), data=st.data())
    def resume_one(self, state: str, data: st.DataObject) -> None:
        ended = [name for name, was in self.states.items() if was != "succeeded"]
        if ended:
            name = data.draw(st.sampled_from(ended))
            run = RunFolder(self.runs / name)
            end(run, state)
            self.settle(run)
            self.states[name] = state

    @rule(data=st.data())
    def remove_one(self, data: st.DataObject) -> None:
        if self.states:
            name = data.draw(st.sampled_from(list(self.states)))
            _remove(self.runs / name)
            del self.states[name]

    @rule()
    def throw_the_index_away(self) -> None:
        index_file(self.runs).unlink(missing_ok=True)

    @invariant()
    def the_index_tells_the_truth(self) -> None:
        assert {row[0]: row[2] for row in listing(self.runs)[0]} == self.states
        failed = {name for name, state in self.states.items() if state == "failed"}
        assert set(ids(listing(self.runs, states=["failed"]))) == failed


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path)


def test_the_index_always_tells_what_the_files_tell(runs: Path) -> None:
    Truth.runs = runs
    run_state_machine_as_test(Truth, settings=settings(max_examples=10, stateful_step_count=15, deadline=None))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.lists(st.sampled_from(["train", "eval"]), max_size=6))
def test_made_runs_are_all_found(tmp_path: Path, kinds: list[str]) -> None:
    runs = tmp_path / f"runs-{os.urandom(4).hex()}"
    made = {create_run(runs, kind, "x").id for kind in kinds}
    assert set(run_ids(runs)) == made


def test_an_index_asked_for_a_run_that_is_just_removed_does_not_fail(runs: Path) -> None:
    name = "train-a-261120-0900-zzz"
    assert Index(runs).in_states([name], frozenset({"unknown", "failed"})) == [name]
