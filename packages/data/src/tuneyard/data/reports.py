"""What a person is told of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneyard.data.surveying import Survey


def entry_text(entry: dict[str, Any]) -> str:
    """An entry of a manifest, in lines."""
    what = f"{entry['rows']:,} rows ({entry['format']}), {entry['bytes']:,} bytes"
    head = f"{entry['name']}: {what}, sha256 {entry['sha256'][:12]}…"
    return "\n".join([head, *(f"  {line}" for line in (*_left_out(entry), *_looked_at(entry), *entry["notes"]))])


def _left_out(entry: dict[str, Any]) -> list[str]:
    told = []
    if entry["duplicates"]:
        told.append(f"{entry['duplicates']:,} of {entry['read']:,} rows left out as doubles ({entry['dedupe']})")
    return told + [f"{count:,} {kind} rows left out" for kind, count in entry["dropped"].items() if count]


def _looked_at(entry: dict[str, Any]) -> list[str]:
    return [*_tokens(entry["tokens"]), *_contamination(entry["contamination"])]


def _tokens(tokens: dict[str, Any] | None) -> list[str]:
    if tokens is None:
        return []
    told = (
        f"{tokens['total']:,} tokens ({tokens['tokenizer']}): {tokens['shortest']} to {tokens['longest']} a row, "
        f"half within {tokens['median']}, 95 % within {tokens['most']}; a template's own come on top"
    )
    if not tokens["over"]:
        return [told]
    over = (
        f"warning: {tokens['over']:,} rows of over {tokens['limit']} tokens would be cut, by {tokens['cut']:,} in all"
    )
    return [told, over]


def _contamination(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    documents = f"{found['documents']:,} documents of {found['against']}"
    if not found["rows"]:
        return [f"none of the {documents} is in the rows"]
    told = f"warning: {found['rows']:,} rows hold {found['found']:,} of the {documents}"
    return [told, *(f"  {each}" for each in found["first"])]


def survey_text(found: Survey) -> str:
    """What a check found, in lines."""
    facts = found.facts
    lines = [f"{found.name}: {found.read:,} rows, {found.sound:,} of them sound"]
    if facts["duplicates"]:
        lines.append(f"  {facts['duplicates']:,} doubles ({facts['dedupe']})")
    lines += [f"  {line}" for line in (*_tokens(facts["tokens"]), *_contamination(facts["contamination"]))]
    lines += [f"  {note}" for note in found.notes]
    lines += [f"  fault: {fault}" for fault in found.faults]
    return "\n".join(lines)
