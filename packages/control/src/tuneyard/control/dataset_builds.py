"""Building datasets for a program: nothing outside the workspace, and the code of a source in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.control.environments import communicate, raised_error, worker_python
from tuneyard.control.paths import inside
from tuneyard.control.workspace import WORKSPACE_VARIABLE, Workspace
from tuneyard.core.errors import RequestError, RunError

FOLDER = "datasets"
"""Where datasets go, in the workspace, unless somebody says otherwise."""

BUILD_SECONDS = 3600.0
"""How long a build may take."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Build:
    """A dataset that is asked for, under the names of `yard dataset build`."""

    out: str
    source: str | Mapping[str, Any] | None = None
    """What it is built from, as the command takes it; None: `records`."""
    records: Sequence[Record] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    name: str = "train"
    mode: str = "new"
    dedupe: str = "exact"
    drop: Sequence[str] = ()
    tokenizer: str | None = None
    max_tokens: int | None = None
    against: str | Mapping[str, Any] | None = None


def build_dataset(workspace: Workspace, asked: Build) -> dict[str, Any]:
    """Build a dataset folder; its `folder` and the fields of its entry in the manifest.

    Raises:
        RequestError: both records and a source or neither, a path outside the workspace, or what the command refuses.
        SetupError: tokens are to be counted, and the environment `train`, whose tokenizers count them, is not built.
        RunError: the command ended without an answer, or not within the hour.
    """
    if bool(asked.records) == (asked.source is not None):
        raise RequestError("records or a source: one of them", way_out="give the rows themselves, or where they are")
    # the light environment has no tokenizers; the one that trains has those that count as training will
    python = worker_python(workspace, "train") if asked.tokenizer else Path(sys.executable)
    given = b"".join(json.dumps(record).encode() + b"\n" for record in asked.records) if asked.records else None
    return _ask(workspace, python, ["build", *_words(workspace, asked)], given)


def inline_dataset(workspace: Workspace, records: Sequence[Record], columns: Mapping[str, str]) -> Path:
    """The folder of a dataset of these very records, built when they are first given.

    Raises:
        RequestError: a record that cannot be used.
    """
    text = json.dumps([list(records), dict(columns)], sort_keys=True, ensure_ascii=False)
    folder = workspace.path / FOLDER / f"inline-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        build_dataset(workspace, Build(str(folder), records=records, columns=columns, dedupe="no"))
    return folder


def _ask(workspace: Workspace, python: Path, words: list[str], given: bytes | None) -> dict[str, Any]:
    command = [str(python), "-m", "tuneyard.control.cli", "dataset", *words, "--json"]
    kept = {name: value for name, value in os.environ.items() if name not in ("INIT_CWD", "PYTHONPATH")}
    variables = {**kept, WORKSPACE_VARIABLE: str(workspace.path)}
    code, answer, log = communicate(command, variables, workspace.path, BUILD_SECONDS, "yard dataset", given=given)
    try:
        value = json.loads(answer)
    except ValueError:
        raise RunError(f"`yard dataset` ended with {code} and no answer: {log.strip()[-500:]}") from None
    if code != 0:
        raise raised_error(value.get("error")) or RunError(f"`yard dataset` failed: {log.strip()[-500:]}")
    return value


def _words(workspace: Workspace, asked: Build) -> list[str]:
    """The words of the command; every path among them has been looked at."""
    source = "-" if asked.source is None else _source(workspace, asked.source)
    words = [source, "--out", str(inside(workspace, asked.out)), "--name", asked.name, "--dedupe", asked.dedupe]
    words += [f"--{asked.mode}"] if asked.mode != "new" else []
    words += ["--format", asked.format] if asked.format else []
    words += ["--drop", ",".join(asked.drop)] if asked.drop else []
    words += ["--max-tokens", str(asked.max_tokens)] if asked.max_tokens else []
    words += ["--tokenizer", _path(workspace, asked.tokenizer)] if asked.tokenizer else []
    words += ["--against", _source(workspace, asked.against)] if asked.against else []
    for role, column in asked.columns.items():
        words += ["--columns", f"{role}={column}"]
    return [*words, *(f"{name}={json.dumps(value)}" for name, value in asked.arguments.items())]


def _source(workspace: Workspace, given: str | Mapping[str, Any]) -> str:
    if isinstance(given, str):
        return _path(workspace, given)
    paths = {key: _path(workspace, str(given[key])) for key in ("source", "filter", "converter") if key in given}
    paths |= {"path": _path(workspace, str(given["path"]))} if given.get("path") else {}
    return json.dumps({**given, **paths})


def _path(workspace: Workspace, text: str) -> str:
    """What a text names, with its path absolute; builtin:, run: and hub ids are no paths.

    Raises:
        RequestError: a path outside the workspace, or a pipe, which a program here has not.
    """
    if text.startswith("-"):
        raise RequestError(f"{text!r} is no source", way_out="give the rows as records")
    if text.startswith(("builtin:", "run:")):
        return text
    path, colon, name = text.rpartition(":")
    if colon and path.endswith(".py"):
        return f"{inside(workspace, path)}:{name}"
    full = workspace.path / os.path.expanduser(text)
    if os.path.lexists(full) or text.startswith(("/", "~", ".")):
        return str(inside(workspace, text))
    return text
