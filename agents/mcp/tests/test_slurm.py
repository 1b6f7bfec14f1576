"""Runs that an agent gives to SLURM: as `yard run --on slurm` does, with its options and its refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from raw_client import TRAIN, Client

from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder

if TYPE_CHECKING:
    from slurm_cluster import Cluster

pytest_plugins = ["slurm_cluster"]


def test_a_dry_run_shows_the_script_with_the_devices_of_the_job(desk: Workspace, client: Client) -> None:
    asked: dict[str, Any] = {"fields": TRAIN, "on": "slurm", "slurm": {"gres": "gpu:a100:2", "time": 10}}
    told = client.call("train", **asked, dry_run=True, response_format="detailed")
    assert told["spec"]["gpus"] == 2
    assert "#SBATCH --gres=gpu:a100:2\n" in told["job"]
    assert "#SBATCH --time=10\n" in told["job"]
    short = client.call("train", **asked, dry_run=True)
    assert '"gres": "gpu:a100:2"' in short["next"][0]
    assert "job" not in client.call("train", fields=TRAIN, dry_run=True, response_format="detailed")
    assert not list(desk.runs.glob("train-*"))


@pytest.mark.parametrize(
    ("tool", "what"),
    [
        ("train", {"fields": TRAIN}),
        ("evaluate", {"models": ["builtin:tiny"], "tasks": ["arithmetic"]}),
        ("generate", {"model": "builtin:tiny", "dataset": "builtin:arithmetic"}),
    ],
)
def test_what_yard_refuses_is_refused_in_its_words(client: Client, tool: str, what: dict[str, Any]) -> None:
    on_slurm = {**what, "on": "slurm", "dry_run": True}
    unknown = client.error(tool, slurm={"partitoin": "gpu"}, **on_slurm)
    assert "did you mean 'partition'?" in unknown and "--" not in unknown
    assert "it belongs to the spec: nodes=2" in client.error(tool, slurm={"nodes": 2}, **on_slurm)
    assert "'soon' is no time of sbatch" in client.error(tool, slurm={"time": "soon"}, **on_slurm)
    here = client.error(tool, slurm={"partition": "gpu"}, **what)
    assert "way out: start it on SLURM (on: slurm)" in here and "--" not in here


def test_a_machine_without_slurm_is_told_and_nothing_is_left(desk: Workspace, connect: Callable[..., Client]) -> None:
    client = connect(env={"PATH": "/nowhere"})
    told = client.error("train", fields=TRAIN, on="slurm")
    assert "there is no SLURM on this machine" in told and "--" not in told
    assert not list(desk.runs.glob("train-*"))


@pytest.mark.slow
def test_a_training_and_its_evaluation_go_through_the_queue(
    desk: Workspace, cluster: Cluster, connect: Callable[..., Client]
) -> None:
    client = connect()
    fields = {**TRAIN, "engine": {"finetuning_type": "full"}}
    [run] = client.call("train", fields=fields, on="slurm", slurm={"time": 10, "comment": "by an agent"})["runs"]
    assert client.wait(run["id"])["state"] == "succeeded"
    folder = RunFolder(desk.runs / run["id"])
    assert '#SBATCH --comment="by an agent"\n' in folder.job_script.read_text()
    assert folder.attempt(1).job.is_file()
    [scored] = client.call("evaluate", models=[run["id"]], tasks=["arithmetic"], on="slurm")["runs"]
    assert client.wait(scored["id"])["state"] == "succeeded"
    assert RunFolder(desk.runs / scored["id"]).attempt(1).job.is_file()
    cluster.clear()


@pytest.mark.slow
def test_a_job_in_the_queue_is_found_cancelled_and_started_again(
    desk: Workspace, cluster: Cluster, connect: Callable[..., Client]
) -> None:
    client = connect()
    later = {"fields": TRAIN, "on": "slurm", "slurm": {"begin": "now+1hour"}}
    [run] = client.call("train", **later)["runs"]
    assert run["state"] == "queued"
    assert client.call("train", **later)["runs"][0] == {"id": run["id"], "state": "queued", "existing": True}
    client.call("run_cancel", run_id=run["id"])
    assert client.wait(run["id"])["state"] == "cancelled"
    client.call("run_resume", run_id=run["id"])
    assert client.wait(run["id"])["state"] == "succeeded"
    assert RunFolder(desk.runs / run["id"]).attempt(2).job.is_file()
    cluster.clear()


def test_a_job_that_slurm_does_not_take_has_failed(
    desk: Workspace, connect: Callable[..., Client], tmp_path: Any
) -> None:
    sbatch = tmp_path / "programs" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: Invalid partition name specified' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    client = connect(env={"PATH": str(sbatch.parent)})
    told = client.error("train", fields=TRAIN, on="slurm", slurm={"partition": "nowhere"})
    assert "SLURM does not take the job: Invalid partition name specified" in told
    [folder] = desk.runs.glob("train-*")
    assert client.call("run_status", run_id=folder.name)["state"] == "failed"
