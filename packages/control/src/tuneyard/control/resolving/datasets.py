"""Dataset references: from what a person wrote to absolute paths, commits and entries that are there."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tuneyard.control.resolving.code_refs import parse_code, resolve_code
from tuneyard.control.resolving.hub import Hub
from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.references import HUB_ID, CodeRef, DatasetSource
from tuneyard.core.run_folder import find_run, slug

INFORMATION = "dataset_info.json"
"""The file in which LLaMA-Factory describes the datasets of a folder."""


def resolve_dataset(source: DatasetSource, runs: Path, hub: Hub, where: str) -> DatasetSource:
    """A dataset reference with its path or commit filled in; relative paths in it are absolute already.

    Args:
        source: its `source` decides.
        runs: the folder of all runs.
        hub: asked for the commit of a hub id.
        where: the field, for messages.

    Raises:
        RequestError: nothing there, an entry or a run that does not exist, code that is not there.
        SetupError: the hub is needed and cannot be reached.
    """
    text = source.source
    for code in code_of(source, where):
        resolve_code(code, where)
    if text.startswith("builtin:"):
        return _builtin(source, hub, where)
    if text.startswith("run:"):
        return _from_run(source, runs, where)
    if Path(text).is_absolute():
        _check_path(Path(text), source.name, where)
        online = repository_of_entry(Path(text), source.name)
        revision = hub.freeze("datasets", online, source.revision, where) if online else None
        return source.model_copy(update={"path": text, "revision": revision})
    if HUB_ID.match(text):
        return source.model_copy(
            update={"path": None, "revision": hub.freeze("datasets", text, source.revision, where)}
        )
    raise RequestError(
        f"{text!r} is no path and no hub id",
        where=where,
        way_out="a dataset is builtin:NAME, a file, a folder, `owner/name` on the hub or `run:ID`",
    )


def code_of(source: DatasetSource, where: str) -> list[CodeRef]:
    """The user's functions that reading a dataset calls."""
    return [parse_code(text, f"{where}.{key}") for key in ("filter", "converter") if (text := getattr(source, key))]


def _builtin(source: DatasetSource, hub: Hub, where: str) -> DatasetSource:
    from tuneyard.data.builtin import CORPORA

    name = source.source.removeprefix("builtin:")
    if name not in CORPORA:
        raise unknown("built-in dataset", name, CORPORA, where=where)
    CORPORA[name].check(source.arguments, source.split, where)
    if name != "gsm8k":
        return source
    folder = gsm8k_folder(source.arguments.get("data"), where)
    if folder is not None:
        return source.model_copy(update={"path": str(folder), "revision": None})
    return source.model_copy(update={"path": None, "revision": hub.freeze("datasets", GSM8K, source.revision, where)})


GSM8K = "openai/gsm8k"
GSM8K_VARIABLE = "TUNEYARD_GSM8K"
"""Names a folder with GSM8K's train.jsonl and test.jsonl, for machines without the hub."""


def gsm8k_folder(given: str | None, where: str) -> Path | None:
    """The folder of GSM8K's own files: the one given, else TUNEYARD_GSM8K, else None.

    Raises:
        RequestError: it does not hold both files.
    """
    named = given or os.environ.get(GSM8K_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser().absolute()
    missing = [name for name in ("train.jsonl", "test.jsonl") if not (folder / name).is_file()]
    if missing:
        raise RequestError(
            f"{folder} is not GSM8K: it has no {' and no '.join(missing)}",
            where=where if given else GSM8K_VARIABLE,
            way_out="name the folder with GSM8K's train.jsonl and test.jsonl",
        )
    return folder


def _from_run(source: DatasetSource, runs: Path, where: str) -> DatasetSource:
    run = find_run(runs, source.source)
    state = run.status().state
    if state != "succeeded":
        raise RequestError(f"{run.id} is {state}: what it leaves is not there yet", where=where)
    if not (run.samples.is_file() or run.responses.is_file()):
        raise RequestError(f"{run.id} left no samples", where=where, way_out="name an evaluation or a generation")
    return source.model_copy(update={"source": f"run:{run.id}", "path": str(run.path)})


def _check_path(path: Path, entry: str | None, where: str) -> None:
    if not path.exists():
        near = path.parent if path.parent.is_dir() else None
        raise RequestError(
            f"no such file or folder: {path}", where=where, way_out=near and _nearest_in(near, path.name)
        )
    if path.is_file() and path.stat().st_size == 0:
        raise RequestError(f"the dataset is empty: {path}", where=where)
    if path.is_dir() and entry is not None and (path / INFORMATION).is_file():
        check_entry(path, entry, where)


def _nearest_in(folder: Path, name: str) -> str | None:
    from tuneyard.core.errors import nearest

    guess = nearest(name, (p.name for p in folder.iterdir()))
    return f"did you mean {folder / guess}?" if guess else None


def check_entry(folder: Path, entry: str, where: str) -> None:
    """Whether a folder's dataset_info.json has an entry, and the file of that entry is there.

    Raises:
        RequestError: it has no such entry (with the nearest), or the file is missing.
    """
    information = read_information(folder, where)
    if entry not in information:
        raise unknown("dataset", entry, information, where=str(folder / INFORMATION))
    file = information[entry].get("file_name") if isinstance(information[entry], dict) else None
    if file is not None and not (folder / str(file)).exists():
        raise RequestError(f"the file of dataset {entry!r} is missing: {folder / str(file)}", where=where)


def repository_of_entry(folder: Path, entry: str | None) -> str | None:
    """The hub id behind an entry of a folder's dataset_info.json (or its only one); None for what is in the folder."""
    if not (folder / INFORMATION).is_file():
        return None
    information = read_information(folder, str(folder))
    found = information.get(entry) if entry else next(iter(information.values()), None)
    name = found.get("hf_hub_url") if isinstance(found, dict) else None
    return str(name) if name else None


def needs_hub(source: DatasetSource) -> bool:
    """Whether a resolved dataset is loaded from the hub or its cache."""
    return source.revision is not None


def read_information(folder: Path, where: str) -> dict[str, dict[str, object]]:
    """dataset_info.json of a folder.

    Raises:
        RequestError: it is not there, or no JSON mapping.
    """
    path = folder / INFORMATION
    try:
        information = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RequestError(f"no {INFORMATION} in {folder}", where=where) from error
    except ValueError as error:
        raise RequestError(f"not valid JSON: {error}", where=str(path)) from error
    if not isinstance(information, dict):
        raise RequestError("must be a mapping of dataset names", where=str(path))
    return information


def name_of(source: DatasetSource) -> str:
    """A short name for a dataset, as it becomes part of a run's id."""
    if source.name:
        return slug(source.name)
    return slug(Path(source.source.removeprefix("builtin:").removeprefix("run:")).stem)
