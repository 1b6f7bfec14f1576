"""docs/schemas and the tables of docs/specs.md say what the models say, and what a person writes is valid by them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tuneyard.core.documents import read_yaml

ROOT = Path(__file__).parents[3]
MAKE = ROOT / "docs" / "schemas" / "make.py"


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_they_are_what_the_models_say() -> None:
    done = subprocess.run([sys.executable, MAKE, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nway out: python docs/schemas/make.py"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_example_is_valid(path: Path) -> None:
    spec = read_yaml(path)
    if "kind" in spec:
        validator(spec["kind"]).validate(spec)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "builtin:tiny", "dataset": "builtin:arithmetic"},
        {"model": {"reference": "owner/name", "revision": "v1"}, "dataset": [{"source": "a.jsonl"}, "b.jsonl"]},
        {"model": "m", "dataset": {"source": "builtin:arithmetic", "digits": 3}, "time_limit": "1h30m", "gpus": "all"},
        {"model": "m", "dataset": "d", "callbacks": "stop.py:stop", "engine": {"anything": [1, {"b": None}]}},
    ],
)
def test_what_a_person_writes_is_valid(fields: dict[str, Any]) -> None:
    validator("train").validate({"kind": "train", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "m"},
        {"model": "m", "dataset": "d", "datset": "x"},
        {"model": "m", "dataset": "d", "seed": "one"},
        {"model": "m", "dataset": []},
        {"model": "m", "dataset": "d", "callbacks": "stop"},
    ],
)
def test_what_would_be_refused_is_not(fields: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator("train").validate({"kind": "train", **fields})


def test_an_event_is_told_by_its_name() -> None:
    validator("event").validate({"event": "progress", "time": "2026-11-21T00:00:00.000Z", "step": 1})
    with pytest.raises(jsonschema.ValidationError):
        validator("event").validate({"event": "progres", "time": "2026-11-21T00:00:00.000Z", "step": 1})
