"""The example study with its engines: start to report with one command, everything killed twice in between."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from conftest import ROOT, Yard

from tuneyard.core.processes import kill_run
from tuneyard.core.run_folder import RunFolder

if TYPE_CHECKING:
    from slurm_cluster import Cluster

pytest_plugins = ["slurm_cluster"]
pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples" / "lora-rank"


def smaller(folder: Path, name: str) -> Path:
    """A copy of the example with two ranks and one seed, of a few steps."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "experiment.yaml"
    content = yaml.safe_load(path.read_text())
    content["experiment"]["name"] = name
    content["variables"] = {"zip": {"lora_rank": [8, 64], "lora_alpha": [16, 128]}}
    content["controls"] |= {"max_steps": 24, "save_steps": 6, "logging_steps": 6, "dataset.size": 1000}
    content["seeds"] = [1]
    content["evaluation"]["limit"] = 12
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def scores(yard: Yard, folder: Path) -> list[tuple[str, ...]]:
    """Run, task, metric and value of every score, and the last loss of every training."""
    done = yard("study", "report", folder, "--json")
    assert done.code == 0, done.err
    lines = (folder / "results.csv").read_text().splitlines()
    head = lines[0].split(",")
    kept = [head.index(name) for name in ("run", "task", "value", "final_loss")]
    # a metric's name may have a comma in quotes: what stands behind it is counted from the end
    rows = [line.replace('"accuracy,includes"', "accuracy").split(",") for line in lines[1:]]
    return sorted(tuple(row[n] for n in kept) for row in rows)


def runs(yard: Yard, study: str) -> list[RunFolder]:
    listed = yard("runs", "--study", study, "--all", "--json").json
    return [RunFolder(yard.runs / row["id"]) for row in listed]


def until(true: Callable[[], Any], process: subprocess.Popen[bytes], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, "the study ended before it was killed"
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.2)


def kill_everything(process: subprocess.Popen[bytes], yard: Yard, study: str) -> None:
    """The study, the supervisors with their guards, and the workers."""
    process.kill()
    process.wait()
    for run in runs(yard, study):
        latest = run.latest()
        record = latest.read_supervisor() if latest else None
        if record and latest and latest.supervisor_lives():
            guard = int(Path(f"/proc/{record['pid']}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(guard, signal.SIGKILL)
            os.kill(record["pid"], signal.SIGKILL)
        kill_run(run.id)


def begin(yard: Yard, file: Path) -> subprocess.Popen[bytes]:
    command = [yard.executable, "study", "run", str(file)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=yard.environment(), cwd=yard.workspace, stdout=quiet, stderr=quiet)


def saved(run: RunFolder) -> bool:
    return any('"checkpoint"' in a.events.read_text() for a in run.attempts() if a.events.exists())


def test_the_example_goes_from_start_to_report_and_kills_change_nothing(yard: Yard) -> None:
    calm = smaller(yard.workspace / "calm", "calm")
    done = yard("study", "run", calm)
    assert done.code == 0, done.out + done.err
    assert "8 succeeded" in done.out
    folder = calm.parent
    assert (folder / "report.html").read_text().count("<svg") == 3
    assert list((folder / "eval_results" / "run_001" / "domain_qa").glob("*.eval"))
    assert (folder / "results" / "run_001" / "adapter" / "adapter_config.json").is_file()

    killed = smaller(yard.workspace / "killed", "killed")
    # a control that nothing depends on, so that the runs are not those of the calm study
    content = yaml.safe_load(killed.read_text())
    content["controls"]["logging_first_step"] = False
    killed.write_text(yaml.safe_dump(content, sort_keys=False))
    process = begin(yard, killed)
    until(lambda: any(saved(run) for run in runs(yard, "killed") if run.kind == "train"), process)
    kill_everything(process, yard, "killed")
    process = begin(yard, killed)
    until(lambda: any(r.kind == "eval" and r.status().state == "running" for r in runs(yard, "killed")), process)
    kill_everything(process, yard, "killed")
    done = yard("study", "resume", killed)
    assert done.code == 0, done.out + done.err
    assert scores(yard, killed.parent) == scores(yard, folder)
    assert sum(run.kind == "train" for run in runs(yard, "killed")) == 2


def test_the_example_goes_from_start_to_report_on_slurm(yard: Yard, cluster: Cluster) -> None:
    file = smaller(yard.workspace / "queued", "queued")
    content = yaml.safe_load(file.read_text())
    # so that neither its runs nor its baselines are those of a study on this machine, which would not be run again
    content["controls"]["logging_steps"] = 8
    content["evaluation"]["limit"] = 10
    content["slurm"] = {"time": "0:30:00", "array_limit": 2}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    done = yard("study", "run", file, "--on", "slurm", "--slurm", "comment=from start to report")
    assert done.code == 0, done.out + done.err
    assert "2 trainings and 6 evaluations given to SLURM" in done.out
    cluster.until(lambda: not cluster.queue(), 400)
    counts = yard("study", "status", file, "--json").json["counts"]
    assert counts == {"training": {"succeeded": 2}, "evaluation": {"succeeded": 6}}
    done = yard("study", "report", file)
    assert done.code == 0, done.err
    folder = file.parent
    assert (folder / "report.html").read_text().count("<svg") == 3
    assert "2 trainings: 2 succeeded" in (folder / "report.md").read_text()
    told = scores(yard, folder)
    runs_of_tasks = {(run, task) for run, task, _, _ in told}
    assert runs_of_tasks == {(run, task) for run in ("000", "001", "baseline") for task in ("arithmetic", "domain_qa")}
    assert all(0 <= float(value) <= 1 for _, _, value, _ in told)
    assert (folder / "results" / "run_001" / "adapter" / "adapter_config.json").is_file()
    assert list((folder / "eval_results" / "run_001" / "domain_qa").glob("*.eval"))
    for run in runs(yard, "queued"):
        assert run.attempt(1).job.is_file()
        assert '#SBATCH --comment="from start to report"' in run.job_script.read_text()


def test_the_generated_configuration_trains_under_llamafactorys_own_command(yard: Yard) -> None:
    from tuneyard.control.environments import environment_prefix
    from tuneyard.control.workspace import find_workspace

    file = smaller(yard.workspace / "by-hand", "by-hand")
    assert yard("study", "generate", file).code == 0
    config = file.parent / "configs" / "train_000.yaml"
    program = environment_prefix(find_workspace(ROOT), "train") / "bin" / "llamafactory-cli"
    # the environment of the workers has no torchaudio, which LLaMA-Factory imports; the worker brings a stand-in
    code = (
        "import sys; from tuneyard.train import stand_ins; stand_ins.stand_in(); sys.argv = sys.argv[1:]; "
        "from llamafactory.cli import main; main()"
    )
    command = [str(program.with_name("python")), "-c", code, "llamafactory-cli", "train", str(config)]
    variables = {**yard.environment(), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (file.parent / "by_hand" / "run_000" / "adapter_config.json").is_file()


def test_the_task_of_inspect_evals_is_checked_without_its_data(yard: Yard) -> None:
    file = smaller(yard.workspace / "mmlu", "mmlu")
    content = yaml.safe_load(file.read_text())
    content["evaluation"]["tasks"] = ["mmlu_subset.py@mmlu_subset"]
    file.write_text(yaml.safe_dump(content))
    done = yard("study", "plan", file, "--check")
    assert done.code == 0, done.err
    assert "evaluations" in done.out
    content["evaluation"]["tasks"] = ["mmlu_subset.py@mmlu"]
    file.write_text(yaml.safe_dump(content))
    done = yard("study", "plan", file, "--check")
    assert done.code == 2
    assert "Function 'mmlu' not found in evals/mmlu_subset.py" in done.err
    assert "mmlu_subset" in done.err
