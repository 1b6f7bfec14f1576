"""Inspect's tasks: scored through its Python interface, failed where its log says so, whatever its exit code."""

from pathlib import Path
from typing import Any

import pytest
from eval_runs import Runs
from inspect_ai.log import read_eval_log
from model_folders import copy_with_tokenizer, write_adapter

TASKS = '''
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, ModelOutput
from inspect_ai.scorer import includes, match, model_graded_qa
from inspect_ai.solver import generate, solver, system_message

SUMS = [Sample(input=f"{n}+1=", target=str(n + 1), id=f"sum-{n}") for n in range(6)]


@solver
def answers(wrong):
    """Answers without asking the model, all but so many of them rightly."""
    async def solve(state, generate):
        number = int(state.sample_id.removeprefix("sum-"))
        text = "dunno" if number < wrong else str(number + 1)
        state.output = ModelOutput.from_content(model="x", content=text)
        return state
    return solve


@solver
def fails():
    async def solve(state, generate):
        raise RuntimeError("the solver broke")
    return solve


@task
def known(wrong: int = 2):
    return Task(SUMS, solver=answers(wrong), scorer=[match(), includes()], version=3)


@task
def asked(system: str = "Add."):
    return Task(SUMS, solver=[system_message(system), generate()], scorer=match(),
                config=GenerateConfig(max_tokens=8, temperature=0.0))


@task
def broken():
    return Task(SUMS, solver=fails(), scorer=match())


@task
def contained():
    return Task(SUMS, solver=answers(0), scorer=match(), sandbox="docker")


@task
def graded():
    return Task(SUMS, solver=answers(0), scorer=model_graded_qa(model="openai/gpt-4o"))


@task
def far():
    from inspect_ai.dataset import hf_dataset
    return Task(hf_dataset("some/dataset", split="test"), solver=generate(), scorer=match())
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "sums.py"
    file.write_text(TASKS)
    return file


def task(file: Path, name: str, **arguments: Any) -> dict[str, Any]:
    return {"task": f"{file}@{name}", "path": str(file), "arguments": arguments}


def test_a_task_is_scored_with_error_and_number(runs: Runs, file: Path) -> None:
    outcome = runs.evaluate(task(file, "known"))
    metric = outcome.metrics["known/accuracy,match"]
    assert metric["value"] == pytest.approx(4 / 6) and metric["n"] == 6 and metric["standard_error"] > 0.1
    assert set(outcome.metrics) == {"known/accuracy,match", "known/accuracy,includes"}
    rows = outcome.samples
    assert [row["id"] for row in rows] == [f"sum-{n}" for n in range(6)]
    assert [row["scores"]["match"]["accuracy"] for row in rows] == [0, 0, 1, 1, 1, 1]
    assert rows[5]["response"] == rows[5]["target"] == rows[5]["answers"]["match"] == "6"
    (evaluated,) = outcome.evaluation["tasks"]
    assert evaluated["version"] == "3" and evaluated["filters"] == ["match", "includes"] and evaluated["n"] == 6


def test_arguments_and_limit_reach_the_task(runs: Runs, file: Path) -> None:
    outcome = runs.evaluate(task(file, "known", wrong=1), limit=2)
    assert outcome.metrics["known/accuracy,match"] == {"value": 0.5, "standard_error": 0.5, "n": 2}
    assert outcome.evaluation["tasks"][0]["limit"] == 2 and outcome.evaluation["tasks"][0]["generation"]["wrong"] == 1
    assert outcome.events("progress")[-1]["step"] == outcome.events("progress")[-1]["total"] == 2


def test_the_model_is_asked_in_its_chat_template_although_the_task_wants_temperature_0(runs: Runs, file: Path) -> None:
    outcome = runs.evaluate(task(file, "asked"), limit=2)
    row = outcome.samples[0]
    assert row["prompt"] == "<|system|>Add.<|end|><|user|>0+1=<|end|><|assistant|>" and row["response"]
    assert outcome.evaluation["tasks"][0]["chat_template"] is True
    assert "its chat template is applied" in outcome.notes
    (log,) = (outcome.run.raw / "1").glob("*.eval")
    assert read_eval_log(str(log)).status == "success"


def test_without_a_chat_template_messages_are_joined_and_that_is_noted(
    runs: Runs, file: Path, tiny: Path, tmp_path: Path
) -> None:
    model = copy_with_tokenizer(tiny, tmp_path / "plain")
    (model / "chat_template.jinja").unlink()
    outcome = runs.evaluate(task(file, "asked"), limit=1, model=model)
    assert outcome.samples[0]["prompt"] == "system: Add.\nuser: 0+1=\n"
    assert "joins the messages" in outcome.notes


def test_an_adapter_is_put_on_top(runs: Runs, file: Path, tiny: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tiny, tmp_path / "adapter")
    alone = runs.evaluate(task(file, "asked"), limit=2)
    on_top = runs.evaluate(
        task(file, "asked"), limit=2, model={"reference": "x", "path": str(tiny), "adapter": str(adapter)}
    )
    again = runs.evaluate(task(file, "asked"), limit=2)
    assert [row["response"] for row in alone.samples] == [row["response"] for row in again.samples]
    assert [row["response"] for row in alone.samples] != [row["response"] for row in on_top.samples]


def test_a_task_that_failed_is_a_failed_run(runs: Runs, file: Path) -> None:
    failure = runs.evaluate(task(file, "broken")).failure
    assert failure["kind"] == "failed" and "status 'error'" in failure["message"]
    assert "the solver broke" in failure["message"] and "inspect view" in failure["way_out"]


def test_every_task_of_a_file_is_evaluated(runs: Runs, tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(
        TASKS[: TASKS.index("@task\ndef asked")] + "@task(name='other')\ndef f():\n    return known(wrong=0)\n"
    )
    outcome = runs.evaluate({"task": str(file), "path": str(file)})
    assert outcome.metrics["known/accuracy,match"]["value"] == pytest.approx(4 / 6)
    assert outcome.metrics["other/accuracy,match"]["value"] == 1.0


def test_epochs_give_a_row_each(runs: Runs, file: Path) -> None:
    outcome = runs.evaluate(task(file, "known"), limit=2, engine={"epochs": 2})
    assert sorted(row["id"] for row in outcome.samples) == ["sum-0@1", "sum-0@2", "sum-1@1", "sum-1@2"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("contained", ("setup", "ocker", "install Docker")),
        ("graded", ("setup", "OPENAI_API_KEY", "set its key")),
        ("far", ("setup", "on the hub", "HF_HOME")),
        ("nowhere", ("request", "Function 'nowhere' not found in", "the tasks there: asked, broken, contained")),
    ],
)
def test_what_a_task_lacks_is_told_with_the_way_out(
    runs: Runs, file: Path, name: str, told: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("PATH", str(file.parent))  # where no docker is
    failure = runs.evaluate(task(file, name)).failure
    kind, message, way_out = told
    assert failure["kind"] == kind and message in failure["message"] and way_out in failure["way_out"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "inspect_evals/gsm8kk"}, "unknown task of inspect_evals 'gsm8kk'"),
        ({"task": "inspect_evals/gsm8k", "arguments": {"fewshots": 2}}, "unknown argument of the task 'gsm8k'"),
        ({"task": "inspect_evals/gsm8k", "arguments": {"fewshot": 0}}, "the task's dataset is on the hub"),
    ],
)
def test_inspect_evals_is_known_by_name_and_argument(runs: Runs, asked: dict[str, Any], message: str) -> None:
    outcome = runs.evaluate(asked)
    assert message in outcome.failure["message"]
    if "unknown" in message:
        assert "did you mean" in outcome.failure["way_out"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"num_fewshot": 3}, "`num_fewshot` is for tasks of lm-eval"),
        ({"data": "/nowhere"}, "`data` is for tasks of lm-eval"),
        ({"engine": {"max_connections": 3}}, "stands in the spec itself"),
        ({"engine": {"log_dir": "/tmp"}}, "set by the evaluation itself"),
        ({"engine": {"max_gen_toks": 3}}, "unknown key of Inspect"),
    ],
)
def test_settings_that_inspect_does_not_have_are_refused(
    runs: Runs, file: Path, spec: dict[str, Any], message: str
) -> None:
    failure = runs.evaluate(task(file, "known"), **spec).failure
    assert failure["kind"] == "request" and message in failure["message"]


def test_an_unknown_argument_of_a_task_is_refused_with_the_nearest(runs: Runs, file: Path) -> None:
    failure = runs.evaluate(task(file, "known", wrongs=1)).failure
    assert "unknown argument of the task 'known' 'wrongs'" in failure["message"] and "'wrong'" in failure["way_out"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("def f(:\n", "is not Python"), ("def f(): pass\n", "defines no task"), (None, "no such file")],
)
def test_a_file_without_tasks_is_refused(runs: Runs, tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "tasks.py"
    if text is not None:
        file.write_text(text)
    assert message in runs.evaluate(task(file, "f")).failure["message"]


def test_tasks_of_both_libraries_are_two_runs(runs: Runs, file: Path) -> None:
    failure = runs.evaluate(task(file, "known"), "arithmetic").failure
    assert "is a task of lm-eval and" in failure["message"] and "two runs" in failure["way_out"]
