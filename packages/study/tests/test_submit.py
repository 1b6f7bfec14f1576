"""A study on a real SLURM, which the tests start and stop: arrays, evaluations that wait, one failure, a kill."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.control import launch
from tuneyard.control.study_mark import runs_of_study
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.command import main
from tuneyard.study.commands.cancel import cancel
from tuneyard.study.execute import Execution
from tuneyard.study.journal import Journal
from tuneyard.study.state import states_of
from tuneyard.study.study import Study
from tuneyard.study.submit import Submission

if TYPE_CHECKING:
    from conftest import Write
    from slurm_cluster import Cluster

pytest_plugins = ["slurm_cluster"]
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def empty(cluster: Cluster, desk: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    yield
    cluster.clear()


def states(study: Study) -> dict[str, str]:
    return {each.job.key: each.state for each in states_of(study)}


def ended(study: Study, seconds: float = 180) -> dict[str, str]:
    """The states when nothing is under way any more."""
    deadline = time.monotonic() + seconds
    while {"queued", "preparing", "waiting", "running"} & set((found := states(study)).values()):
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


def test_a_study_goes_through_the_queue_and_one_failure_stays_one(
    write: Write, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(controls={"fail_at": 2}, slurm={"array_limit": 2, "partition": "main"})
    assert main(["run", str(study.file), "--on", "slurm", "--slurm", "time=10"]) == 0
    assert "4 trainings and 5 evaluations given to SLURM" in capsys.readouterr().out
    found = ended(study)
    assert Counter(state for job, state in found.items() if job.endswith("train")) == {"succeeded": 2, "failed": 2}
    good = [job for job, state in found.items() if state == "succeeded"]
    assert good == ["baseline/lm-eval", "000/train", "000/lm-eval", "002/train", "002/lm-eval"]
    assert "succeeded" not in (found["001/lm-eval"], found["003/lm-eval"])
    scripts = [path.read_text() for path in (study.workspace.runs / ".slurm").glob("*.sh")]
    assert any("--array=0-3%2" in text for text in scripts)
    assert all("--partition=main" in text for text in scripts)
    assert main(["report", str(study.file)]) == 0
    assert "4 trainings: 2 succeeded, 2 failed" in (study.folder.report / "report.md").read_text()
    assert json.loads((study.folder.results / "run_002" / "adapter" / "quality.json").read_text()) == [32, 1]
    assert (study.folder.eval_results / "run_002" / "quiz" / "samples.jsonl").is_file()
    assert not (study.folder.results / "run_001").exists()


def test_submitting_again_gives_only_what_is_left(write: Write, cluster: Cluster) -> None:
    study = write(seeds=[1])
    first = Submission(study).submit()
    assert (first.trainings, first.evaluations) == (2, 3)
    assert set(ended(study).values()) == {"succeeded"}
    again = Submission(study).submit()
    assert (again.trainings, again.evaluations) == (0, 0)
    grown = Submission(write(seeds=[1, 2])).submit()
    assert (grown.trainings, grown.evaluations) == (2, 2)
    assert set(ended(write(seeds=[1, 2])).values()) == {"succeeded"}
    assert len(runs_of_study(study.workspace.runs, "rank", "train")) == 4


def test_a_submission_that_was_killed_before_it_reached_slurm_is_done_again(
    write: Write, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write(seeds=[1], evaluation=None)
    with monkeypatch.context() as patch:
        patch.setattr("tuneyard.study.submit.submit_runs", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Submission(study).submit()
    made = runs_of_study(study.workspace.runs, "rank")
    assert len(made) == 2
    assert Submission(study).submit().trainings == 2
    assert set(ended(study).values()) == {"succeeded"}
    assert runs_of_study(study.workspace.runs, "rank") == made
    entries = Journal(study.folder.journal).entries().values()
    assert all(RunFolder(study.workspace.runs / str(entry.run)).latest() for entry in entries)


def lines_of(study: Study) -> list[tuple[str, str]]:
    """Job and what the journal says of it, in order."""
    return [(line["job"], line["what"]) for line in map(json.loads, study.folder.journal.read_text().splitlines())]


def batches(study: Study, stage: str = "train") -> list[list[int]]:
    """Of each run of a stage the examples per device and the steps that are accumulated."""
    specs = [RunFolder(study.workspace.runs / name).read_spec() for name in runs_of_study(study.workspace.runs, "rank")]
    engines = [spec["engine"] for spec in specs if spec["kind"] == stage]
    keys = ("per_device_train_batch_size", "gradient_accumulation_steps")
    return sorted([engine.get(key, 1) for key in keys] for engine in engines)


def test_what_runs_out_of_memory_is_given_again_with_half_the_batch_by_its_own_job(
    write: Write, cluster: Cluster
) -> None:
    study = write(controls={"memory": 64})  # rank 32 fits with two examples at a time, and not with four
    assert main(["run", str(study.file), "--on", "slurm", "--slurm", "time=10"]) == 0
    assert set(ended(study).values()) == {"succeeded"}
    assert [job for job, what in lines_of(study) if what == "halved"] == ["002/train", "003/train"]
    assert batches(study) == [[2, 2], [2, 2], [4, 1], [4, 1], [4, 1], [4, 1]]
    scripts = [each.run.job_script.read_text() for each in states_of(study) if each.run is not None]
    assert all("#SBATCH --time=10" in text for text in scripts)
    again = Submission(study).submit()
    assert (again.trainings, again.evaluations) == (0, 0)


def test_what_runs_out_of_memory_with_half_the_batch_too_has_failed(write: Write, cluster: Cluster) -> None:
    study = write(controls={"memory": 40}, seeds=[1])
    Submission(study).submit()
    cluster.until(lambda: ("001/train", "halved") in lines_of(study))
    found = ended(study)
    assert {job for job, state in found.items() if state != "succeeded"} == {"001/train", "001/lm-eval"}
    cluster.until(lambda: not cluster.queue())
    assert batches(study) == [[2, 2], [4, 1], [4, 1]]


def test_a_retry_that_is_killed_between_its_steps_is_gone_on_with(
    write: Write, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write(controls={"memory": 64}, seeds=[1])
    with monkeypatch.context() as patch:  # as where a node has no sbatch: nobody tries again by himself
        patch.setattr("tuneyard.study.submit.Submission._retry_command", lambda self: [])
        Submission(study).submit()
        assert ended(study)["001/train"] == "failed"
    for name in ("tuneyard.study.journal.Journal.write", "tuneyard.study.submit.submit_runs"):
        with monkeypatch.context() as patch:
            patch.setattr(name, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                Submission(study).retry()
    assert Submission(study).retry().trainings == 1
    assert set(ended(study).values()) == {"succeeded"}
    assert [job for job, what in lines_of(study) if what == "halved"] == ["001/train"]
    assert batches(study) == [[2, 2], [4, 1], [4, 1]]
    assert Submission(study).retry().trainings == 0


def test_where_the_nodes_have_no_sbatch_the_same_command_tries_again(
    write: Write, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(controls={"memory": 64}, seeds=[1])
    # a worker's variables are the job's: here, where its programs are
    Submission(study, _variables={"PATH": "/nowhere"}).submit()
    assert ended(study)["001/train"] == "failed"
    cluster.until(lambda: not cluster.queue())
    (run,) = [each.run for each in states_of(study) if each.run is not None and each.state == "failed"]
    assert "`sbatch` is not to be found" in run.attempt(1).supervisor_log.read_text()
    assert main(["run", str(study.file), "--on", "slurm"]) == 0
    told = capsys.readouterr()
    assert "001/train: out of memory; again with half the batch per device" in told.err
    assert "1 trainings and 1 evaluations given to SLURM" in told.out
    assert set(ended(study).values()) == {"succeeded"}
    assert ("001/train", "halved") in lines_of(study)


def test_a_run_that_is_resumed_alone_is_still_tried_again_by_its_job(write: Write, cluster: Cluster) -> None:
    study = write(controls={"memory": 64}, seeds=[1])
    Submission(study, _variables={"PATH": "/nowhere"}).submit()
    assert ended(study)["001/train"] == "failed"
    cluster.until(lambda: not cluster.queue())
    (run,) = [each.run for each in states_of(study) if each.run is not None and each.state == "failed"]
    launch.resume(study.workspace, run)
    cluster.until(lambda: ("001/train", "halved") in lines_of(study))
    assert set(ended(study).values()) == {"succeeded"}
    assert batches(study) == [[2, 2], [4, 1], [4, 1]]


def test_after_a_cancel_nothing_is_tried_again(write: Write, cluster: Cluster) -> None:
    study = write(controls={"memory": 64}, seeds=[1], evaluation=None)
    Submission(study, _variables={"PATH": "/nowhere"}).submit()
    assert ended(study)["001/train"] == "failed"
    cancel(study)
    assert Submission(study).retry().trainings == 0
    assert Submission(study).submit().trainings == 1  # which a person asks for
    assert set(ended(study).values()) == {"succeeded"}


def test_a_run_on_this_machine_takes_up_what_failed_in_slurm(write: Write, cluster: Cluster) -> None:
    study = write(controls={"memory": 64}, seeds=[1])
    Submission(study, _variables={"PATH": "/nowhere"}).submit()
    assert ended(study)["001/train"] == "failed"
    cluster.until(lambda: not cluster.queue())
    tally = Execution(study, print).run()  # the halved training has another evaluation
    assert (tally.succeeded, tally.failed, tally.refused) == (5, 0, 0)
    assert ("001/train", "halved") in lines_of(study)
