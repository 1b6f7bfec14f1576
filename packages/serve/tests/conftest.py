"""Fixtures of the serving tests. A server takes half a minute to start, so one serves them all; see desk.py."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode puts no folder of tests on the path

# Neither the hub nor this user's caches take part in a test.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="tuneyard-hf-")
os.environ["XDG_CACHE_HOME"] = os.environ.get("TUNEYARD_TEST_CACHE") or tempfile.mkdtemp(prefix="tuneyard-cache-")
os.environ.pop("TUNEYARD_API_KEY", None)

from desk import Desk

from tuneyard.control.servers import Served
from tuneyard.data.tiny import write_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk.make(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="session")
def low(desk: Desk) -> str:
    """A trained adapter of rank 8."""
    return desk.train("low", lora_rank=8)


@pytest.fixture(scope="session")
def high(desk: Desk) -> str:
    """A trained adapter of rank 24, which is none of vLLM's limits."""
    return desk.train("high", lora_rank=24)


@pytest.fixture(scope="session")
def server(desk: Desk, low: str, high: str) -> Iterator[Served]:
    """builtin:tiny with both adapters by name."""
    served = desk.serve(
        "model=builtin:tiny",
        f"adapters=[run:{low},run:{high}]",
        "port=0",
        "engine.max_model_len=512",
        # a weak model would write nothing but spaces between the braces
        "engine.structured_outputs_config={backend: xgrammar, disable_any_whitespace: true}",
    )
    yield served
    assert desk.yard("serve", "stop", served.run.id).code == 0


@pytest.fixture(scope="session")
def client(server: Served) -> openai.OpenAI:
    """The official client."""
    return openai.OpenAI(base_url=server.url, api_key="none", timeout=120, max_retries=0)
