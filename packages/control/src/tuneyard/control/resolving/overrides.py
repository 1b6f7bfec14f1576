"""`a.b=VALUE` on the command line: changes to a spec, VALUE read as YAML, lists also as `x,y`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.control.resolving.anchors import Keys, anchored, existing, role
from tuneyard.core.documents import parse_yaml
from tuneyard.core.errors import RequestError

SHORTHAND = {
    "model": "reference",
    "adapter": "reference",
    "dataset": "source",
    "eval_dataset": "source",
    "tasks": "task",
}
"""Fields that may be one string, and the key of the mapping that the string stands for."""

LISTS = frozenset({"dataset", "eval_dataset", "tasks", "callbacks"})
"""Fields that hold a list, or its only entry."""

_OVERRIDE = re.compile(r"([A-Za-z_][\w-]*(?:\.[\w-]+)*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Override:
    """One change to a spec."""

    keys: Keys
    value: Any
    """With absolute paths."""
    given: Any = None
    """The value as it was given."""

    @property
    def name(self) -> str:
        return ".".join(self.keys)


def parse_words(words: Iterable[str], base: Path) -> tuple[str | None, list[Override]]:
    """The words behind a command: at most one SPEC, and the overrides.

    Args:
        words: `engine.learning_rate=3e-4`, `tasks=gsm8k,arithmetic`, or a bare word, which is the SPEC. A file whose
            own name has the form of an override is written `./a=b.yaml`.
        base: the folder that relative paths in values are meant from.

    Raises:
        RequestError: more than one bare word, or a value that is not YAML.
    """
    spec: str | None = None
    overrides = []
    for word in words:
        if match := _OVERRIDE.fullmatch(word):
            overrides.append(parse_override(match[1], match[2], base))
        elif spec is not None:
            raise RequestError(f"{spec!r} and {word!r}: one SPEC at a time", way_out="settings are written key=value")
        else:
            spec = word
    return spec, overrides


def parse_override(name: str, text: str, base: Path) -> Override:
    """`name=text`, with `text` read as YAML unless it names a file: paths need no quotes, whatever is in them."""
    keys = tuple(name.split("."))
    return _anchored(keys, _value(keys, text, base), base)


def _anchored(keys: Keys, given: Any, base: Path) -> Override:
    return Override(keys, anchored(given, [base], keys), given)


def _value(keys: Keys, text: str, base: Path) -> Any:
    if role(keys) is not None and _names_file(text, base):
        return text
    value = parse_yaml(text, f"{'.'.join(keys)}=")
    if isinstance(value, str) and "," in value and keys[-1] in LISTS:
        return [part.strip() for part in value.split(",")]
    return value


def _names_file(text: str, base: Path) -> bool:
    path, _, name = text.rpartition(":")
    return bool(text) and (
        existing(text, [base]) is not None or (name.isidentifier() and existing(path, [base]) is not None)
    )


def from_fields(fields: dict[str, Any], base: Path) -> list[Override]:
    """Overrides from Python values, as `train(spec, seed=1, **{"engine.lora_rank": 8})` gives them."""
    return [_anchored(tuple(name.split(".")), _plain(value), base) for name, value in fields.items()]


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def apply(given: dict[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """`given` with every override in its place; the mapping that was given stays as it is.

    Raises:
        RequestError: a key leads into a plain value, or into a list without saying which entry.
    """
    for override in overrides:
        given = _placed(given, override.keys, override.value, ())
    return given


def _placed(node: Any, keys: Keys, value: Any, above: Keys) -> Any:
    if not keys:
        # settings of the library are added to those that are there; anything else is replaced
        return (
            {**node, **value} if above == ("engine",) and isinstance(node, dict) and isinstance(value, dict) else value
        )
    if isinstance(node, list) or (node is None and keys[0].isdigit()):
        return _placed_in_list(node or [], keys, value, above)
    if keys[0] == "0" and len(above) == 1 and above[0] in LISTS:
        return _placed(node, keys[1:], value, above)  # an only entry, written without the list around it
    if isinstance(node, str) and above and above[0] in SHORTHAND:
        node = {SHORTHAND[above[0]]: node}
    if node is not None and not isinstance(node, dict):
        place = ".".join(above)
        raise RequestError(f"{place} is {node!r}, which has no key {keys[0]!r}", where=".".join((*above, *keys)))
    inside = node or {}
    return {**inside, keys[0]: _placed(inside.get(keys[0]), keys[1:], value, (*above, keys[0]))}


def _placed_in_list(entries: list[Any], keys: Keys, value: Any, above: Keys) -> list[Any]:
    if not keys[0].isdigit():
        if len(entries) != 1:
            name = ".".join(above)
            raise RequestError(f"{name} has {len(entries)} entries", way_out=f"say which: {name}.0.{'.'.join(keys)}=…")
        keys = ("0", *keys)
    number = int(keys[0])
    if number > len(entries):
        raise RequestError(f"{'.'.join(above)} has {len(entries)} entries", where=".".join((*above, *keys)))
    old = entries[number] if number < len(entries) else None
    return [*entries[:number], _placed(old, keys[1:], value, above), *entries[number + 1 :]]
