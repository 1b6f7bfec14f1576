"""GSM8K in the form in which lm-eval asks for it."""

import importlib.util
import json
from pathlib import Path

import pytest

from tuneyard.core.errors import RequestError
from tuneyard.core.references import DatasetSource
from tuneyard.data.gsm8k import final_answer, score
from tuneyard.data.sources import read_records

GSM8K = Path(__file__).parents[4] / "shared" / "data" / "gsm8k"
ROW = {
    "question": "Natalia sold 48 clips and half as many. How many?",
    "answer": "She sold 48/2 = <<48/2=24>>24, so 48+24 = <<48+24=72>>1,072.\n#### 1,072",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(ROW) + "\n")
    return tmp_path


def test_a_problem_is_put_as_lm_eval_puts_it_and_the_marks_are_gone(folder: Path) -> None:
    (record,) = read_records(DatasetSource(source="builtin:gsm8k", path=str(folder)))
    assert record.prompt == f"Question: {ROW['question']}\nAnswer:"
    assert record.response == "She sold 48/2 = 24, so 48+24 = 1,072.\n#### 1,072"
    assert (record.id, record.target) == ("gsm8k-train-1", "1072")
    assert [score(text, "1072") for text in (record.response or "", "#### 1071", "no number")] == [1.0, 0.0, 0.0]


def test_the_folder_may_be_given_by_an_argument_or_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (given,) = read_records(DatasetSource(source="builtin:gsm8k", arguments={"data": str(folder)}, split="test"))
    monkeypatch.setenv("TUNEYARD_GSM8K", str(folder))
    (named,) = read_records(DatasetSource(source="builtin:gsm8k", split="test"))
    assert given == named
    assert named.id == "gsm8k-test-1"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"question": "q", "answer": "42"}, "does not end with `#### NUMBER`"),
        ({"prompt": "q"}, "`question` and `answer`"),
    ],
)
def test_a_row_that_is_no_gsm8k_is_told(folder: Path, row: dict[str, str], says: str) -> None:
    (folder / "train.jsonl").write_text(json.dumps(ROW) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(RequestError, match=says) as caught:
        list(read_records(DatasetSource(source="builtin:gsm8k", path=str(folder))))
    assert caught.value.where == f"{folder / 'train.jsonl'}:2"


@pytest.mark.parametrize(
    ("text", "answer"),
    [("#### 5", "5"), ("#### -1,200.50", "-1200.50"), ("#### 7.", "7"), ("5", None), ("####5", None)],
)
def test_final_answers(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_the_prompt_is_the_one_in_lm_evals_own_task() -> None:
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        pytest.skip("lm-eval is not installed here")
    import yaml

    text = (Path(found.origin).parent / "tasks" / "gsm8k" / "gsm8k.yaml").read_text()
    task = yaml.safe_load(text)
    assert task["doc_to_text"] == "Question: {{question}}\nAnswer:"
    assert {f["name"]: f["filter"][0] for f in task["filter_list"]}["strict-match"]["regex_pattern"] == (
        "#### (\\-?[0-9\\.\\,]+)"
    )


def test_every_answer_of_the_real_gsm8k_scores_one() -> None:
    if not GSM8K.is_dir():
        pytest.skip("GSM8K is not beside this checkout (../shared/data/gsm8k)")
    for split, count in (("train", 7473), ("test", 1319)):
        records = list(read_records(DatasetSource(source="builtin:gsm8k", path=str(GSM8K), split=split)))
        assert len(records) == count
        assert all(score(r.response or "", r.target or "") == 1.0 for r in records)
        assert not any("<<" in (r.response or "") for r in records)
