"""What the columns of a dataset mean: told by its owner, or seen from their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError, nearest, unknown
from tuneyard.core.references import DatasetFormat
from tuneyard.data.turns import Tags

Row = Mapping[str, Any]

NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("instruction", "prompt", "question", "problem", "query"),
    "query": ("input", "context"),
    "response": ("output", "response", "answer", "completion", "solution"),
    "messages": ("conversations", "messages", "conversation"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "label": ("label", "kto_tag"),
    "text": ("text",),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "tools": ("tools", "functions"),
    "images": ("images", "image"),
    "id": ("id",),
    "target": ("target",),
}
"""Role -> the names of columns that are taken for it where nobody says otherwise, the likeliest first."""

OPTIONAL_ROLES = ("query", "system", "history", "tools", "images", "id", "target")
"""Roles that a row, and so the first one, may lack."""

ALIASES = {"instruction": "prompt", "input": "query", "output": "response", "kto_tag": "label"}
"""Other names of roles: LLaMA-Factory's, and those of alpaca's own columns."""

LACKING = "docs/data.md tells what each format needs; say by `columns` which column is what, or give a `converter`"


@dataclass(frozen=True)
class Layout:
    """What the columns of a dataset mean."""

    format: DatasetFormat
    columns: dict[str, str]
    """Role -> column."""
    tags: Tags | None = None
    """How turns are written; None: seen from each."""
    folder: Path | None = None
    """Folder that relative paths of images start from; None: the present one."""


def layout_of(
    row: Row, columns: Mapping[str, str], format: DatasetFormat | None, where: str, *, answered: bool = True
) -> Layout:
    """What the columns mean, from the first row of a dataset.

    Args:
        row: the first row.
        columns: role -> column, as far as it was told.
        format: the format, where it was told.
        where: the dataset, for messages.
        answered: whether answers are needed; without, a column for what is asked is enough.

    Raises:
        RequestError: a role or column that is not there (with the nearest), or no format fits the columns.
    """
    known = _told(columns, row, where)
    taken = set(known.values())
    for role, names in NAMES.items():
        found = next((n for n in names if n in row and n not in taken), None)
        if role not in known and found:
            known[role] = found
            taken.add(found)
    if "prompt" not in known and "query" in known and "response" in known:
        known["prompt"] = known.pop("query")
    found_format = format or _guess(known, row) or (None if answered else _guess_asked(known))
    if found_format is None:
        raise RequestError(f"no format fits the columns {listed(row)}", where=where, way_out=LACKING)
    if answered or found_format != "alpaca" or "prompt" not in known:
        _check_needs(found_format, known, row, where)
    for role in OPTIONAL_ROLES:  # a later row may have them
        if NAMES[role][0] not in known.values():
            known.setdefault(role, NAMES[role][0])
    return Layout(found_format, known)


def _told(columns: Mapping[str, str], row: Row, where: str) -> dict[str, str]:
    told: dict[str, str] = {}
    for given, column in columns.items():
        role = ALIASES.get(given, given)
        if role not in NAMES:
            raise unknown("role in `columns`", given, [*NAMES, *ALIASES], where=where)
        if column not in row and role not in OPTIONAL_ROLES:
            guess = nearest(column, row)
            raise RequestError(
                f"`columns` says that {given} is in {column!r}, but the columns are {listed(row)}",
                where=where,
                way_out=f"did you mean {guess!r}?" if guess else None,
            )
        told[role] = column
    return told


def _guess(known: Mapping[str, str], row: Row) -> DatasetFormat | None:
    if "chosen" in known and "rejected" in known:
        return "preference"
    answered = "messages" in known or ("prompt" in known and "response" in known)
    if answered and "label" in known and isinstance(row[known["label"]], bool):
        return "kto"
    if "messages" in known:
        return "sharegpt"
    if answered:
        return "alpaca"
    return "text" if "text" in known else None


def _guess_asked(known: Mapping[str, str]) -> DatasetFormat | None:
    return "alpaca" if "prompt" in known else None


def _check_needs(format: DatasetFormat, known: Mapping[str, str], row: Row, where: str) -> None:
    asked = "messages" if "messages" in known else "prompt"
    needs: dict[DatasetFormat, tuple[str, ...]] = {
        "alpaca": ("prompt", "response"),
        "sharegpt": ("messages",),
        "preference": ("chosen", "rejected") if _holds_turns(known, row) else (asked, "chosen", "rejected"),
        "kto": ("messages", "label") if asked == "messages" else ("prompt", "response", "label"),
        "text": ("text",),
    }
    for role in needs[format]:
        if role not in known:
            expected = " or ".join(NAMES[role])
            guess = next((n for name in NAMES[role] if (n := nearest(name, row))), None)
            raise RequestError(
                f"{format} needs a column for {role} ({expected}), but the columns are {listed(row)}",
                where=where,
                way_out=f"columns: {{{role}: {guess}}}, if that is the one" if guess else LACKING,
            )


def _holds_turns(known: Mapping[str, str], row: Row) -> bool:
    return "chosen" in known and isinstance(row.get(known["chosen"]), list)


def listed(row: Row) -> str:
    """The columns of a row, as messages name them."""
    return ", ".join(map(str, row)) or "none"
