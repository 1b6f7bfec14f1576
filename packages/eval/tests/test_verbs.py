"""The verbs besides `run`, asked as control asks them: a process, one JSON value on stdout."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from eval_runs import Runs, of_file, worker, write_quiz

from tuneyard.core.errors import RequestError
from tuneyard.core.specs import EvalSpec
from tuneyard.eval import arguments, check


def answer(*words: str | Path) -> Any:
    done = worker(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def spec_of(*tasks: Any, **fields: Any) -> EvalSpec:
    model = {"reference": "builtin:tiny", "path": "/models/tiny"}
    return EvalSpec.model_validate({"tasks": list(tasks), "model": model, "gpus": 0, **fields})


def test_the_schema_names_the_keys_of_both_libraries() -> None:
    schema = answer("schema")
    assert next(iter(schema["versions"])) == "lm-eval"
    keys = schema["keys"]
    assert keys["gen_kwargs"]["type"] == "dict | str | None" and keys["gen_kwargs"]["library"] == "lm-eval"
    assert keys["bootstrap_iters"]["default"] == 100000 and "bootstrap" in keys["bootstrap_iters"]["help"]
    assert keys["max_tokens"]["type"] == "int | None" and keys["max_tokens"]["library"] == "inspect"
    assert {"parallelize", "system_instruction", "include_path", "attn_implementation", "epochs"} <= set(keys)
    assert not {"model", "tasks", "limit", "num_fewshot", "batch_size", "log_dir", "use_cache"} & set(keys)


def test_the_fingerprint_is_that_of_this_environment(tiny: Path) -> None:
    found = answer("fingerprint", json.dumps({"reference": "builtin:tiny", "path": str(tiny)}))
    assert found["worker"] == "eval" and found["text_tokens"][0] == "T" and len(found["conversation_ids"]) > 20


def test_the_arguments_are_those_that_a_run_passes(runs: Runs, tmp_path: Path) -> None:
    run = runs.new(of_file(write_quiz(tmp_path)), limit=3, num_fewshot=2, engine={"gen_kwargs": {"max_gen_toks": 4}})
    told = answer("arguments", run.spec)
    assert told["arguments"]["model"] == {"pretrained": str(runs.tiny), "batch_size": 8, "device": "cpu"}
    assert told["arguments"]["simple_evaluate"]["limit"] == 3
    assert told["command"] == ["lm_eval", "run", "--config", told["file_name"]]
    document = yaml.safe_load(told["file"])
    assert document["tasks"] == [str(tmp_path / "quiz.yaml")] and document["gen_kwargs"] == {"max_gen_toks": 4}


def test_the_files_that_are_made_for_a_run_are_told() -> None:
    told = arguments.of_lm_eval(spec_of({"task": "arithmetic", "arguments": {"digits": 2}}, "gsm8k"))
    assert told["arguments"]["tasks"] == ["tasks/arithmetic.yaml", "gsm8k"]
    assert 'dataset_kwargs: {"digits": 2' in told["task_files"]["tasks/arithmetic.yaml"]


def test_lm_evals_own_seeds_stand_unless_another_is_asked_for() -> None:
    default = arguments.of_lm_eval(spec_of("gsm8k"))
    assert yaml.safe_load(default["file"])["seed"] == [0, 1234, 1234, 1234]
    assert yaml.safe_load(arguments.of_lm_eval(spec_of("gsm8k", seed=7))["file"])["seed"] == [7, 7, 7, 7]


def test_several_gpus_hold_the_layers_of_one_model() -> None:
    assert arguments.of_lm_eval(spec_of("gsm8k", gpus=4))["arguments"]["model"]["parallelize"] is True
    assert "parallelize" not in arguments.of_lm_eval(spec_of("gsm8k", gpus=1))["arguments"]["model"]


def test_inspects_arguments_and_command(tmp_path: Path) -> None:
    file = tmp_path / "sums.py"
    file.write_text("from inspect_ai import Task, task\n@task\ndef sums(n=3): ...\n")
    asked = {"task": f"{file}@sums", "path": str(file), "arguments": {"n": 4}}
    told = arguments.of_inspect(spec_of(asked, limit=5, engine={"max_tokens": 9}))
    assert told["arguments"]["model"]["do_sample"] is False
    assert told["arguments"]["eval"] == {"limit": 5, "max_connections": 8, "seed": 42, "max_tokens": 9}
    for words in (f"inspect eval {file}@sums --model hf/local", "-M model_path=/models/tiny", "-T n=4", "--limit 5"):
        assert words in told["file"]
    flags = [word for word in told["file"].split() if word.startswith("--")]
    known = subprocess.run(
        [Path(sys.executable).with_name("inspect"), "eval", "--help"], capture_output=True, text=True, check=True
    )
    assert all(flag in known.stdout for flag in flags)


def test_a_task_file_is_checked_with_its_first_document(tmp_path: Path) -> None:
    found = answer("check", write_quiz(tmp_path))
    quiz = {"task": "quiz", "documents": 6, "output_type": "generate_until", "prompt": "0+1=", "target": "1"}
    assert found == {"kind": "lm-eval", "tasks": [quiz]}


def test_what_check_refuses_comes_back_as_json(tmp_path: Path) -> None:
    file = tmp_path / "sums.py"
    file.write_text("from inspect_ai import task\n@task\ndef sums(): ...\n")
    done = worker("check", file, "sum")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert f"Function 'sum' not found in {file}" in error["message"] and error["way_out"] == "the tasks there: sums"


def test_tasks_and_functions_of_python_files_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "sums.py"
    file.write_text("from inspect_ai import task\n@task(name='adding')\ndef sums(n=3): ...\ndef lm(spec): ...\n")
    assert check.check(file, None) == {"kind": "inspect", "tasks": ["adding"], "parameters": {"adding": ["n"]}}
    assert check.check(file, "adding")["tasks"] == ["adding"]
    assert check.check(file, "lm") == {"kind": "function", "name": "lm", "parameters": ["spec"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.py",
            "import nowhere_to_be_found\nfrom inspect_ai import task\n@task\ndef a(): ...\n",
            "nowhere_to_be_found",
        ),
        ("a.yaml", "task: [", "not valid YAML"),
        ("a.txt", "", "is no task"),
        (None, "", "no such file or folder"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, name: str | None, text: str, message: str) -> None:
    path = tmp_path / (name or "nowhere.yaml")
    if name:
        path.write_text(text)
    with pytest.raises(RequestError, match=message):
        check.check(path, None)
