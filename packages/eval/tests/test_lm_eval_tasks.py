"""lm-eval's tasks: found by name without loading the world, read from files and folders, told where they are wrong."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eval_runs import QUIZ, Runs, of_file, write_choice, write_lines, write_quiz

from tuneyard.core.errors import RequestError
from tuneyard.eval import lm_eval_tasks
from tuneyard.eval.lm_eval_tasks import find

SUBSET = ("glue", "super_glue", "arithmetic", "gsm8k", "hellaswag", "arc")


@pytest.fixture
def few_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A part of lm-eval's own task folders: indexing all of them takes ten seconds."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name in SUBSET:
        shutil.copytree(lm_eval_tasks.tasks_folder() / name, folder / name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lm_eval_tasks, "tasks_folder", lambda: folder)
    monkeypatch.setattr(lm_eval_tasks, "index", lm_eval_tasks.index.__wrapped__)
    yield folder


def test_a_task_named_like_its_file_needs_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval_tasks, "index", lambda: pytest.fail("the index was read"))
    (entry,) = find("gsm8k")
    assert entry.kind == "TASK" and entry.path is not None and entry.path.name == "gsm8k.yaml"


def test_any_name_group_or_tag_is_found_and_the_index_is_kept(
    few_tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [(e.name, e.kind) for e in find("super-glue-lm-eval-v1")] == [("super-glue-lm-eval-v1", "TAG")]
    assert "boolq" in find("super-glue-lm-eval-v1")[0].tags
    assert find("arc_easy")[0].path is not None
    (kept,) = (tmp_path / "cache" / "tuneyard").iterdir()
    assert "lm-eval-" in kept.name
    monkeypatch.setattr(lm_eval_tasks, "_read_all", lambda root: pytest.fail("the files were read again"))
    assert find("mnli")[0].kind == "TASK"


def test_a_pattern_names_several(few_tasks: Path) -> None:
    assert {entry.name for entry in find("arc_*")} >= {"arc_easy", "arc_challenge"}


def test_a_broken_index_is_made_anew(few_tasks: Path, tmp_path: Path) -> None:
    find("boolq")
    (kept,) = (tmp_path / "cache" / "tuneyard").iterdir()
    kept.write_text("{")
    assert find("boolq")[0].name == "boolq" and json.loads(kept.read_text())["entries"]


def test_an_unknown_name_is_refused_with_the_nearest(few_tasks: Path) -> None:
    with pytest.raises(RequestError, match="'hellaswagg'") as refused:
        find("hellaswagg")
    assert refused.value.way_out == "did you mean 'hellaswag'?"


def test_a_task_file_is_evaluated(runs: Runs, tmp_path: Path) -> None:
    outcome = runs.evaluate(of_file(write_quiz(tmp_path)), limit=3)
    assert outcome.metrics["quiz/exact_match"] == {"value": 0.0, "standard_error": 0.0, "n": 3}
    assert [row["prompt"] for row in outcome.samples] == ["0+1=", "1+1=", "2+1="]
    (task,) = outcome.evaluation["tasks"]
    assert task["limit"] == 3 and task["n"] == 3 and task["version"] == "2.0" and task["filters"] == ["none"]
    assert task["generation"]["max_gen_toks"] == 8


def test_every_task_of_a_folder_is_evaluated(runs: Runs, tmp_path: Path) -> None:
    write_quiz(tmp_path / "mine")
    write_choice(tmp_path / "mine" / "deeper")
    outcome = runs.evaluate(of_file(tmp_path / "mine"))
    assert set(outcome.metrics) == {"quiz/exact_match", "choice/acc"}
    choices = [row for row in outcome.samples if row["task"] == "choice"]
    assert len(choices) == 4 and len(outcome.samples) == 10
    told = json.loads(choices[0]["response"])
    assert [entry["continuation"] for entry in told] == [" yes", " no"]
    assert all(entry["log_likelihood"] < 0 for entry in told)


def test_data_beside_a_task_file_is_found_from_anywhere(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    file = write_quiz(tmp_path / "deep")
    file.write_text(QUIZ % "quiz.jsonl")
    assert runs.evaluate(of_file(file), limit=2).metrics["quiz/exact_match"]["n"] == 2
    assert runs.evaluate(of_file(tmp_path / "deep"), limit=2).metrics["quiz/exact_match"]["n"] == 2


def test_a_group_stands_for_its_members_and_scores_for_all(runs: Runs, tmp_path: Path) -> None:
    write_quiz(tmp_path)
    data = write_lines(tmp_path / "other.jsonl", [{"question": "1+1=", "answer": "2"}])
    (tmp_path / "other.yaml").write_text((QUIZ % json.dumps(str(data))).replace("task: quiz", "task: other"))
    group = tmp_path / "both.yaml"
    group.write_text(
        "group: both\ntask: [quiz, other]\n"
        "aggregate_metric_list: [{metric: exact_match, aggregation: mean, weight_by_size: true}]\n"
    )
    of_group = runs.evaluate(of_file(group), limit=2)
    assert set(of_group.metrics) == {"both/exact_match", "quiz/exact_match", "other/exact_match"}
    of_folder = runs.evaluate(of_file(tmp_path), limit=2)
    assert of_folder.metrics == of_group.metrics


def test_a_task_in_python_is_evaluated(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "sums.py").write_text(
        "from lm_eval.api.task import ConfigurableTask\n"
        "import datasets\n"
        "class Sums(ConfigurableTask):\n"
        "    def __init__(self, config=None):\n"
        "        super().__init__(config={k: v for k, v in config.items() if k != 'class'})\n"
        "    def download(self, *a, **k):\n"
        "        self.dataset = {'test': datasets.Dataset.from_list([{'q': '1+1=', 'a': '2'}])}\n"
    )
    file = tmp_path / "sums.yaml"
    file.write_text(
        "task: sums\nclass: !function sums.Sums\ntest_split: test\noutput_type: generate_until\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\ngeneration_kwargs: {until: [], max_gen_toks: 4}\n'
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    assert runs.evaluate(of_file(file)).metrics["sums/exact_match"]["n"] == 1


def test_a_folder_of_names_may_be_included(runs: Runs, tmp_path: Path) -> None:
    write_quiz(tmp_path)
    outcome = runs.evaluate("quiz", limit=1, engine={"include_path": str(tmp_path)})
    assert outcome.metrics["quiz/exact_match"]["n"] == 1


def test_two_tasks_are_evaluated_together(runs: Runs, tmp_path: Path) -> None:
    outcome = runs.evaluate(of_file(write_quiz(tmp_path)), "arithmetic", limit=2)
    assert set(outcome.metrics) == {"quiz/exact_match", "arithmetic/exact_match"}
    assert [task["task"] for task in outcome.evaluation["tasks"]] == ["quiz", "arithmetic"]


def test_a_task_is_not_asked_for_twice(runs: Runs, tmp_path: Path) -> None:
    file = write_quiz(tmp_path)
    failure = runs.evaluate(of_file(file), of_file(file)).failure
    assert failure["kind"] == "request" and "'quiz' is asked for twice" in failure["message"]


BROKEN: dict[str, tuple[str, str, str]] = {
    "a tab": ("task: quiz\n\toutput_type: x\n", "broken.yaml:2", "not valid YAML"),
    "a missing include": ("include: nowhere.yaml\ntask: quiz\n", "broken.yaml", "FileNotFoundError"),
    "a list": ("- task: quiz\n", "broken.yaml", "Expected YAML dict"),
    "no name": ("output_type: generate_until\n", "broken.yaml", "names no task"),
    "an unknown key": (QUIZ.replace("output_type", "outputtype"), "broken.yaml", "outputtype"),
    "an unknown metric": (QUIZ.replace("metric: exact_match", "metric: exactmatch"), "broken.yaml", "exactmatch"),
    "a broken template": (QUIZ.replace("{{question}}", "{{question"), "broken.yaml", "TemplateSyntaxError"),
    "a missing function": (QUIZ + "process_results: !function nowhere.f\n", "broken.yaml", "nowhere"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_task_file_is_told_with_its_place(runs: Runs, tmp_path: Path, name: str) -> None:
    text, where, message = BROKEN[name]
    data = write_lines(tmp_path / "quiz.jsonl", [{"question": "1+1=", "answer": "2"}])
    file = tmp_path / "broken.yaml"
    file.write_text(text.replace("%s", json.dumps(str(data))))
    failure = runs.evaluate(of_file(file)).failure
    assert failure["kind"] in ("request", "setup")
    assert failure["where"].endswith(where) and message in failure["message"]


def test_a_task_whose_data_is_missing_is_told(runs: Runs, tmp_path: Path) -> None:
    file = tmp_path / "quiz.yaml"
    file.write_text(QUIZ % json.dumps(str(tmp_path / "nowhere.jsonl")))
    failure = runs.evaluate(of_file(file)).failure
    assert failure["kind"] == "request" and "nowhere.jsonl" in failure["message"]


def test_a_dataset_of_the_hub_is_told_with_the_ways_out(runs: Runs, tmp_path: Path) -> None:
    file = tmp_path / "far.yaml"
    file.write_text((QUIZ % "x").replace("dataset_path: json", "dataset_path: some/dataset"))
    failure = runs.evaluate(of_file(file)).failure
    assert failure["kind"] == "setup" and "HF_HOME" in failure["way_out"] and "data_files" in failure["way_out"]


def test_a_folder_without_tasks_is_refused(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no task file" in runs.evaluate(of_file(tmp_path / "empty")).failure["message"]


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"num_fewshot": 3}, "stands in the spec itself"),
        ({"use_cache": "x"}, "set by the evaluation itself"),
        ({"bootstrap_iter": 3}, "unknown key of lm-eval 'bootstrap_iter'"),
    ],
)
def test_keys_that_cannot_be_set_are_refused(runs: Runs, engine: dict[str, Any], message: str) -> None:
    failure = runs.evaluate("arithmetic", engine=engine).failure
    assert failure["kind"] == "request" and message in failure["message"]


def test_arguments_of_a_task_that_takes_none_are_refused(runs: Runs, tmp_path: Path) -> None:
    failure = runs.evaluate({**of_file(write_quiz(tmp_path)), "arguments": {"digits": 3}}).failure
    assert "takes no arguments" in failure["message"]


def test_an_answer_longer_than_the_context_is_refused(runs: Runs, tmp_path: Path) -> None:
    failure = runs.evaluate(of_file(write_quiz(tmp_path)), engine={"gen_kwargs": {"max_gen_toks": 5000}}).failure
    assert failure["kind"] == "request" and "max_gen_toks" in failure["way_out"]


def test_prompts_longer_than_the_context_are_counted(runs: Runs, tmp_path: Path) -> None:
    rows = [{"question": "x" * length, "answer": "1"} for length in (10, 40, 50)]
    file = write_quiz(tmp_path)
    write_lines(tmp_path / "quiz.jsonl", rows)
    outcome = runs.evaluate(of_file(file), engine={"max_length": 40})
    assert "2 prompts are longer than the model's context (40 tokens" in outcome.notes
    assert "2 prompts" in outcome.events("warning")[0]["message"]
