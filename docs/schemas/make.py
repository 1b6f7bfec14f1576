"""The JSON schemas of every document, and the tables of fields in docs/specs.md, made from the models in tuneyard.core.

    python docs/schemas/make.py            write them
    python docs/schemas/make.py --check    exit with 1 if they are not what the models say

Editors complete and check a spec with its schema: `# yaml-language-server: $schema=…/docs/schemas/train.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from tuneyard.core.evaluation import Evaluation, Sample
from tuneyard.core.events import Event
from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.references import CodeRef, DatasetSource, ModelRef
from tuneyard.core.results import Result
from tuneyard.core.specs import EvalSpec, GenerateSpec, RunSpec, ServeSpec, TaskRef, TrainSpec

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "specs.md"

DOCUMENTS: dict[str, Any] = {
    "train": TrainSpec,
    "eval": EvalSpec,
    "serve": ServeSpec,
    "generate": GenerateSpec,
    "event": Event,
    "result": Result,
    "evaluation": Evaluation,
    "sample": Sample,
    "fingerprint": Fingerprint,
}
"""Name of the file -> what it describes."""

SHORTHANDS: dict[str, dict[str, Any]] = {
    "ModelRef": {"type": "string", "description": "`builtin:tiny`, `run:ID`, a folder, or `owner/name` on the hub"},
    "DatasetSource": {"type": "string", "description": "the source alone"},
    "CodeRef": {"type": "string", "pattern": r"^.+\.py:[A-Za-z_]\w*$", "description": "`path/file.py:function`"},
    "TaskRef": {"type": "string", "description": "the task's name alone"},
}
"""Mappings for which a person may write one string; the models turn it into the mapping."""

FIELDS: dict[str, tuple[type[BaseModel], type[BaseModel] | None]] = {
    "every spec": (RunSpec, None),
    "train": (TrainSpec, RunSpec),
    "eval": (EvalSpec, RunSpec),
    "serve": (ServeSpec, RunSpec),
    "generate": (GenerateSpec, RunSpec),
    "model": (ModelRef, None),
    "dataset": (DatasetSource, None),
    "task": (TaskRef, None),
    "code": (CodeRef, None),
}
"""Mark in specs.md -> the model whose fields stand there, and the one whose fields stand elsewhere."""


def schema(document: Any) -> dict[str, Any]:
    """The JSON schema of a document as a person or a worker writes it, shorthands included."""
    made = TypeAdapter(document).json_schema(mode="validation")
    for name, definition in made.get("$defs", {}).items():
        if name in SHORTHANDS:
            made["$defs"][name] = {"anyOf": [SHORTHANDS[name], definition]}
        if name == "DatasetSource":
            definition["additionalProperties"] = True  # arguments of a built-in corpus
    _loosen(made)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _loosen(made: dict[str, Any]) -> None:
    """What the models take besides: one entry for a list of it, a duration such as `1h30m` for seconds."""
    for name, field in made.get("properties", {}).items():
        items = field.get("items", {})
        if "$ref" in items:
            listed = {key: field.pop(key) for key in ("type", "items", "minItems") if key in field}
            field["anyOf"] = [listed, items]
        if name in ("time_limit", "cancel_grace"):
            field["anyOf"] = [*field.pop("anyOf", [{"type": field.pop("type", "number")}]), {"type": "string"}]
            field.pop("exclusiveMinimum", None)


def fields(model: type[BaseModel], besides: type[BaseModel] | None) -> str:
    """A model's fields as a table of Markdown."""
    left_out = set(besides.model_fields) if besides else set()
    rows = ["| field | what it is |", "| --- | --- |"]
    for name, field in model.model_fields.items():
        if name not in left_out:
            text = " ".join((field.description or "").split()).replace("|", "\\|")
            rows.append(f"| `{name}` | {text} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """docs/specs.md with its tables made anew, each between its marks."""
    for name, (model, besides) in FIELDS.items():
        begin, end = f"<!-- fields: {name} -->", "<!-- end -->"
        before, mark, rest = text.partition(begin)
        if not mark:
            raise SystemExit(f"{PAGE}: the mark {begin} is missing")
        text = f"{before}{begin}\n\n{fields(model, besides)}\n\n{end}{rest.partition(end)[2]}"
    return text


def made() -> dict[Path, str]:
    """Every file, and what has to be in it."""
    files = {
        FOLDER / f"{name}.json": json.dumps(schema(document), indent=2) + "\n" for name, document in DOCUMENTS.items()
    }
    return {**files, PAGE: page(PAGE.read_text(encoding="utf-8"))}


def stale() -> list[Path]:
    """The files that are not what the models say, and schemas of what is no longer a document."""
    wanted = made()
    others = [path for path in FOLDER.glob("*.json") if path not in wanted]
    return others + [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where something is stale")
    if parser.parse_args().check:
        found = stale()
        print("\n".join(f"stale: {path}" for path in found) or "up to date")
        return 1 if found else 0
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
