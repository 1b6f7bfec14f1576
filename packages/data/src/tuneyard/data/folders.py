"""Folders as datasets: which files of a folder belong to a split, and the entries of a dataset_info.json."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.files import read_json
from tuneyard.data.reading import is_data_file

INFORMATION = "dataset_info.json"
"""The file in which LLaMA-Factory describes the datasets of a folder."""

NO_DATA = frozenset({INFORMATION, "dataset_infos.json", "dataset_dict.json", "manifest.json", "state.json"})
"""JSON files that describe data and hold none."""

_WORDS = {
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_KNOWN = frozenset({"train", "validation", "test", *_WORDS})
_SHARD = re.compile(r"(?P<split>\w+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?=\.)")
_HELD_BY = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


def files_of(folder: Path, split: str) -> list[Path]:
    """The data files below a folder that belong to a split, sorted; hidden ones are left out.

    Raises:
        RequestError: the folder holds no data file, or none of this split.
    """
    return [folder / name for name in of_split(_data_files(folder), split, str(folder))]


def _data_files(folder: Path) -> list[str]:
    files = (p for p in folder.rglob("*") if p.is_file() and is_data_file(p) and p.name not in NO_DATA)
    names = [p.relative_to(folder).as_posix() for p in files]
    names = sorted(n for n in names if not any(part.startswith(".") for part in n.split("/")))
    if not names:
        raise RequestError(
            "the folder holds no data file",
            where=str(folder),
            way_out="put .jsonl, .json, .csv or .parquet files into it",
        )
    return names


def of_split(names: Iterable[str], split: str, where: str) -> list[str]:
    """The file names that belong to a split; where no name tells of one, all of them are `train`.

    Raises:
        RequestError: there are other splits, but not this one; or a file of a numbered series is missing.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(split_name(name) or "", []).append(name)
    wanted = _WORDS.get(split, split)
    if set(groups) == {""} and wanted == "train":
        return groups[""]
    if wanted not in groups:
        there = sorted(set(groups) - {""}) or ["train"]
        raise RequestError(f"there is no split {split!r}", where=where, way_out="its splits: " + ", ".join(there))
    _check_series(groups[wanted], where)
    return groups[wanted]


def split_name(name: str) -> str | None:
    """The split that a file's name tells of, or, where it tells of none, the name of the nearest folder."""
    for part in reversed(name.split("/")):
        if shard := _SHARD.match(part):
            return _WORDS.get(shard["split"], shard["split"])
        for word in re.findall(r"[a-z]+", part.lower().partition(".")[0]):
            if word in _KNOWN:
                return _WORDS.get(word, word)
    return None


def _check_series(names: list[str], where: str) -> None:
    """Files are numbered `-00000-of-00003`: all of a series must be there, or a part would pass for the whole."""
    series: dict[tuple[str, int], set[int]] = {}
    for name in names:
        if shard := _SHARD.search(name):
            key = (name[: shard.start("number")], int(shard["count"]))
            series.setdefault(key, set()).add(int(shard["number"]))
    for (stem, count), numbers in series.items():
        if len(numbers) < count:
            missing = sorted(set(range(count)) - numbers)
            raise RequestError(
                f"{len(missing)} of {count} files {stem}… are missing, the first of them number {missing[0]:05d}",
                where=where,
                way_out="download the dataset again, whole",
            )


def has_entries(folder: Path) -> bool:
    """Whether the folder's dataset_info.json is LLaMA-Factory's, not the file of that name that `datasets` writes."""
    path = folder / INFORMATION
    if not path.is_file():
        return False
    return bool(_entries(_read_information(path)))


def read_entry(folder: Path, name: str | None) -> tuple[str, dict[str, Any]]:
    """Name and description of a dataset in a folder's dataset_info.json.

    Args:
        folder: holds dataset_info.json.
        name: the entry; None for the only one.

    Raises:
        RequestError: not valid JSON, no such entry, or no name given where there are several.
    """
    path = folder / INFORMATION
    entries = _entries(_read_information(path))
    if name is None and len(entries) == 1:
        return next(iter(entries.items()))
    if name is None:
        some = ", ".join(sorted(entries)[:10])
        several = f"{len(entries)} datasets are described here"
        raise RequestError(several, where=str(path), way_out=f"name: one of {some}")
    if name not in entries:
        raise unknown("dataset", name, entries, where=str(path))
    return name, entries[name]


def _read_information(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError as error:
        raise RequestError(f"not valid JSON: {error}", where=str(path)) from error


def _entries(information: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(information, dict):
        return {}
    return {n: e for n, e in information.items() if isinstance(e, dict) and any(k in e for k in _HELD_BY)}


def files_of_entry(folder: Path, name: str, entry: dict[str, Any]) -> list[Path]:
    """The files of a described dataset; its `file_name` may be a folder.

    Raises:
        RequestError: nothing there, or the entry lies where tuneyard does not fetch data from.
    """
    if "file_name" not in entry:
        held = next(k for k in _HELD_BY if k in entry)
        raise RequestError(
            f"dataset {name!r} lies where tuneyard does not fetch data from ({held})",
            where=str(folder / INFORMATION),
            way_out="download it, and name the file by `file_name`",
        )
    path = folder / str(entry["file_name"])
    if path.is_dir():
        return [path / file for file in _data_files(path)]
    if not path.is_file():
        raise RequestError(f"the file of dataset {name!r} is missing: {path}", where=str(folder / INFORMATION))
    return [path]
