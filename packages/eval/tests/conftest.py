"""Fixtures of the worker's tests; what they are made of is in eval_runs.py."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder of tests on the path

from eval_runs import Runs

from tuneyard.data.tiny import write_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def runs(tmp_path: Path, tiny: Path) -> Runs:
    return Runs(tmp_path / "runs", tiny)


@pytest.fixture
def weird_path(tmp_path: Path) -> Path:
    folder = tmp_path / "päth 'of' \"mine\"\nand, [yours] *?"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """The worker, run in this process, listens for TERM; pytest gets its own handler back."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
