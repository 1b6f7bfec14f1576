"""The files of a study: what is in them, and that ten thousand take the memory of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tuneyard.control.workspace import Workspace
from tuneyard.core.documents import read_yaml
from tuneyard.core.errors import RequestError
from tuneyard.study.command import main
from tuneyard.study.generate import ensure_generated, generate, mapping_rows
from tuneyard.study.study import Point
from tuneyard.study.variables import design_of

if TYPE_CHECKING:
    from conftest import Write


def test_each_run_has_a_configuration_that_llamafactory_reads_and_that_says_what_it_is(write: Write) -> None:
    study = write(controls={"max_steps": 9})
    generate(study)
    configs = sorted(study.folder.configs.glob("train_*.yaml"))
    assert [path.name for path in configs] == [f"train_00{n}.yaml" for n in range(4)]
    for point, path in zip(study.points(), configs, strict=True):
        config = read_yaml(path)
        assert config["lora_rank"] == point.params["lora_rank"]
        assert config["lora_alpha"] == point.params["lora_alpha"]
        assert config["seed"] == point.params["seed"]
        assert config["max_steps"] == 9
        assert config["do_train"] is True
        information = json.loads((Path(config["dataset_dir"]) / "dataset_info.json").read_text())
        assert config["dataset"] in information
        assert config["output_dir"].endswith(f"by_hand/run_{point.id}")
        assert f"run {point.id}: lora_rank=" in path.read_text().splitlines()[0]
    assert len({read_yaml(path)["dataset_dir"] for path in configs}) == 1


def test_variables_that_mean_more_than_a_setting_are_asked_of_the_worker(write: Write) -> None:
    study = write(variables={"dataset.digits": [2, 3], "learning_rate": [1e-4, 1e-3]}, seeds=[1])
    generate(study)
    configs = [read_yaml(path) for path in sorted(study.folder.configs.glob("train_*.yaml"))]
    assert len({config["dataset_dir"] for config in configs}) == 2
    assert [config["learning_rate"] for config in configs] == [1e-4, 1e-3, 1e-4, 1e-3]


def test_the_mapping_names_every_run_with_its_values(write: Write) -> None:
    study = write()
    generate(study)
    mapping = read_yaml(study.folder.mapping)
    assert mapping["experiment_name"] == "rank"
    assert mapping["total_runs"] == 4
    assert mapping["generated_at"].endswith("Z")
    assert mapping["runs"] == [{"id": point.id, "params": point.params} for point in study.points()]


AWKWARD = [
    "plain",
    "a: b",
    "yes",
    "#",
    "'",
    '"',
    "1e-4",
    " x",
    "",
    None,
    True,
    1e-05,
    1e22,
    -1,
    ["a", 2],
    {"b": [1]},
    "ü\n",
]


def test_the_mapping_is_yaml_whatever_the_values_are() -> None:
    text = "".join(mapping_rows(Point(n, {"a key": value}) for n, value in enumerate(AWKWARD)))
    assert [row["params"]["a key"] for row in yaml.safe_load(text)] == AWKWARD


def test_generating_says_how_many_and_does_not_overwrite_unasked(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write()
    assert main(["generate", str(study.file), "--dry-run"]) == 0
    assert "Would generate 4 training configurations" in capsys.readouterr().out
    assert not study.folder.configs.exists()
    assert main(["generate", str(study.file)]) == 0
    assert "Generated 4 training configurations" in capsys.readouterr().out
    with pytest.raises(RequestError, match="generated already"):
        main(["generate", str(study.file)])
    own = study.folder.configs / "notes.txt"
    own.write_text("mine")
    smaller = write(seeds=[1])
    generate(smaller, force=True)
    assert len(list(study.folder.configs.glob("train_*.yaml"))) == 2
    assert own.read_text() == "mine"


def test_a_study_that_changed_after_generating_is_not_run_unasked(write: Write) -> None:
    ensure_generated(write())
    assert ensure_generated(write()) is None
    with pytest.raises(RequestError, match="was changed since"):
        ensure_generated(write(seeds=[1, 2, 3]))
    with pytest.raises(RequestError, match="was changed since"):
        ensure_generated(write(controls={"max_steps": 7}))


def test_batch_scripts_are_plain_bash_with_the_options_of_the_slurm_block(write: Write) -> None:
    slurm = {"partition": "gpu", "time": "01:30:00", "gres": "gpu:1", "cpus_per_task": 4, "array_limit": 2}
    study = write(slurm=slurm)
    generate(study)
    train, evaluation = (study.folder.scripts / f"{name}_sweep.sh" for name in ("train", "eval"))
    for script in (train, evaluation):
        subprocess.run(["bash", "-n", script], check=True)
        assert os.access(script, os.X_OK)
        lines = script.read_text().splitlines()
        assert "#SBATCH --array=0-3%2" in lines
        assert "#SBATCH --cpus-per-task=4" in lines
        assert "#SBATCH --gres=gpu:1" in lines
    assert 'train "$SLURM_ARRAY_TASK_ID"' in train.read_text()
    assert "--kill-on-invalid-dep=yes" in evaluation.read_text()


@pytest.mark.parametrize("slurm", [{"partition": "a\nrm -rf /"}, {"x; y": 1}, {"array_limit": 0}])
def test_what_cannot_stand_in_a_batch_script_is_refused(write: Write, slurm: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="slurm"):
        generate(write(slurm=slurm))


def test_the_script_of_an_evaluation_runs_by_hand_and_says_what_is_missing(write: Write, desk: Workspace) -> None:
    study = write(variables={"lora_rank": [8]}, seeds=[1])
    generate(study)
    script = study.folder.eval_script(0)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Cannot load model: the training of run 000 has not finished" in done.stderr
    assert main(["one", str(study.file), "train", "0"]) == 0
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "quiz/exact_match" in done.stdout


def test_ten_thousand_rows_of_a_mapping_are_never_held_at_once(write: Write, tmp_path: Path) -> None:
    values = {"lora_rank": list(range(1, 101)), "learning_rate": [n * 1e-5 for n in range(1, 101)]}
    design = design_of(values, "e")
    points = (Point(n, values) for n, values in enumerate(design.combinations()))
    tracemalloc.start()
    with open(tmp_path / "mapping.yaml", "w") as file:
        file.writelines(mapping_rows(points))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert (tmp_path / "mapping.yaml").read_text().count("\n") == 10_000
