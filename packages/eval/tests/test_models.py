"""What is evaluated: whole models, adapters, a model of the user's own; and what is refused before a GPU is taken."""

import json
import shutil
from pathlib import Path

import pytest
from eval_runs import Outcome, Runs, of_file, write_quiz
from model_folders import copy_model, merged, write_adapter, write_other_model


def responses(outcome: Outcome) -> list[str]:
    assert outcome.code == 0, outcome.result["failure"]
    return [row["response"] for row in outcome.samples]


def test_an_adapter_is_put_on_top(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    quiz = of_file(write_quiz(tmp_path))
    adapter = write_adapter(tiny, tmp_path / "adapter")
    alone = responses(runs.evaluate(quiz))
    named = runs.evaluate(quiz, model={"reference": "run:x", "path": str(tiny), "adapter": str(adapter)})
    beside = runs.evaluate(quiz, adapter={"reference": "a", "path": str(adapter)})
    whole = runs.evaluate(quiz, model=merged(tiny, adapter, tmp_path / "merged"))
    assert responses(named) == responses(beside) == responses(whole) != alone
    assert beside.evaluation["model"] == "builtin:tiny with adapter a"


def test_an_adapter_for_another_base_is_refused(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tiny, tmp_path / "adapter")
    other = write_other_model(tiny, tmp_path / "other")
    model = {"reference": "x", "path": str(other), "adapter": str(adapter)}
    failure = runs.evaluate("arithmetic", limit=2, model=model).failure
    assert failure["kind"] == "request" and "does not fit the model" in failure["message"]
    assert failure["where"] == str(adapter) and "merge: true" in failure["way_out"]


@pytest.mark.parametrize(
    ("architecture", "refused"),
    [
        ("LlamaForSequenceClassification", True),
        ("InternLM2ForRewardModel", True),
        ("BertForMaskedLM", True),
        ("LlamaModel", True),
        ("LlamaForCausalLM", False),
        ("GPT2LMHeadModel", False),
    ],
)
def test_what_writes_no_text_is_refused(
    runs: Runs, tiny: Path, tmp_path: Path, architecture: str, refused: bool
) -> None:
    model = copy_model(tiny, tmp_path / "model", architectures=[architecture])
    outcome = runs.evaluate("arithmetic", limit=1, model=model)
    assert bool(outcome.code) is refused
    if refused:
        assert "writes no text" in outcome.failure["message"] and "stage: sft" in outcome.failure["way_out"]


def test_a_reward_model_is_refused_by_its_run_and_by_its_head(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    run = runs.trained(engine={"stage": "rm"})
    by_run = runs.evaluate("arithmetic", model={"reference": "x", "path": str(tiny), "run": run.id}).failure
    assert "a reward model (stage: rm)" in by_run["message"] and by_run["kind"] == "request"
    model = copy_model(tiny, tmp_path / "model")
    (model / "value_head.safetensors").touch()
    assert "it has a value head" in runs.evaluate("arithmetic", model=model).failure["message"]


def test_a_folder_without_weights_is_refused(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    model = copy_model(tiny, tmp_path / "model")
    (model / "model.safetensors").unlink()
    failure = runs.evaluate("arithmetic", model=model).failure
    assert failure["kind"] == "request" and "holds no weights" in failure["message"]
    assert failure["where"] == str(model)


def test_broken_weights_are_told(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    model = copy_model(tiny, tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"half a download")
    failure = runs.evaluate("arithmetic", model=model).failure
    assert failure["where"] == str(model) and "weights cannot be read" in failure["message"]


def test_a_folder_that_is_no_model_is_refused(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    assert "no such model folder" in runs.evaluate("arithmetic", model=tmp_path / "nowhere").failure["message"]
    assert "no config.json" in runs.evaluate("arithmetic", model=tmp_path).failure["message"]
    adapter = write_adapter(tiny, tmp_path / "adapter")
    failure = runs.evaluate("arithmetic", model=adapter).failure
    assert "holds an adapter, not a model" in failure["message"] and f"adapter={adapter}" in failure["way_out"]


def test_an_adapter_folder_without_adapter_is_refused(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    model = {"reference": "x", "path": str(tiny), "adapter": str(tmp_path)}
    assert "holds no adapter (adapter_config.json)" in runs.evaluate("arithmetic", model=model).failure["message"]
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds no adapter weights" in runs.evaluate("arithmetic", model=model).failure["message"]


def test_a_model_of_the_hub_is_told_with_the_ways_out(runs: Runs) -> None:
    failure = runs.evaluate("arithmetic", model={"reference": "some/model"}).failure
    assert failure["kind"] == "setup" and failure["where"] == "some/model"
    assert "connect to the hub" in failure["way_out"] and "copy the cache" in failure["way_out"]


@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_weights_without_cuda_are_refused_with_the_way_out(runs: Runs, bits: int) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    failure = runs.evaluate("arithmetic", quantization_bit=bits).failure
    assert failure["kind"] == "setup" and failure["where"] == f"quantization_bit: {bits}"
    assert "bitsandbytes needs one" in failure["message"] and "quantization_bit=null" in failure["way_out"]


def test_the_dtype_is_passed_on(runs: Runs, tmp_path: Path) -> None:
    outcome = runs.evaluate(of_file(write_quiz(tmp_path)), limit=1, dtype="bfloat16")
    raw = json.loads((outcome.run.raw / "1" / "results.json").read_text())
    assert raw["config"]["model_dtype"] == "torch.bfloat16"


def test_a_batch_size_of_auto_is_found_out(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    model = write_other_model(tiny, tmp_path / "other")
    outcome = runs.evaluate(of_file(write_quiz(tmp_path)), limit=2, batch_size="auto", model=model)
    assert outcome.metrics["quiz/exact_match"]["n"] == 2


OWN = """
from lm_eval.models.dummy import DummyLM
def with_spec(spec): return DummyLM()
def nothing(): return 42
number = 3
"""


def test_the_users_own_lm_is_asked(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    outcome = runs.evaluate(of_file(write_quiz(tmp_path)), model=None, lm=f"{tmp_path / 'own.py'}:with_spec")
    assert responses(outcome) == ["lol"] * 6
    assert outcome.evaluation["model"] == f"{tmp_path / 'own.py'}:with_spec"


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "returned a int, not an lm_eval"), ("number", "is not a function"), ("other", "'other' not found")],
)
def test_what_makes_no_lm_is_refused(runs: Runs, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    failure = runs.evaluate("arithmetic", model=None, lm=f"{tmp_path / 'own.py'}:{name}").failure
    assert failure["kind"] == "request" and message in failure["message"]


def test_a_model_in_a_folder_of_any_name_is_evaluated(runs: Runs, tiny: Path, weird_path: Path) -> None:
    model = shutil.copytree(tiny, weird_path / "model")
    outcome = Runs(weird_path / "runs", model).evaluate(of_file(write_quiz(weird_path)), limit=2)
    assert outcome.metrics["quiz/exact_match"]["n"] == 2
