"""`check`: a callback that can be used, and a dataset as the model will see it."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_runs import Runs

from tuneyard.core.errors import RequestError
from tuneyard.train.check import check

pytestmark = pytest.mark.slow

CODE = """
from transformers import TrainerCallback

class Steps(TrainerCallback):
    pass

class Other:
    pass

def make():
    return Steps()

NUMBER = 17
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


@pytest.mark.parametrize(("name", "kind"), [("Steps", "class"), ("make", "function")])
def test_a_callback_is_found(file: Path, name: str, kind: str) -> None:
    assert check(file, name) == {"file": str(file), "name": name, "kind": kind}


@pytest.mark.parametrize(
    ("name", "words"), [("Other", "is no transformers"), ("NUMBER", "is a int"), ("mak", "not found"), (None, "which")]
)
def test_what_cannot_be_a_callback_is_refused(file: Path, name: str | None, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        check(file, name)


def test_a_file_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import nothing_of_this_name")
    with pytest.raises(RequestError, match="nothing_of_this_name"):
        check(tmp_path / "mine.py", "make")


def test_the_first_row_is_shown_as_the_model_will_see_it(runs: Runs) -> None:
    run = runs.new({"stage": "sft", "val_size": 0.1, "early_stopping_steps": 2})
    (row,) = check(run.spec, None)["datasets"]
    assert row["text"] == {
        "input_ids": "<|user|>What is 0+0?<|end|><|assistant|>0<|end|>",
        "labels": "0<|end|>",
    }
    assert len(row["ids"]["input_ids"]) == len(row["ids"]["labels"])
    assert row["ids"]["labels"][0] == -100


def test_pairs_are_shown_side_by_side(weird_runs: Runs) -> None:
    run = weird_runs.new({"stage": "dpo"}, "pairs", held_out=True)
    train, held_out = check(run.spec, None)["datasets"]
    assert (train["name"], held_out["name"]) == ("train", "held_out")
    assert train["text"]["chosen_labels"] == "0<|end|>"
    assert train["text"]["rejected_labels"] == "1<|end|>"


def test_raw_text_is_shown_without_a_template(runs: Runs) -> None:
    (row,) = check(runs.new({"stage": "pt"}, "text").spec, None)["datasets"]
    assert row["text"]["input_ids"].startswith("0 plus 0 makes 0.")


def test_any_other_file_is_refused_with_what_can_be_checked(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"RUN/spec\.json"):
        check(tmp_path / "rows.jsonl", None)
