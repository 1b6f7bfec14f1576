"""The same from Python: a run is a handle on its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneyard import control
from tuneyard.control import Run, evaluate, runs, train
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError

TRAIN: dict[str, Any] = {
    "model": "builtin:tiny",
    "dataset": {"source": "builtin:arithmetic", "size": 5},
    "engine": {"finetuning_type": "full"},
}


def test_the_public_names() -> None:
    assert control.__all__ == ["Run", "evaluate", "generate", "runs", "serve", "train"]
    assert set(control.__all__) <= set(dir(control))
    with pytest.raises(AttributeError):
        control.infer  # noqa: B018 - there is no such thing


def test_a_training_and_the_evaluation_of_what_it_made(desk: Workspace) -> None:
    run = train(TRAIN, name="mine", **{"engine.max_steps": 2})
    assert run.id.startswith("train-mine-")
    assert run.wait(60) == run.status == "succeeded"
    assert run.spec["engine"] == {"finetuning_type": "full", "max_steps": 2}
    assert run.result is not None and run.result["status"] == "succeeded"
    assert run.metrics == {"train_loss": 1.25}
    assert run.artifacts["model"].is_dir()
    assert [e["step"] for e in run.events() if e["event"] == "progress"] == [1, 2]
    assert repr(run) == f"Run({run.id!r}, 'succeeded')"
    score = evaluate(tasks="arithmetic", limit=5)  # the newest model: the one just trained
    assert any(run.id in note for note in score.notes)
    assert score.wait(60) == "succeeded"
    assert score.spec["model"]["run"] == run.id
    assert score.metrics["quiz/exact_match"] == pytest.approx(3 / 5)
    assert [r.id for r in runs()] == [score.id, run.id]
    assert [r.id for r in runs("train", limit=1)] == [run.id]


def test_a_spec_may_be_a_file_or_a_mapping_or_nothing_but_fields(desk: Workspace) -> None:
    (desk.path / "spec.yaml").write_text("kind: train\nmodel: builtin:tiny\ndataset: builtin:arithmetic\n")
    for spec, fields in (("spec.yaml", {}), (desk.path / "spec.yaml", {}), (None, TRAIN)):
        run = train(spec, **fields, name="x", seed=3)
        assert run.spec["seed"] == 3
        run.cancel()
        run.wait(60)


def test_paths_are_meant_from_the_current_folder(desk: Workspace, tmp_path: Path) -> None:
    (desk.path / "stop.py").write_text("def stop(): ...\n")
    run = train({**TRAIN, "callbacks": "stop.py:stop"})
    assert run.spec["callbacks"][0]["path"] == str(desk.path / "stop.py")
    run.wait(60)


def test_what_is_wrong_is_raised(desk: Workspace) -> None:
    with pytest.raises(RequestError, match="did you mean 'dataset'"):
        train({**TRAIN, "datset": "x"})
    with pytest.raises(RequestError, match="is a spec of kind 'train'"):
        evaluate({"kind": "train", **TRAIN})
    with pytest.raises(RequestError, match="there is no run"):
        Run.open("train-x-260101-0000-abc")
    assert runs() == []


def test_a_run_is_cancelled_resumed_and_removed(desk: Workspace) -> None:
    run = train(TRAIN, **{"engine.max_steps": 40, "engine.pause": 0.05})
    assert run.wait(0.1) in ("preparing", "waiting", "running")
    assert (run.result, run.metrics, run.artifacts) == (None, {}, {})
    run.cancel()
    assert run.wait(60) == "cancelled"
    again = Run.open(run.id[:-1])
    again.resume()
    assert again.wait(60) == "succeeded"
    assert again.folder.latest() == again.folder.attempt(2)
    again.remove()
    assert runs() == []


def test_a_resume_notes_which_file_was_edited_since_the_run_was_made(desk: Workspace) -> None:
    file = desk.path / "stop.py"
    file.write_text("def stop(): ...\n")
    run = train({**TRAIN, "callbacks": "stop.py:stop"}, **{"engine.fail": "no such column"})
    for content, count in (("def stop(): ...\n", 0), ("def stop(): return 1\n", 1)):
        assert run.wait(60) == "failed"
        file.write_text(content)
        run.resume()
        assert len(run.notes) == count
    assert run.notes[0].startswith(f"{file} was edited after the run was made (sha256 ")
    assert f"`yard run run:{run.id}` starts anew with the new" in run.notes[0]
    run.wait(60)
