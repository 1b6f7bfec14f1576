"""What can be asked for is told as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.control import catalogue
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.specs import EvalSpec, TrainSpec

ROOT = Path(__file__).parents[3]


def test_the_examples_of_this_repository_have_names_kinds_and_purposes() -> None:
    found = {(e.name, e.kind): e for e in catalogue.examples(Workspace(ROOT))}
    assert found["arithmetic", "train"].path == ROOT / "examples" / "arithmetic" / "train.yaml"
    assert all(example.purpose for example in found.values())
    assert {e.kind for e in catalogue.examples(Workspace(ROOT), "eval")} == {"eval"}
    assert catalogue.example_path(Workspace(ROOT), "arithmetic", "train") == found["arithmetic", "train"].path


def test_a_file_that_is_no_spec_is_no_example(tmp_path: Path) -> None:
    folder = tmp_path / "examples" / "x"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("a: b: c")
    (folder / "list.yaml").write_text("- a\n")
    (folder / "other.yaml").write_text("kind: other\n")
    (folder / "plain.yaml").write_text("# A plain LLaMA-Factory file\nmodel_name_or_path: x\n")
    assert [(e.name, e.kind, e.purpose) for e in catalogue.examples(Workspace(tmp_path))] == [
        ("x/plain", "train", "A plain LLaMA-Factory file")
    ]
    with pytest.raises(RequestError, match="did you mean 'x/plain'"):
        catalogue.example_path(Workspace(tmp_path), "x/plan", "train")


def test_every_field_of_a_spec_is_told_but_those_that_are_filled_in() -> None:
    for kind, model in (("train", TrainSpec), ("eval", EvalSpec)):
        fields = {field.name: field for field in catalogue.spec_fields(kind)}
        assert set(fields) == set(model.model_fields) - {"schema_version", "kind", "code"}
        assert all(field.help for field in fields.values())
        assert {f.name for f in fields.values() if f.required} == {
            name for name, field in model.model_fields.items() if field.is_required()
        }
    assert {f.name: f.type for f in catalogue.spec_fields("train")}["gpus"] == "integer | all | null"
    assert next(f for f in catalogue.dataset_fields() if f.name == "source").required


def test_the_librarys_settings_are_found_by_name_before_help(desk: Workspace) -> None:
    found = [setting.name for setting in catalogue.engine_settings(desk, "train", "pause")]
    assert found == ["pause"]
    assert next(iter(catalogue.engine_settings(desk, "train", "per"))).name == "per_device_train_batch_size"
    assert "pause" in [s.name for s in catalogue.engine_settings(desk, "train", "seconds per")]
    stage = next(s for s in catalogue.engine_settings(desk, "train", "stage"))
    assert stage.type == "pt | sft | rm | ppo | dpo | kto"


def test_tasks_models_and_datasets_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("models--owner--name", "datasets--owner--rows", "other"):
        (tmp_path / "hub" / name).mkdir(parents=True)
    tasks = tmp_path / ".pixi" / "uv" / "eval" / "lib" / "python3.11" / "site-packages" / "lm_eval" / "tasks"
    for name in ("hellaswag", "arithmetic", "__pycache__"):
        (tasks / name).mkdir(parents=True)
    python = tmp_path / ".pixi" / "uv" / "eval" / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    run = tmp_path / "runs" / "train-x-261120-1830-abc"
    (run / "artifacts" / "adapter").mkdir(parents=True)
    (run / "spec.json").write_text('{"engine": {"stage": "dpo"}}')
    workspace = Workspace(tmp_path)
    known = catalogue.tasks(workspace)
    assert known["hellaswag"] == "of lm-eval"
    assert known["arithmetic"].startswith("built in")
    assert "__pycache__" not in known
    assert catalogue.models(workspace) == {
        "builtin:tiny": "0.4 million random parameters, to try everything with",
        "run:train-x-261120-1830-abc": "trained here (dpo)",
        "owner/name": "in the hub's cache",
    }
    assert "owner/rows" in catalogue.datasets(workspace)
