"""Putting a dataset that has been written elsewhere into its folder, so that nobody ever sees half of it.

A new folder appears by one rename. In one that is there, the new files come first, under names that nobody has; then
dataset_info.json changes, in one step, and from then on the dataset is the new one; what it no longer names goes last.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tuneyard.core.documents import read_document
from tuneyard.core.errors import RequestError
from tuneyard.core.files import explain_os_error, read_json, write_atomically, write_json
from tuneyard.data.folders import INFORMATION
from tuneyard.data.manifest import MANIFEST, DataManifest, DatasetEntry

Mode = Literal["new", "append", "replace"]
"""What becomes of a folder that is there: it is refused; the dataset gets more rows; the dataset is replaced."""


@contextmanager
def workplace(folder: Path, mode: Mode) -> Iterator[Path]:
    """A folder to write into, on the disk of `folder`; while it is there nobody else changes that one.

    Raises:
        RequestError: the folder is there and nothing was said of it, is no dataset folder, or is being written to.
        SetupError: it may not be written to, or the disk is full.
    """
    check_target(folder, mode)
    stage = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    try:
        with _alone(folder):
            yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_target(folder: Path, mode: Mode) -> None:
    """Whether a dataset may be written there; raises RequestError where not."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if folder.is_dir() and mode != "new" and (folder / INFORMATION).is_file():
        return
    if folder.is_dir() and mode != "new":
        raise RequestError(f"holds no {INFORMATION}, so it is no dataset folder", where=str(folder))
    raise RequestError(
        "is there already, and nothing is written over it",
        where=str(folder),
        way_out="choose another folder, or say --append or --replace",
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    if not folder.is_dir():
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RequestError(
            "another build writes to this folder", where=str(folder), way_out="wait for its end, or choose another one"
        ) from error
    finally:
        os.close(descriptor)


def place(stage: Path, folder: Path, entry: DatasetEntry) -> DatasetEntry:
    """Put the one dataset of the folder `stage` into `folder`; its entry there, whose file may have another name.

    Raises:
        RequestError: the folder was made by somebody else in the meantime.
        SetupError: it may not be written to.
    """
    try:
        if not (folder / INFORMATION).is_file():
            place_new(stage, folder)
            return entry
        return _among_others(stage, folder, entry)
    except OSError as error:
        raise explain_os_error(error, folder) from error


def place_new(stage: Path, folder: Path) -> None:
    """Put a whole folder in its place, where nothing stands yet; see `place` for what is raised."""
    try:
        stage.rename(folder)
    except OSError as error:
        if not folder.exists():
            raise explain_os_error(error, folder) from error
        raise RequestError("was made by somebody else in the meantime", where=str(folder)) from error


def _among_others(stage: Path, folder: Path, entry: DatasetEntry) -> DatasetEntry:
    information = read_json(folder / INFORMATION)
    before = entry_in(folder, entry.name)
    file = _free_name(folder, entry)
    (stage / entry.file).rename(folder / file)
    _move_images(stage / "images", folder / "images")
    information[entry.name] = {**read_json(stage / INFORMATION)[entry.name], "file_name": file}
    placed = entry.model_copy(update={"file": file})
    write_atomically(folder / INFORMATION, json.dumps(information, indent=2) + "\n")
    _write_manifest(folder, placed)
    if before is not None and before.file != file and not _named(information, before.file):
        (folder / before.file).unlink(missing_ok=True)
    return placed


def _free_name(folder: Path, entry: DatasetEntry) -> str:
    if not (folder / entry.file).exists():
        return entry.file
    path = Path(entry.file)
    return f"{path.stem}-{entry.sha256[:12]}{path.suffix}"


def _move_images(source: Path, target: Path) -> None:
    """Images are named by their contents, so one of the same name is the same."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for image in source.iterdir():
            image.replace(target / image.name)


def _named(information: dict[str, Any], file: str) -> bool:
    return any(isinstance(e, dict) and e.get("file_name") == file for e in information.values())


def _write_manifest(folder: Path, entry: DatasetEntry) -> None:
    others = [e for e in entries_in(folder) if e.name != entry.name]
    write_json(folder / MANIFEST, DataManifest(datasets=[*others, entry]).model_dump())


def entries_in(folder: Path) -> list[DatasetEntry]:
    """What the folder's manifest tells of; nothing where there is none, as in a folder that others wrote."""
    path = folder / MANIFEST
    return read_document(path, DataManifest).datasets if path.is_file() else []


def entry_in(folder: Path, name: str) -> DatasetEntry | None:
    """What the manifest tells of one dataset; None where it does not know it."""
    return next((entry for entry in entries_in(folder) if entry.name == name), None)


def is_described(folder: Path, name: str) -> bool:
    """Whether dataset_info.json of a folder has a dataset of this name."""
    path = folder / INFORMATION
    return path.is_file() and name in read_json(path)
