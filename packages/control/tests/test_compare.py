"""Two evaluations are paired document by document; what is not alike about them is said, or refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tuneyard.control.compare import TEXT_LENGTH, compare
from tuneyard.core.errors import RequestError
from tuneyard.core.evaluation import EvaluatedTask, Evaluation, Sample
from tuneyard.core.results import Metric, Result
from tuneyard.core.run_folder import RunFolder, create_run, now

Make = Callable[..., RunFolder]


def sample(number: int, score: float, task: str = "quiz", prompt: str = "Question {}", **more: Any) -> Sample:
    return Sample(
        task=task,
        id=str(number),
        document_sha256=hashlib.sha256(f"{task} {number}".encode()).hexdigest(),
        prompt=prompt.format(number),
        response=f"I say {score}",
        target="1",
        answers={"strict": f"answer {score}", "flexible": f"maybe {score}"},
        scores={"strict": {"exact_match": score}, "flexible": {"exact_match": 1.0}},
        **more,
    )


def evaluated(samples: list[Sample], **settings: Any) -> list[EvaluatedTask]:
    found = {}
    for row in samples:
        found.setdefault(row.task, []).append(row)
    return [
        EvaluatedTask(
            **{
                "task": task,
                "documents_sha256": "d",
                "prompts_sha256": "p",
                "n": len(rows),
                "filters": sorted(rows[0].scores),
                **settings,
            }
        )
        for task, rows in found.items()
    ]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A finished evaluation with these samples."""

    def make(
        samples: list[Sample], model: str = "builtin:tiny", status: Any = "succeeded", **settings: Any
    ) -> RunFolder:
        run = create_run(tmp_path / "runs", "eval", "quiz")
        run.spec.write_text("{}")
        attempt = run.new_attempt()
        run.artifacts.mkdir()
        run.samples.write_text("".join(row.model_dump_json() + "\n" for row in samples))
        document = Evaluation(
            framework="lm-eval", framework_version="0.4.13", model=model, tasks=evaluated(samples, **settings)
        )
        run.evaluation.write_text(document.model_dump_json())
        scores = [row.scores["strict"]["exact_match"] for row in samples if "strict" in row.scores]
        metrics = {"quiz/exact_match,strict": Metric(value=sum(scores) / max(1, len(scores)))}
        result = Result(run=run.id, attempt=1, status=status, started=now(), ended=now(), seconds=1, metrics=metrics)
        attempt.result.write_text(result.model_dump_json())
        return run

    return make


def test_the_difference_its_interval_and_what_changed(make: Make, tmp_path: Path) -> None:
    a = make([sample(n, float(n < 40)) for n in range(100)])
    b = make([sample(n, float(n < 60 or n > 95)) for n in range(100)], model="run:x")
    found = compare(tmp_path / "runs", a.id, b.id)
    assert (found.a, found.b, found.models) == (a.id, b.id, ("builtin:tiny", "run:x"))
    assert found.comparable and found.caveats == []
    strict, flexible = found.differences
    assert (strict.filter, strict.n, strict.a, strict.b) == ("strict", 100, 0.4, 0.64)
    assert strict.difference == pytest.approx(0.24)
    assert 0.1 < strict.interval[0] < 0.24 < strict.interval[1] < 0.4
    assert (strict.improved, strict.worsened) == (24, 0)
    assert strict.p == pytest.approx(2 / 2**24)
    assert [c.id for c in strict.changed] == [str(n) for n in range(40, 60)]
    assert strict.changed[0].prompt == "Question 40"
    assert strict.changed[0].answers == ("answer 0.0", "answer 1.0")
    assert strict.changed[0].scores == (0.0, 1.0)
    assert (flexible.difference, flexible.interval, flexible.p, flexible.changed) == (0.0, (0.0, 0.0), 1.0, [])
    json.dumps(asdict(found))


def test_documents_are_paired_by_what_they_are_not_by_their_place(make: Make, tmp_path: Path) -> None:
    scores = {1: 1.0, 2: 0.0, 3: 1.0}
    a = make([sample(n, s) for n, s in scores.items()])
    b = make([sample(n, s) for n, s in reversed(scores.items())])
    assert compare(tmp_path / "runs", a.id, b.id).differences[0].changed == []


def test_the_same_document_twice_is_two_documents(make: Make, tmp_path: Path) -> None:
    a = make([sample(1, 1.0), sample(1, 0.0)])
    b = make([sample(1, 1.0), sample(1, 1.0)])
    [strict, _] = compare(tmp_path / "runs", a.id, b.id).differences
    assert (strict.n, strict.improved) == (2, 1)


def test_under_different_limits_the_common_documents_are_compared_and_that_is_said(make: Make, tmp_path: Path) -> None:
    a = make([sample(n, 1.0) for n in range(50)], limit=50)
    b = make([sample(n, 0.0) for n in range(20)], limit=20)
    found = compare(tmp_path / "runs", a.id, b.id)
    assert found.differences[0].n == 20
    assert found.caveats == ["quiz: compared on the 20 documents that both have; A has 50, B has 20"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"num_fewshot": 8}, "worked examples in the prompt: None and 8"),
        ({"chat_template": True}, "chat template applied: False and True"),
        ({"version": "2"}, "version of the task: None and 2"),
        ({"generation": {"max_gen_toks": 9}}, "generation, max_gen_toks: None and 9"),
        ({"filters": ["strict"]}, "filters: flexible, strict and strict"),
    ],
)
def test_other_settings_are_said(make: Make, tmp_path: Path, setting: dict[str, Any], said: str) -> None:
    rows = [sample(n, 1.0) for n in range(3)]
    found = compare(tmp_path / "runs", make(rows).id, make(rows, **setting).id)
    assert found.caveats == [f"quiz: {said}"]


def test_other_prompts_are_said(make: Make, tmp_path: Path) -> None:
    a = make([sample(n, 1.0) for n in range(4)])
    b = make([sample(n, 1.0, prompt="Q {}" if n == 2 else "Question {}") for n in range(4)])
    assert compare(tmp_path / "runs", a.id, b.id).caveats == ["quiz: the prompts of 1 of 4 documents differ"]


def test_scores_that_are_no_mere_right_or_wrong_have_no_mcnemar_p(make: Make, tmp_path: Path) -> None:
    a = make([sample(n, n / 10) for n in range(10)])
    b = make([sample(n, n / 9) for n in range(10)])
    strict = compare(tmp_path / "runs", a.id, b.id).differences[0]
    assert strict.p is None and strict.difference == pytest.approx(0.05)


def test_a_number_that_is_no_mean_over_documents_is_said(make: Make, tmp_path: Path) -> None:
    a, b = make([sample(1, 1.0)]), make([sample(1, 1.0)])
    result = json.loads(a.attempt(1).result.read_text())
    result["metrics"]["quiz/exact_match,strict"]["value"] = 0.3
    a.attempt(1).result.write_text(json.dumps(result))
    [caveat] = compare(tmp_path / "runs", a.id, b.id).caveats
    assert "no mean over documents" in caveat and "0.3" in caveat


def test_nothing_in_common_is_refused(make: Make, tmp_path: Path) -> None:
    a, b = make([sample(1, 1.0)]), make([sample(1, 1.0, task="other")])
    with pytest.raises(RequestError, match="no task in common: quiz against other"):
        compare(tmp_path / "runs", a.id, b.id)
    c = make([sample(2, 1.0)])
    with pytest.raises(RequestError, match="no document in common"):
        compare(tmp_path / "runs", a.id, c.id)


def test_what_is_no_finished_evaluation_is_refused(make: Make, tmp_path: Path) -> None:
    good, failed = make([sample(1, 1.0)]), make([sample(1, 1.0)], status="failed")
    with pytest.raises(RequestError, match="has not succeeded: it is failed"):
        compare(tmp_path / "runs", good.id, failed.id)
    training = create_run(tmp_path / "runs", "train", "x")
    training.spec.write_text("{}")
    with pytest.raises(RequestError, match="is no evaluation"):
        compare(tmp_path / "runs", good.id, training.id)
    good.samples.unlink()
    with pytest.raises(RequestError, match="kept no samples"):
        compare(tmp_path / "runs", good.id, good.id)


def test_long_texts_keep_both_ends(make: Make, tmp_path: Path) -> None:
    prompt = "begin" + "x" * 10 * TEXT_LENGTH + "end{}"
    a, b = make([sample(1, 0.0, prompt=prompt)]), make([sample(1, 1.0, prompt=prompt)])
    shown = compare(tmp_path / "runs", a.id, b.id).differences[0].changed[0].prompt
    assert shown.startswith("begin") and shown.endswith("end1") and len(shown) < TEXT_LENGTH + 100
