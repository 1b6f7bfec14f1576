"""A workspace with small real workers, and studies in it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_workers import kill_runs, make_worker

from tuneyard.control.index import run_ids
from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.study import Study, open_study

SMALL = Path(__file__).with_name("small_worker.py").read_text()

Write = Callable[..., Study]

EXPERIMENT: dict[str, Any] = {
    "experiment": {"name": "rank", "question": "Does rank matter?", "hypothesis": "Yes, up to 32."},
    "base": {
        "kind": "train",
        "model": "builtin:tiny",
        "dataset": {"source": "builtin:arithmetic", "digits": 2, "size": 20},
        "engine": {"max_steps": 4, "per_device_train_batch_size": 4},
    },
    "variables": {"zip": {"lora_rank": [2, 32], "lora_alpha": [4, 64]}},
    "seeds": [1, 2],
    "evaluation": {"tasks": ["quiz"]},
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace whose workers do next to nothing, whose hub answers nobody, and whose cache is new."""
    folder = tmp_path / 'work space, it\'s "ünï"'
    folder.mkdir()
    (folder / "pixi.toml").touch()
    interpreters = {name: {"interpreter": str(make_worker(folder, name, SMALL))} for name in ("train", "eval")}
    (folder / "tuneyard.yaml").write_text(json.dumps({"environments": interpreters}))
    for name in [n for n in os.environ if n.startswith(("HF_", "PIXI_"))] + ["INIT_CWD"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEYARD_WORKSPACE", str(folder))
    monkeypatch.setenv("TUNEYARD_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the port of `discard`, on which nobody listens
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    workspace = Workspace(folder)
    yield workspace
    kill_runs(RunFolder(workspace.runs / name) for name in run_ids(workspace.runs))


@pytest.fixture
def write(desk: Workspace) -> Write:
    """Write an experiment and open it: `write(seeds=[1])`, `write(name="x", controls={...})`; None leaves a key out."""

    def make(name: str = "study", **changes: Any) -> Study:
        folder = desk.path / name
        folder.mkdir(exist_ok=True)
        content = {key: value for key, value in {**EXPERIMENT, **changes}.items() if value is not None}
        (folder / "experiment.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        return open_study(folder / "experiment.yaml", desk)

    return make
