"""Fixtures of the worker's tests; what they are made of is in training_runs.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder of tests on the path

from training_runs import Runs

from tuneyard.data.tiny import write_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def runs(tmp_path: Path, tiny: Path) -> Runs:
    return Runs(tmp_path, tiny)


@pytest.fixture
def weird_runs(tmp_path: Path, tiny: Path) -> Runs:
    return Runs(tmp_path / "rüns 'of' \"mine\"\nand, [yours] *?", tiny)


@pytest.fixture(autouse=True)
def fresh_templates() -> Iterator[None]:
    """LLaMA-Factory writes settings into its global templates; a worker's process trains once, this one often."""
    module = sys.modules.get("llamafactory.data.template")
    saved = {n: dict(vars(t)) for n, t in module.TEMPLATES.items()} if module else {}
    yield
    for name, values in saved.items():
        vars(sys.modules["llamafactory.data.template"].TEMPLATES[name]).update(values)
