"""From an entry of dataset_info.json to what is read of its rows, and between that and a Layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError, nearest
from tuneyard.data.layouts import Layout
from tuneyard.data.projection import READERS, Projection

ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
MESSAGES = {"messages": "conversations"}
"""LLaMA-Factory's columns where an entry names none: those of alpaca, and of the other formattings."""

KEPT = ("ranking", "split", "num_samples")
"""Settings of an entry that still hold when its file is another."""


def projection_of_entry(entry: Mapping[str, Any], folders: tuple[Path, ...], where: str) -> Projection:
    """What LLaMA-Factory reads of a dataset that a dataset_info.json describes.

    Raises:
        RequestError: an unknown formatting or column, or tags without those that name role and text.
    """
    formatting = entry.get("formatting", "alpaca")
    if formatting not in ("alpaca", "sharegpt", "openai"):
        raise RequestError(f"unknown formatting {formatting!r}", where=where, way_out="alpaca, sharegpt or openai")
    given = entry.get("columns")
    columns = {role: column for role, column in (given or _default_columns(formatting)).items() if column}
    for role in columns:
        if role not in READERS:
            guess = nearest(role, READERS)
            known = f"did you mean {guess!r}?" if guess else "known: " + ", ".join(READERS)
            raise RequestError(f"unknown key {role!r} in `columns`", where=where, way_out=known)
    wanted = ("prompt", "query") if formatting == "alpaca" else ("messages",)
    if not any(role in columns for role in wanted):
        raise RequestError(f"`columns` names no {wanted[0]}", where=where)
    tags = entry.get("tags") if formatting != "alpaca" else None
    if tags and not (tags.get("role_tag") and tags.get("content_tag")):
        raise RequestError("`tags` must name role_tag and content_tag", where=where)
    settings = {key: entry[key] for key in KEPT if entry.get(key)} | ({"tags": tags} if tags else {})
    return Projection(_only_used(columns, formatting, settings), formatting, settings, folders, lenient=True)


def _default_columns(formatting: str) -> dict[str, str]:
    return dict(ALPACA if formatting == "alpaca" else MESSAGES)


def _only_used(columns: dict[str, str], formatting: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Columns that are named, but not read: an alpaca response beside chosen and rejected, pairs without ranking."""
    unread = {"prompt", "query", "response", "history"} if formatting != "alpaca" else {"messages"}
    unread |= {"response"} if settings.get("ranking") else {"chosen", "rejected"}
    return {role: column for role, column in columns.items() if role not in unread}


def layout_of_entry(projection: Projection, where: str) -> Layout:
    """What the columns of a described dataset mean, for reading its rows as Records.

    Raises:
        RequestError: it has videos or audio, which a Record does not hold.
    """
    for role in ("videos", "audios"):
        if role in projection.columns:
            raise RequestError(
                f"{role} cannot be filtered or converted", where=where, way_out="leave out filter, limit and format"
            )
    text = projection.format == "text"
    names = {"kto_tag": "label", "prompt": "text" if text else "prompt"}
    columns = {names.get(role, role): column for role, column in projection.columns.items()}
    for role in ("id", "target"):  # which trainers do not read, and entries do not name
        if role not in columns.values():
            columns[role] = role
    folder = projection.folders[0] if projection.folders else None
    return Layout(projection.format, columns, None if projection.formatting == "alpaca" else projection.tags, folder)


def projection_of_layout(layout: Layout) -> Projection:
    """A projection for rows with texts in columns: alpaca, text, and pairs or labelled answers with a prompt."""
    if layout.format == "text":
        return Projection({"prompt": layout.columns["text"]})
    order = ("prompt", "query", "response", "chosen", "rejected", "label", "system", "history", "tools", "images")
    columns = {"kto_tag" if role == "label" else role: layout.columns[role] for role in order if role in layout.columns}
    settings = {"ranking": True} if layout.format == "preference" else {}
    unread = {"preference": {"response", "kto_tag"}, "kto": {"chosen", "rejected"}}.get(
        layout.format, {"chosen", "rejected", "kto_tag"}
    )
    columns = {role: column for role, column in columns.items() if role not in unread}
    return Projection(columns, "alpaca", settings, (layout.folder,) if layout.folder else ())
