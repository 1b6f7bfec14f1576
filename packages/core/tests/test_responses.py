"""The rows of a generation: each once, in order at the end, whatever was cut off on the way."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import RunError, SetupError
from tuneyard.core.generation import Answer, Completion, Input, Work, rows_of
from tuneyard.core.responses import Responses


def group(number: int, samples: int, adapter: str | None = None, **changes: Any) -> list[dict[str, Any]]:
    work = Work(Input(number=number, prompt=f"q{number}"), adapter)
    completions = [Completion(f"a{number}.{k} 🙂\n", 3, "stop") for k in range(samples)]
    return rows_of(Answer(work, completions, prompt_tokens=2, **changes), samples)


def opened(folder: Path, samples: int = 1) -> Responses:
    return Responses(folder / "responses.part.jsonl", folder / "responses.jsonl", samples)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_end_in_the_order_of_inputs_adapters_and_samples(tmp_path: Path) -> None:
    with opened(tmp_path, 2) as rows:
        for number, adapter in ((2, "b"), (0, "b"), (2, "a"), (1, "a"), (0, "a"), (1, "b")):
            rows.add(group(number, 2, adapter))
        rows.finish(["b", "a"])
    found = [(row["input"], row["adapter"], row["sample"]) for row in lines(tmp_path / "responses.jsonl")]
    assert found == [(n, adapter, k) for n in range(3) for adapter in ("b", "a") for k in range(2)]
    assert os.listdir(tmp_path) == ["responses.jsonl"]


@given(order=st.permutations(range(6)), cut=st.integers(0, 4000), samples=st.integers(1, 3))
def test_whatever_is_cut_off_is_asked_anew_and_nothing_is_there_twice(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cut: int, samples: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    with opened(folder, samples) as rows:
        for number in order:
            rows.add(group(number, samples))
    part = folder / "responses.part.jsonl"
    os.truncate(part, min(cut, part.stat().st_size))
    with opened(folder, samples) as rows:
        kept = [number for number in range(6) if (number, None) in rows]
        assert rows.rows == len(kept) * samples and rows.tokens == 3 * rows.rows
        for number in range(6):
            if (number, None) not in rows:
                rows.add(group(number, samples))
        rows.finish([None])
    found = [(row["input"], row["sample"]) for row in lines(folder / "responses.jsonl")]
    assert found == [(n, k) for n in range(6) for k in range(samples)]


def test_a_run_that_was_killed_at_its_very_end_has_everything(tmp_path: Path) -> None:
    with opened(tmp_path) as rows:
        rows.add(group(0, 1))
        rows.finish([None])
    with opened(tmp_path) as rows:
        assert rows.taken_over == 1 and (0, None) in rows
        rows.finish([None])
    assert len(lines(tmp_path / "responses.jsonl")) == 1


def test_failed_inputs_are_rows_with_their_error() -> None:
    work = Work(Input(number=3, messages=[{"role": "user", "content": "Hi"}]), None)
    rows = rows_of(Answer(work, error="too long"), 2)
    assert [(row["sample"], row["response"], row["error"]) for row in rows] == [
        (0, None, "too long"),
        (1, None, "too long"),
    ]
    (short, _) = rows_of(Answer(work, [Completion("x", 1, "stop")]), 2)
    assert "1 answers came where 2" in short["error"]


def test_a_conversation_is_kept_with_its_answer() -> None:
    asked = Input(number=0, messages=[{"role": "user", "content": "Hi"}], system="Be brief.")
    (row,) = rows_of(Answer(Work(asked, None), [Completion("Hello.", 2, "stop")]), 1)
    assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant"]


def test_the_same_input_twice_is_a_fault_that_is_told(tmp_path: Path) -> None:
    with opened(tmp_path) as rows:
        rows.add(group(0, 1))
        with pytest.raises(RunError, match="there twice"):
            rows.add(group(0, 1))


def test_a_full_disk_leaves_whole_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes half of the second group and then nothing more."""
    real, room = os.pwrite, [400]

    def small_disk(descriptor: int, data: bytes, offset: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, data[: room[0]], offset)
        room[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", small_disk)
    with opened(tmp_path) as rows:
        rows.add(group(0, 1))
        with pytest.raises(SetupError, match="no space left"):
            rows.add(group(1, 1))
    monkeypatch.undo()
    assert [row["input"] for row in lines(tmp_path / "responses.part.jsonl")] == [0]
