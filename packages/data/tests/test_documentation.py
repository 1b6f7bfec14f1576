"""What docs/data.md shows works."""

import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tuneyard.core.documents import parse_yaml
from tuneyard.core.references import DatasetSource
from tuneyard.data.layouts import ALIASES, NAMES
from tuneyard.data.manifest import DataManifest
from tuneyard.data.prepare import STAGES

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_example_of_a_dataset_is_one(text: str) -> None:
    given = parse_yaml(text, "docs/data.md")["dataset"]
    TypeAdapter(list[DatasetSource]).validate_python(given if isinstance(given, list) else [given])


def test_every_key_of_a_dataset_is_described() -> None:
    described = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    filled_in_by_resolving = {"path", "arguments"}
    assert set(DatasetSource.model_fields) - filled_in_by_resolving <= described


def test_every_name_of_a_column_and_every_stage_is_named() -> None:
    for word in (*NAMES, *(name for names in NAMES.values() for name in names[:1]), *STAGES):
        assert word in PAGE
    assert set(ALIASES.values()) <= set(NAMES)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    exec(compile(code, "docs/data.md", "exec"), {})
    for name in ("sums", "talks", "made"):
        manifest = DataManifest.model_validate_json((tmp_path / name / "manifest.json").read_bytes())
        assert manifest.datasets[0].rows > 0
