"""Every file in examples/ is read by a test, and every command in the README exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tuneyard.core.documents import read_yaml
from tuneyard.core.specs import parse_spec
from tuneyard.study.experiment import read_experiment

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
YAML_FILES = sorted(EXAMPLES.rglob("*.yaml"))
READ_BY_OTHERS = {".md", ".json", ".jsonl", ".py", ".yaml"}


def test_there_are_examples_and_every_folder_says_what_it_shows() -> None:
    folders = [p for p in EXAMPLES.iterdir() if p.is_dir()]
    assert len(folders) >= 4
    assert all((folder / "README.md").is_file() for folder in folders)


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda p: str(p.relative_to(EXAMPLES)))
def test_every_yaml_file_is_a_spec_or_belongs_to_a_library(path: Path) -> None:
    document = read_yaml(path)
    assert isinstance(document, dict)
    if "kind" in document:
        parse_spec(document, str(path))
    elif "experiment" in document:
        read_experiment(path)
    else:
        assert {"model_name_or_path", "task"} & set(document), (
            "neither a spec, a LLaMA-Factory YAML nor an lm-eval task"
        )


def test_no_example_is_of_a_kind_that_no_test_reads() -> None:
    strangers = [p for p in EXAMPLES.rglob("*") if p.is_file() and p.suffix not in READ_BY_OTHERS]
    assert not [p for p in strangers if "__pycache__" not in p.parts]


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda p: str(p.relative_to(EXAMPLES)))
def test_every_python_file_compiles(path: Path) -> None:
    compile(path.read_text(), str(path), "exec")


@pytest.mark.parametrize("page", ["README.md", "AGENTS.md"])
def test_every_task_that_a_page_names_is_in_the_manifest(page: str) -> None:
    manifest = tomllib.loads((ROOT / "pixi.toml").read_text())
    features = manifest["feature"]
    tasks = {name: set(manifest["tasks"]) for name in manifest["environments"]}
    for name, environment in manifest["environments"].items():
        for feature in environment["features"]:
            tasks[name] |= set(features[feature].get("tasks", {}))
    found = re.findall(r"(?:pixi|\./pixiw) run (?:-e (\w+) )?([\w-]+)", (ROOT / page).read_text())
    assert len(found) >= 5
    for environment, task in found:
        assert task in tasks[environment or "default"], f"{page}: {task} in {environment or 'default'}"
