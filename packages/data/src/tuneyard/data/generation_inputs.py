"""From records to what is put to a model: the inputs of a generation, runs/ID/data/inputs.jsonl.

The answers that records have are taken off and kept as the target, where they have no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneyard.core.files import explain_os_error, sha256_of_file, write_json
from tuneyard.core.generation import IMAGE as PLACE
from tuneyard.core.generation import Input
from tuneyard.core.references import DatasetFormat
from tuneyard.data.cursor import Cursor
from tuneyard.data.manifest import MANIFEST, DataManifest, DatasetEntry
from tuneyard.data.records import Message, Record
from tuneyard.data.sources import Source
from tuneyard.data.turns import IMAGE, BadRow
from tuneyard.data.writing import with_stored_images


def write_inputs(folder: Path, source: Source) -> DataManifest:
    """Write every record of a dataset as an input, and the manifest.

    Args:
        folder: empty, or not there.
        source: the dataset.

    Raises:
        RequestError: a record that cannot be an input (with file, line and text), or no record at all.
        SetupError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, cursor = folder / "inputs.jsonl", Cursor(name=source.where)
    rows = 0
    forms: set[DatasetFormat] = set()
    try:
        with open(path, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            for asked, form in _inputs(source, cursor, folder):
                file.write(asked.line() + "\n")
                forms.add(form)
                rows += 1
    except OSError as error:
        raise explain_os_error(error, path) from error
    entry = DatasetEntry(
        name="inputs",
        role="input",
        file=path.name,
        rows=rows,
        bytes=path.stat().st_size,
        sha256=sha256_of_file(path),
        format="sharegpt" if "sharegpt" in forms else forms.pop(),
        source=source.asked.model_dump(exclude_defaults=True),
        source_sha256=source.sha256(),
        revision=source.revision,
        read=cursor.read,
    )
    manifest = DataManifest(datasets=[entry])
    write_json(folder / MANIFEST, manifest.model_dump())
    return manifest


def _inputs(source: Source, cursor: Cursor, folder: Path) -> Iterator[tuple[Input, DatasetFormat]]:
    for number, record in enumerate(source.records(cursor)):
        try:
            yield input_of(record, number, folder), _format(record)
        except BadRow as reason:
            raise cursor.error(str(reason)) from reason


def _format(record: Record) -> DatasetFormat:
    return "sharegpt" if record.messages is not None else "text" if record.text is not None else "alpaca"


def input_of(record: Record, number: int, folder: Path) -> Input:
    """A record as an input.

    Args:
        record: of any format.
        number: its place in the dataset, from 0.
        folder: where images go that come as bytes, into `images`.

    Raises:
        BadRow: it asks nothing, or its conversation is broken.
    """
    asked, answer = _asked(record)
    return Input(
        number=number,
        id=record.id,
        **asked,
        system=record.system,
        tools=list(record.tools),
        images=with_stored_images({"images": [*record.images]}, "images", folder)["images"],
        target=record.target if record.target is not None else _text(answer),
        metadata=record.metadata,
    )


def _asked(record: Record) -> tuple[dict[str, Any], str | Message | None]:
    """What is put to the model, and the answer that the record has to it."""
    if record.messages is None:
        prompt = record.prompt if record.prompt is not None else record.text
        if not prompt or not prompt.strip():
            raise BadRow("there is nothing to answer: the prompt is empty")
        return {"prompt": _places(prompt)}, record.chosen or record.response
    turns = list(record.messages)
    answer = turns.pop() if turns and turns[-1]["role"] == "assistant" else None
    if not turns or turns[-1]["role"] not in ("user", "tool"):
        raise BadRow("there is nothing to answer: the conversation has no turn of the user's before its end")
    return {"messages": [{**turn, "content": _places(turn["content"])} for turn in turns]}, record.chosen or answer


def _text(answer: str | Message | None) -> str | None:
    return answer["content"] if isinstance(answer, dict) else answer


def _places(text: str) -> str:
    return text.replace(IMAGE, PLACE)
