"""What can be asked for: the fields of a spec, the library's settings, examples, tasks, models and datasets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tuneyard.control.environments import engine_schema, environment_prefix
from tuneyard.control.index import newest_first
from tuneyard.control.resolving.hub import Hub, hub_of
from tuneyard.control.resolving.models import stage_of
from tuneyard.control.workspace import Workspace
from tuneyard.core.documents import read_yaml
from tuneyard.core.errors import RequestError, SetupError, unknown
from tuneyard.core.references import DatasetSource
from tuneyard.core.specs import SPECS

EXAMPLES = "examples"
NEWEST = 10
"""Runs, and repositories in the hub's cache, that are named at most."""


_WORDS = {"ModelRef": "model", "CodeRef": "file.py:function", "object": "mapping"}


@dataclass(frozen=True)
class Example:
    """A spec that comes with the workspace."""

    name: str
    """Folder and file below examples/, without what every name would share: `arithmetic`, `gpu-8x/qwen2.5-7b-qlora`."""
    kind: str
    path: Path
    purpose: str
    """Its first line, a comment."""


@dataclass(frozen=True)
class Setting:
    """A field of a spec, or a setting of the library."""

    name: str
    type: str
    default: Any
    help: str
    required: bool = False


def examples(workspace: Workspace, kind: str | None = None) -> list[Example]:
    """The specs below examples/, in the order of their names."""
    found = (_example(workspace, path) for path in sorted((workspace.path / EXAMPLES).glob("*/*.yaml")))
    return [example for example in found if example is not None and kind in (None, example.kind)]


def example_path(workspace: Workspace, name: str, kind: str) -> Path:
    """The file of the example with a name; raises RequestError with the nearest where there is none."""
    known = {example.name: example.path for example in examples(workspace, kind)}
    if name not in known:
        raise unknown(f"example of kind {kind}", name, known, where=str(workspace.path / EXAMPLES))
    return known[name]


def spec_fields(kind: str) -> list[Setting]:
    """The fields of a spec of this kind, but for those that resolving fills in."""
    return _settings(SPECS[kind].model_json_schema(), hidden={"schema_version", "kind", "code"})


def dataset_fields() -> list[Setting]:
    """What a dataset's mapping may hold; a plain string is its `source`."""
    return _settings(DatasetSource.model_json_schema(), hidden={"path", "revision"})


def engine_settings(workspace: Workspace, kind: str, query: str = "") -> list[Setting]:
    """The library's settings whose name or help holds a text; by name first.

    Raises:
        SetupError: its environment has not been built.
    """
    wanted = query.lower()
    keys = engine_schema(workspace, kind)["keys"]
    named = [name for name in sorted(keys) if wanted in name.lower()]
    told = [name for name in sorted(keys) if name not in named and wanted in str(keys[name].get("help")).lower()]
    return [_engine_setting(name, keys[name]) for name in [*named, *told]]


def tasks(workspace: Workspace) -> dict[str, str]:
    """Tasks that can be evaluated, and what they are; those of lm-eval by the folders that hold them."""
    known = {
        "arithmetic": "built in: addition worked digit by digit, on problems that training never saw",
        "gsm8k": "GSM8K by lm-eval: from the hub, its cache, or a folder of its JSONL files (fields: data)",
        "path/task.yaml": "a task file or folder of lm-eval inside the workspace",
        "path/file.py@task": "a task of Inspect inside the workspace",
        "inspect_evals/NAME": "a task of inspect_evals, such as inspect_evals/mmlu_0_shot",
    }
    return known | {name: "of lm-eval" for name in _lm_eval_families(workspace) if name not in known}


def models(workspace: Workspace) -> dict[str, str]:
    """Models at hand, and where they come from: built in, trained here, in the hub's cache."""
    known = {"builtin:tiny": "0.4 million random parameters, to try everything with"}
    known |= {f"run:{name}": f"trained here ({stage})" for name, stage in islice(_trained(workspace), NEWEST)}
    return known | dict.fromkeys(islice(_cached(hub_of(workspace), "models"), NEWEST), "in the hub's cache")


def datasets(workspace: Workspace) -> dict[str, str]:
    """Datasets at hand: built in and in the hub's cache."""
    from tuneyard.data.builtin import CORPORA

    known = {f"builtin:{name}": f"arguments: {', '.join(c.arguments)}" for name, c in CORPORA.items()}
    known["path/rows.jsonl"] = "JSONL, JSON, CSV or Parquet: alpaca, sharegpt, preference, kto or text"
    known["path/folder"] = "a folder of such files, or one of LLaMA-Factory with dataset_info.json"
    return known | dict.fromkeys(islice(_cached(hub_of(workspace), "datasets"), NEWEST), "in the hub's cache")


def _example(workspace: Workspace, path: Path) -> Example | None:
    try:
        given = read_yaml(path)
    except RequestError:
        return None  # a file that somebody is still writing is no example
    kind = given.get("kind", "train") if isinstance(given, dict) else None
    if kind not in SPECS:
        return None
    folder, stem = path.parent.name, path.stem
    name = folder if stem == kind else f"{folder}/{stem}"
    first = path.read_text(encoding="utf-8-sig").partition("\n")[0]
    return Example(name, kind, path, first.removeprefix("#").strip() if first.startswith("#") else "")


def _settings(schema: dict[str, Any], hidden: set[str]) -> list[Setting]:
    required = schema.get("required", [])
    return [
        Setting(
            name, _type(field), field.get("default"), " ".join(field.get("description", "").split()), name in required
        )
        for name, field in schema["properties"].items()
        if name not in hidden
    ]


def _type(field: dict[str, Any]) -> str:
    """The type of a field in a word or two, from its JSON schema."""
    if "anyOf" in field:
        return " | ".join(_type(option) for option in field["anyOf"])
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return _WORDS.get(name, name)
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    name = str(field.get("type", "any"))
    return _WORDS.get(name, name)


def _engine_setting(name: str, key: dict[str, Any]) -> Setting:
    choices = key.get("choices")
    type_ = " | ".join(map(str, choices)) if choices else str(key.get("type", "any"))
    return Setting(name, type_, key.get("default"), " ".join(str(key.get("help") or "").split()))


def _lm_eval_families(workspace: Workspace) -> list[str]:
    """Names of lm-eval's task folders: read from the disk, since its own listing takes ten seconds."""
    try:
        prefix = environment_prefix(workspace, "eval")
    except SetupError:
        return []
    folders = prefix.glob("lib/python3*/site-packages/lm_eval/tasks/*/")
    return sorted(f.name for f in folders if not f.name.startswith("_"))


def _trained(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Id and stage of the runs that made a model, the newest first."""
    for run in newest_first(workspace.runs, kind="train"):
        if run.model.is_dir() or run.adapter.is_dir():
            yield run.id, stage_of(run.read_spec())


def _cached(hub: Hub, kind: str) -> Iterator[str]:
    """Names of the repositories in the hub's cache."""
    for folder in sorted(hub.cache.glob(f"{kind}--*--*")):
        yield folder.name.removeprefix(f"{kind}--").replace("--", "/", 1)
