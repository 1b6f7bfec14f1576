"""A study on a real SLURM, which the tests start and stop: arrays, evaluations that wait, one failure, a kill."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.control.study_mark import runs_of_study
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.command import main
from tuneyard.study.journal import Journal
from tuneyard.study.state import states_of
from tuneyard.study.study import Study
from tuneyard.study.submit import Submission

if TYPE_CHECKING:
    from conftest import Write

pytestmark = pytest.mark.slow

CLUSTER = Path(__file__).parents[2] / "control" / "tests" / "slurm" / "conftest.py"
"""Where the cluster of the tests is: its class is loaded from there."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """As control's tests start it."""
    found = importlib.util.spec_from_file_location("slurm_conftest", CLUSTER)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["slurm_conftest"] = module
    found.loader.exec_module(module)
    made = (
        module.cluster.__wrapped__()
        if hasattr(module.cluster, "__wrapped__")
        else module.cluster.__pytest_wrapped__.obj()
    )
    yield next(made)
    next(made, None)


@pytest.fixture(autouse=True)
def empty(cluster: Any, desk: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
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
    write: Write, cluster: Any, capsys: pytest.CaptureFixture[str]
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


def test_submitting_again_gives_only_what_is_left(write: Write, cluster: Any) -> None:
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
    write: Write, cluster: Any, monkeypatch: pytest.MonkeyPatch
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
