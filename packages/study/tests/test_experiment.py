"""Reading experiments: names, the older form, what is doubtful and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tuneyard.control.workspace import Workspace, find_workspace
from tuneyard.core.cache import cache_folder
from tuneyard.core.errors import RequestError, SetupError, TuneyardError
from tuneyard.core.files import read_json
from tuneyard.study import torchtune
from tuneyard.study.checks import check, check_tasks, check_values
from tuneyard.study.command import main
from tuneyard.study.experiment import read_experiment
from tuneyard.study.study import open_study
from tuneyard.study.warnings import warnings_of

if TYPE_CHECKING:
    from conftest import Write


def test_variables_name_fields_of_the_spec_or_the_librarys_own_keys(write: Write) -> None:
    study = write(variables={"lora_rank": [8], "engine.learning_rate": [1e-4], "dataset.digits": [2]}, seeds=[])
    assert study.fields == {
        "lora_rank": "engine.lora_rank",
        "engine.learning_rate": "engine.learning_rate",
        "dataset.digits": "dataset.digits",
    }
    spec = study.resolve(study.point(0)).spec.model_dump()
    assert spec["engine"]["lora_rank"] == 8
    assert spec["engine"]["learning_rate"] == 1e-4
    assert spec["dataset"][0]["arguments"]["digits"] == 2


def test_controls_are_in_every_run_and_seeds_are_spec_seeds(write: Write) -> None:
    study = write(controls={"max_steps": 9})
    for point, seed in zip(study.points(), (1, 2, 1, 2), strict=True):
        spec = study.resolve(point).spec
        assert spec.seed == seed
        assert spec.engine["max_steps"] == 9


def test_the_base_may_be_a_file_beside_it_in_llamafactorys_own_form(write: Write, desk: Workspace) -> None:
    folder = desk.path / "study"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    (folder / "data" / "mine.json").write_text('[{"instruction": "a", "input": "", "output": "b"}]')
    (folder / "lf.yaml").write_text("model_name_or_path: builtin:tiny\ndataset: mine\nstage: sft\nlora_rank: 4\n")
    study = write(base="lf.yaml", variables={"learning_rate": [1e-4, 1e-3]})
    spec = study.resolve(study.point(3)).spec.model_dump()
    assert spec["engine"]["lora_rank"] == 4
    assert spec["dataset"][0]["path"] == str(folder / "data")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"variables": {"lora_rnak": [1, 2]}}, "did you mean 'lora_rank'"),
    ({"variables": {"engine.lora_rnak": [1, 2]}}, "did you mean 'lora_rank'"),
    ({"variables": {"lora_rank": []}}, "empty"),
    ({"variables": {}}, "variables"),
    ({"variables": {"kind": ["train"]}}, "unknown variable"),
    ({"variables": {"lora_rank": [1]}, "controls": {"engine.lora_rank": 1}}, "both variables and controls"),
    ({"variables": {"seed": [1, 2]}}, "`seeds` is given too"),
    ({"experiment": {"question": "no name"}}, "experiment.name"),
    ({"evaluation": {"tasks": []}}, "tasks"),
    ({"evaluation": {"tasks": ["quiz"], "limits": 3}}, "did you mean 'limit'"),
    ({"schema_version": 99}, "schema_version"),
    ({"notes": ["mine"]}, "unknown key 'notes'"),
]


@pytest.mark.parametrize(("changes", "told"), WRONG, ids=lambda value: str(value)[:50])
def test_what_is_wrong_is_named(write: Write, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError) as caught:
        write(**changes)
    assert told in str(caught.value)


def test_every_value_is_tried_before_anything_runs(write: Write) -> None:
    with pytest.raises(RequestError, match=r"lr_scheduler_type.*cosnie"):
        check_values(write(variables={"lora_rank": [8, 16], "lr_scheduler_type": ["linear", "cosnie"]}))
    with pytest.raises(RequestError, match=r"lora_rank must be int.*with lora_rank='many', seed=1"):
        check_values(write(variables={"lora_rank": [8, "many"]}))
    with pytest.raises(RequestError, match=r"no such|does not exist|not found"):
        check_values(write(variables={"dataset": ["missing.jsonl", "also-missing.jsonl"]}))


WARNINGS: list[tuple[dict[str, Any], str | None]] = [
    ({"variables": {"zip": {"lora_rank": [8, 16], "lora_alpha": [16, 32]}}}, None),
    ({"variables": {"lora_rank": [8, 16]}}, "lora_alpha is not given"),
    ({"variables": {"lora_rank": [8, 16]}, "controls": {"lora_alpha": 16}}, "confounded: lora_alpha is fixed at 16"),
    ({"variables": {"lora_rank": [8, 16], "lora_alpha": [16, 32]}}, "vary independently"),
    ({"variables": {"zip": {"lora_rank": [8, 16], "lora_alpha": [16, 16]}}}, "alpha/rank differs"),
    ({"variables": {"max_steps": [1, 2], "learning_rate": [1e-4, 1e-3], "pause": [0.0, 0.1]}}, "3 things vary"),
    ({"variables": {"max_steps": list(range(1, 101))}}, "100 combinations"),
    ({"variables": {"max_steps": [1, 2]}, "seeds": [1]}, "one seed"),
    ({"variables": {"max_steps": [1, 2]}, "seeds": []}, "one seed"),
    ({"variables": {"max_steps": [1, 2]}, "seeds": [1, 1, 2]}, "a seed stands twice"),
]


@pytest.mark.parametrize(("changes", "told"), WARNINGS, ids=lambda value: str(value)[:60])
def test_what_is_doubtful_is_pointed_out(write: Write, changes: dict[str, Any], told: str | None) -> None:
    warnings = warnings_of(write(**changes))
    assert (told in " ".join(warnings)) if told else warnings == []


def task_file(folder: Path, text: str) -> None:
    (folder / "evals").mkdir(parents=True, exist_ok=True)
    (folder / "evals" / "mine.py").write_text(text)


TASK = "def task(f): return f\n@task\ndef mine(): pass\n"


def evaluation(task: str) -> dict[str, Any]:
    return {"tasks_dir": "evals/", "tasks": [task]}


def test_task_files_are_looked_at_before_anything_runs(write: Write, desk: Workspace) -> None:
    with pytest.raises(RequestError, match=r"Evaluation tasks directory not found: evals/") as caught:
        check_tasks(write(evaluation=evaluation("mine.py@mine")))
    assert "mkdir -p" in str(caught.value)
    task_file(desk.path / "study", TASK)
    check_tasks(write(evaluation=evaluation("mine.py@mine")))
    with pytest.raises(RequestError, match=r"Function 'other' not found in evals/mine.py") as caught:
        check_tasks(write(evaluation=evaluation("mine.py@other")))
    assert "the tasks there: mine" in str(caught.value)
    with pytest.raises(RequestError, match=r"task file not found: evals/missing.py") as caught:
        check_tasks(write(evaluation=evaluation("missing.py@mine")))
    assert "mine.py" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("def broken(:\n", RequestError, "is not Python"),
        ("def nothing(): pass\n", RequestError, "defines no task"),
        (f"import not_there\n{TASK}", SetupError, "Module 'not_there' not found"),
    ],
)
def test_a_task_file_that_cannot_be_used_says_why(
    write: Write, desk: Workspace, text: str, kind: type[TuneyardError], told: str
) -> None:
    task_file(desk.path / "study", text)
    with pytest.raises(kind, match=told):
        check_tasks(write(evaluation=evaluation("mine.py@mine")))


def test_data_of_a_task_are_found_beside_its_file_and_then_beside_the_study(write: Write, desk: Workspace) -> None:
    from tuneyard.study.jobs import task_reference

    folder = desk.path / "study"
    task_file(folder, TASK)
    (folder / "evals" / "near.jsonl").touch()
    (folder / "near.jsonl").touch()
    (folder / "far.jsonl").touch()
    arguments = {"data": "near.jsonl", "more": "far.jsonl", "word": "none.jsonl", "n": 3}
    study = write(evaluation={"tasks_dir": "evals", "tasks": [{"task": "mine.py@mine", "arguments": arguments}]})
    assert study.experiment.evaluation is not None
    found = task_reference(study, study.experiment.evaluation.tasks[0])
    assert found["task"] == f"{folder}/evals/mine.py@mine"
    near, far = str(folder / "evals" / "near.jsonl"), str(folder / "far.jsonl")
    assert found["arguments"] == {"data": near, "more": far, "word": "none.jsonl", "n": 3}


OLDER: dict[str, Any] = {
    "experiment": {"name": "older", "framework": "torchtune", "question": "rank?", "date": "2025-01-02"},
    "framework_config": {"base_config": "base.yaml"},
    "variables": {"lora_rank": [8, 16], "lr": [1e-4, 3e-4]},
    "controls": {"epochs": 1, "_override": {"batch_size": 2, "dataset": {"packed": False}}},
    "evaluation": {
        "enabled": True,
        "framework": "inspect",
        "checkpoint": "last",
        "model_format": "adapter",
        "base_model": "builtin:tiny",
        "tasks_dir": "evals",
        "tasks": [{"name": "mine", "file": "mine.py", "function": "mine", "args": {"n": 3}}],
    },
    "output": {"configs_dir": "c", "results_dir": "r", "eval_results_dir": "e"},
}

BASE: dict[str, Any] = {
    "output_dir": "/out",
    "model": {
        "_component_": "torchtune.models.llama3_2.lora_llama3_2_1b",
        "lora_attn_modules": ["q_proj", "v_proj", "output_proj"],
        "apply_lora_to_mlp": True,
        "lora_rank": 64,
        "lora_alpha": 128,
    },
    "tokenizer": {"_component_": "torchtune.models.llama3.llama3_tokenizer", "path": "/m", "max_seq_len": 512},
    "checkpointer": {"_component_": "x", "checkpoint_dir": "builtin:tiny", "checkpoint_files": ["a"]},
    "dataset": {
        "_component_": "torchtune.datasets.instruct_dataset",
        "source": "json",
        "data_files": "rows.jsonl",
        "column_map": {"input": "question", "output": "answer"},
        "train_on_input": False,
    },
    "seed": 7,
    "optimizer": {"_component_": "torch.optim.AdamW", "fused": True, "weight_decay": 0.01, "lr": 3e-4},
    "lr_scheduler": {
        "_component_": "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup",
        "num_warmup_steps": 100,
    },
    "loss": {"_component_": "torchtune.modules.loss.LinearCrossEntropyLoss"},
    "epochs": 3,
    "max_steps_per_epoch": None,
    "batch_size": 4,
    "gradient_accumulation_steps": 8,
    "device": "cuda",
    "dtype": "bf16",
    "enable_activation_checkpointing": False,
    "enable_activation_offloading": False,
    "metric_logger": {"_component_": "x", "log_dir": "/l"},
    "log_every_n_steps": 1,
}


def older(folder: Path, base: dict[str, Any] | None = None, **changes: Any) -> Path:
    (folder / "base.yaml").write_text(yaml.safe_dump({**BASE, **(base or {})}))
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**OLDER, **changes}))
    return path


def test_the_older_form_becomes_one_of_ours(tmp_path: Path) -> None:
    experiment = read_experiment(older(tmp_path))
    assert isinstance(experiment.base, dict)
    assert experiment.base["model"] == "builtin:tiny"
    assert experiment.base["seed"] == 7
    assert experiment.base["dataset"] == {
        "source": "rows.jsonl",
        "columns": {"query": "question", "response": "answer"},
    }
    assert experiment.base["engine"] == {
        "stage": "sft",
        "finetuning_type": "lora",
        "lora_target": "q_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
        "lora_alpha": 128,
        "cutoff_len": 512,
        "train_on_prompt": False,
        "optim": "adamw_torch_fused",
        "weight_decay": 0.01,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 100,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 2,
        "packing": False,
        "gradient_accumulation_steps": 8,
        "bf16": True,
        "disable_gradient_checkpointing": True,
        "logging_steps": 1,
    }
    assert experiment.variables == {"engine.lora_rank": [8, 16], "engine.learning_rate": [1e-4, 3e-4]}
    assert experiment.evaluation is not None
    assert experiment.evaluation.tasks[0].task == "mine.py@mine"
    assert experiment.output.configs_dir == "c"


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ({"custom_sharded_layers": ["tok_embeddings"]}, "custom_sharded_layers"),
        ({"max_steps_per_epoch": 10}, "max_steps_per_epoch"),
        ({"enable_activation_offloading": True}, "enable_activation_offloading"),
        ({"optimizer": {"_component_": "torchao.optim.Adam4bit"}}, "torchao.optim.Adam4bit"),
        ({"dtype": "fp8"}, "fp8"),
        ({"model": {"lora_rank": 8, "apply_lora_to_output": True}}, "model.apply_lora_to_output"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(tmp_path: Path, base: dict[str, Any], name: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_experiment(older(tmp_path, base))
    assert name in str(caught.value)


def test_a_variable_of_torchtune_without_counterpart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"fsdp_cpu_offload.*no counterpart"):
        read_experiment(older(tmp_path, variables={"fsdp_cpu_offload": [True, False]}))


def test_every_name_that_torchtunes_become_is_known_to_the_installed_llamafactory() -> None:
    schemas = sorted((cache_folder() / "schemas").glob("train-*.json"), key=lambda path: path.stat().st_mtime)
    known = [read_json(path)["keys"] for path in schemas]
    if not any("disable_gradient_checkpointing" in keys for keys in known):
        from tuneyard.control.environments import engine_schema

        known = [engine_schema(find_workspace(Path(__file__).parents[3]), "train")["keys"]]
    specials = ("disable_gradient_checkpointing", "disable_shuffling", "optim", "adam_beta1", "quantization_bit")
    assert {*torchtune.NAMES.values(), *specials, "lora_target", "use_dora"} <= set(known[-1])


def test_ten_thousand_runs_want_to_be_meant(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    study = write(variables={"max_steps": list(range(1, 5001))}, evaluation=None)
    with pytest.raises(RequestError, match="10,000 runs") as caught:
        main(["plan", str(study.file)])
    assert "--yes" in str(caught.value)
    assert main(["plan", str(study.file), "--yes"]) == 0
    assert "10000 (5000 combinations" in capsys.readouterr().out


def test_a_study_is_opened_by_its_folder_too(write: Write, desk: Workspace) -> None:
    study = write()
    assert open_study(study.file.parent, desk).name == "rank"
    check(study)
