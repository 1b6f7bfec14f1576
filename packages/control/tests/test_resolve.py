"""A spec is resolved until nothing is left to decide; what is wrong is refused before anything is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneyard.control.resolving.overrides import parse_words
from tuneyard.control.resolving.request import read_request
from tuneyard.control.resolving.resolve import Resolved, resolve
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import sha256_of_file
from tuneyard.core.references import CodeRef
from tuneyard.core.specs import EvalSpec, TrainSpec

TRAIN: dict[str, Any] = {"kind": "train", "model": "builtin:tiny", "dataset": "builtin:arithmetic"}
EVAL: dict[str, Any] = {"kind": "eval", "model": "builtin:tiny", "tasks": "arithmetic"}


def resolved(desk: Workspace, spec: dict[str, Any], *words: str, kind: str | None = None) -> Resolved:
    return resolve(desk, spec, desk.path, parse_words(words, desk.path)[1], kind)


def train(desk: Workspace, *words: str, **fields: Any) -> TrainSpec:
    spec = resolved(desk, {**TRAIN, **fields}, *words).spec
    assert isinstance(spec, TrainSpec)
    return spec


def evaluation(desk: Workspace, *words: str, **fields: Any) -> EvalSpec:
    spec = resolved(desk, {**EVAL, **fields}, *words).spec
    assert isinstance(spec, EvalSpec)
    return spec


def refusal(desk: Workspace, spec: dict[str, Any], *words: str, kind: str | None = None) -> str:
    with pytest.raises(RequestError) as refused:
        resolved(desk, spec, *words, kind=kind)
    assert not desk.runs.exists()
    return str(refused.value)


def test_every_default_is_filled_in(desk: Workspace) -> None:
    spec = train(desk)
    assert (spec.name, spec.gpus, spec.processes, spec.seed) == ("arithmetic", 0, 1, 42)
    assert spec.model.path and (Path(spec.model.path) / "model.safetensors").is_file()
    assert spec.engine == {}


def test_a_resolved_spec_resolves_to_itself(desk: Workspace) -> None:
    (desk.path / "stop.py").write_text("def stop(): ...\n")
    first = train(desk, "effective_batch_size=32", callbacks="stop.py:stop", engine={"bf16": True})
    again = resolve(desk, first.model_dump(mode="json"), Path("/elsewhere")).spec
    assert again == first


def test_an_effective_batch_is_divided(desk: Workspace) -> None:
    spec = train(desk, "effective_batch_size=32", "processes=2")
    assert spec.engine == {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}


def test_an_impossible_batch_is_answered_with_the_nearest(desk: Workspace) -> None:
    said = refusal(desk, TRAIN, "effective_batch_size=10", "engine.per_device_train_batch_size=4")
    assert "effective_batch_size 10" in said and "8 or 12" in said


def test_an_unknown_key_is_answered_with_the_nearest(desk: Workspace) -> None:
    assert "did you mean 'dataset'?" in refusal(desk, {**TRAIN, "datset": "x"})


def test_a_setting_of_the_library_at_the_top_is_sent_under_engine(desk: Workspace) -> None:
    said = refusal(desk, TRAIN, "learning_rate=3e-4")
    assert "unknown key 'learning_rate'" in said and "engine.learning_rate=0.0003" in said


def test_an_unknown_setting_names_the_version_and_the_nearest(desk: Workspace) -> None:
    said = refusal(desk, TRAIN, "engine.lora_rnak=8")
    assert "small-library 1.0" in said and "did you mean 'lora_rank'?" in said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("engine.lora_rank=eight", "engine.lora_rank must be int (got 'eight')"),
        ("engine.lora_rank=8.5", "must be int"),
        ("engine.lora_rank=true", "must be int"),
        ("engine.bf16='yes please'", "must be bool"),
        ("engine.bf16=null", "leave it out for the default, False"),
        ("engine.learning_rate=fast", "must be float"),
        ("engine.stage=stf", "did you mean 'sft'?"),
        ("engine.template=3", "write it in quotes"),
    ],
)
def test_a_wrong_value_is_refused(desk: Workspace, word: str, said: str) -> None:
    assert said in refusal(desk, TRAIN, word)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("engine.learning_rate=3e-4", 3e-4),
        ("engine.learning_rate=1", 1),
        ("engine.save_strategy=no", "no"),  # which YAML reads as false
        ("engine.lora_target=[q_proj, v_proj]", ["q_proj", "v_proj"]),
        ("engine.deepspeed={zero_optimization: {stage: 2}}", {"zero_optimization": {"stage": 2}}),
        ("engine.template=null", None),
        ("engine.callback=anything", "anything"),
        ("engine.callback={eos_token: <|im_end|>}", {"eos_token": "<|im_end|>"}),
    ],
)
def test_a_right_value_stays_as_it_is(desk: Workspace, word: str, value: Any) -> None:
    assert list(train(desk, word).engine.values()) == [value]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("engine.model_name_or_path=x", "use model"),
        ("engine.output_dir=x", "run folder"),
        ("engine.resume_from_checkpoint=x", "yard resume RUN"),
        ("engine.seed=1", "use seed"),
        ("engine.hf_hub_token=hf_abc", "HF_TOKEN"),
        ("engine.swanlab_api_key=abc", "SWANLAB_API_KEY"),
        ("engine.template=hf_abcdefghijklmnopqrstuvwxyz", "must not stand in a spec"),
        ("engine.callback={auth_token: abc}", "engine.callback.auth_token"),
        ("engine.stage=ppo", "trl"),
        ("engine.deepspeed=zero.json", "no such file"),
    ],
)
def test_what_is_not_the_users_to_set_is_refused_with_the_way_out(desk: Workspace, word: str, said: str) -> None:
    assert said in refusal(desk, TRAIN, word)


def test_a_refused_token_is_not_repeated(desk: Workspace) -> None:
    assert "abcdefghij" not in refusal(desk, TRAIN, "engine.hf_hub_token=hf_abcdefghijklmnopqrstuvwxyz")


def test_what_says_nothing_new_is_left_out(desk: Workspace) -> None:
    assert train(desk, "engine.resume_from_checkpoint=null", "engine.do_train=true").engine == {}
    assert "a run of kind train trains" in refusal(desk, TRAIN, "engine.do_train=false")


def test_evaluations_have_keys_of_their_own(desk: Workspace) -> None:
    assert "use num_fewshot" in refusal(desk, EVAL, "engine.num_fewshot=5")
    assert "use tasks" in refusal(desk, EVAL, "engine.tasks=gsm8k")


def test_a_spec_of_another_kind_is_refused(desk: Workspace) -> None:
    said = refusal(desk, EVAL, kind="train")
    assert "is a spec of kind 'eval'" in said and "-e eval eval" in said


def test_the_command_says_the_kind_where_the_spec_does_not(desk: Workspace) -> None:
    spec = {key: value for key, value in TRAIN.items() if key != "kind"}
    assert resolved(desk, spec, kind="train").spec.kind == "train"
    assert "the key 'kind' is missing" in refusal(desk, spec)
    assert "unknown kind 'trian'" in refusal(desk, {**spec, "kind": "trian"})


def test_paths_in_a_file_are_meant_from_that_file(desk: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "specs\nand more"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"text": "a"}\n')
    (folder / "zero.json").write_text("{}")
    (folder / "keep.py").write_text("def good(record): return True\n")
    dataset = {"source": "rows.jsonl", "filter": "keep.py:good"}
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump({**TRAIN, "dataset": dataset, "engine": {"deepspeed": "zero.json"}}))
    found = read_request(spec).resolve(desk).spec
    assert isinstance(found, TrainSpec)
    assert found.dataset[0].path == str(folder / "rows.jsonl")
    assert found.dataset[0].filter == f"{folder / 'keep.py'}:good"
    assert found.engine["deepspeed"] == str(folder / "zero.json")
    assert [code.path for code in found.code] == [str(folder / "keep.py")]


def test_code_is_hashed_and_not_run(desk: Workspace) -> None:
    file = desk.path / "stop.py"
    file.write_text("raise SystemExit('I was run')\ndef stop(): ...\n")
    hashed = CodeRef(path=str(file), name="stop", sha256=sha256_of_file(file))
    assert train(desk, callbacks="./stop.py:stop").code == [hashed]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere.py:stop", "no such file"),
        ("stop.py:stpo", "did you mean 'stop'?"),
        ("stop.py", "path/file.py:function"),
        ("broken.py:stop", "not valid Python"),
    ],
)
def test_code_that_is_not_there_is_refused(desk: Workspace, text: str, said: str) -> None:
    (desk.path / "stop.py").write_text("try:\n    from x import y\nexcept ImportError:\n    def stop(): ...\n")
    (desk.path / "broken.py").write_text("def stop(:\n")
    assert said in refusal(desk, {**TRAIN, "callbacks": text})


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("builtin:arithmetik", "did you mean 'arithmetic'?"),
        ("./rows.jsnl", "rows.jsonl"),
        ("./empty.jsonl", "empty"),
        ("a dataset", "no such file or folder"),
        ("run:train-x-261120-1830-abc", "there is no run"),
        ({"source": "builtin:arithmetic", "digit": 3}, "did you mean 'digits'?"),
        ({"source": "builtin:arithmetic", "digits": "three"}, "must be of type int"),
        ({"source": "./rows.jsonl", "filter": "keep.py"}, "path/file.py:function"),
        ({"source": "./folder", "name": "identify"}, "did you mean 'identity'?"),
        ({"source": "./folder", "name": "missing"}, "gone.json"),
        ([], "dataset"),
    ],
)
def test_a_dataset_that_is_not_there_is_refused(desk: Workspace, dataset: Any, said: str) -> None:
    (desk.path / "rows.jsonl").write_text("{}\n")
    (desk.path / "empty.jsonl").touch()
    (desk.path / "folder").mkdir()
    entries = {"identity": {"file_name": "identity.json"}, "missing": {"file_name": "gone.json"}}
    (desk.path / "folder" / "dataset_info.json").write_text(json.dumps(entries))
    (desk.path / "folder" / "identity.json").write_text("[]")
    assert said in refusal(desk, {**TRAIN, "dataset": dataset})


def test_more_processes_than_gpus_are_refused(desk: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b")
    assert train(desk).processes == 1
    assert train(desk, "gpus=all").processes == 2
    assert "3 processes cannot share 2 GPUs" in refusal(desk, TRAIN, "gpus=2", "processes=3")
    assert "gpus: 3 asked for, 2 to be had" in refusal(desk, TRAIN, "gpus=3")


def test_without_its_environment_a_wrong_request_is_still_told_first(desk: Workspace) -> None:
    (desk.path / "tuneyard.yaml").unlink()
    lonely = Workspace(desk.path)
    assert "did you mean 'dataset'?" in refusal(lonely, {**TRAIN, "datset": "x"})
    with pytest.raises(SetupError, match="has not been built") as missing:
        resolved(lonely, TRAIN)
    assert "./pixiw install -e train" in str(missing.value)


def test_a_worker_that_needs_no_hub_is_told_to_do_without(desk: Workspace) -> None:
    assert resolved(desk, TRAIN).variables == {"HF_HUB_OFFLINE": "1"}


def test_gsm8k_is_read_from_a_folder(desk: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = desk.path / "gsm 8k"
    folder.mkdir()
    assert "it has no train.jsonl and no test.jsonl" in refusal(desk, EVAL, "tasks=gsm8k", f"data={folder}")
    for name in ("train.jsonl", "test.jsonl"):
        (folder / name).write_text("{}\n")
    assert evaluation(desk, "tasks=gsm8k", "data=gsm 8k").data == str(folder)
    monkeypatch.setenv("TUNEYARD_GSM8K", str(folder))
    assert evaluation(desk, "tasks=gsm8k_cot").data == str(folder)
    assert train(desk, dataset="builtin:gsm8k").dataset[0].path == str(folder)
    monkeypatch.delenv("TUNEYARD_GSM8K")
    assert train(desk, dataset={"source": "builtin:gsm8k", "data": "gsm 8k"}).dataset[0].path == str(folder)
    assert train(desk, "dataset=builtin:gsm8k", "dataset.data=gsm 8k").dataset[0].path == str(folder)


def test_gsm8k_without_folder_cache_and_hub_is_refused_with_three_ways_out(desk: Workspace) -> None:
    for spec in ({**EVAL, "tasks": "gsm8k"}, {**TRAIN, "dataset": "builtin:gsm8k"}):
        with pytest.raises(SetupError) as refused:
            resolved(desk, spec)
        for way in ("(1)", "folder", "HF_HOME", "HF_ENDPOINT"):
            assert way in str(refused.value)


def test_tasks_name_files_or_what_the_library_has(desk: Workspace) -> None:
    (desk.path / "quiz.py").touch()
    (desk.path / "tasks").mkdir()
    (desk.path / "tasks" / "mine.yaml").write_text("task: mine\n")
    (desk.path / "hellaswag").mkdir()
    assert evaluation(desk, "tasks=hellaswag").tasks[0].path is None
    for text, path in (("./tasks", "tasks"), ("tasks/mine.yaml", "tasks/mine.yaml")):
        [task] = evaluation(desk, f"tasks={text}").tasks
        assert task.path == str(desk.path / path)
    [task] = evaluation(desk, "tasks=quiz.py@hard").tasks
    assert (task.path, task.task) == (str(desk.path / "quiz.py"), f"{desk.path / 'quiz.py'}@hard")
    assert evaluation(desk, "tasks=inspect_evals/gsm8k").tasks[0].path is None
    assert evaluation(desk, "tasks=quiz.py@hard").name == "hard"
    assert "no such task file" in refusal(desk, EVAL, "tasks=nowhere.yaml")
    assert "evaluate them in two runs" in refusal(desk, EVAL, "tasks=arithmetic,inspect_evals/gsm8k")


TASKS = {
    "one.yaml": "task: one\ninclude: [base, ../up.yaml, gone.yaml]\ndoc_to_text: !function utils.text\n",
    "two.yaml": "task: two\nprocess_docs: !function more.utils.rows\n",
    "base": "dataset_path: json\nmetric_list: [{metric: !function utils.score}]\n",
    "../up.yaml": "include: tasks/base\n",
    "all.yaml": "group: both\ntask: [one, two]\n",
    "broken.yaml": "task: [one\n",
    "list.yaml": "[one, two]\n",
    "round.yaml": "task: round\ninclude: round.yaml\ndoc_to_text: !function not_here.text\n",
    "utils.py": "raise SystemExit('I was run')\n",
    "more/utils.py": "",
    "more/three.yaml": "task: three\n",
    "unused.py": "",
    "quiz.py": "raise SystemExit('I was run')\n",
}
ALL = {name for name in TASKS if name not in ("unused.py", "quiz.py")}


@pytest.mark.parametrize(
    ("asked", "files"),
    [
        ("tasks/one.yaml", {"one.yaml", "base", "../up.yaml", "utils.py"}),
        ("tasks/two.yaml", {"two.yaml", "more/utils.py"}),
        ("tasks/two.yaml,tasks/more/three.yaml", {"two.yaml", "more/utils.py", "more/three.yaml"}),
        ("tasks/all.yaml", ALL),
        ("./tasks", ALL),
        ("tasks/broken.yaml", {"broken.yaml"}),
        ("tasks/list.yaml", {"list.yaml"}),
        ("tasks/round.yaml", {"round.yaml"}),
        ("tasks/quiz.py@hard", {"quiz.py"}),
        ("arithmetic", set()),
    ],
)
def test_the_files_that_tasks_are_made_of_are_hashed_and_not_run(desk: Workspace, asked: str, files: set[str]) -> None:
    for name, text in TASKS.items():
        (desk.path / "tasks" / name).parent.mkdir(parents=True, exist_ok=True)
        (desk.path / "tasks" / name).write_text(text)
    found = {code.path: code.sha256 for code in evaluation(desk, f"tasks={asked}").code}
    wanted = [(desk.path / "tasks" / name).resolve() for name in files]
    assert found == {str(file): sha256_of_file(file) for file in wanted}


def test_an_evaluation_by_the_users_own_code_needs_no_model(desk: Workspace) -> None:
    (desk.path / "lm.py").write_text("class Echo: ...\n")
    spec = evaluation(desk, "lm=lm.py:Echo", model=None)
    assert spec.model is None and spec.lm and spec.lm.sha256
