"""YAML and JSON documents, read strictly: no duplicate key, no unknown key, and `3e-4` is a number."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from tuneyard.core.errors import RequestError, nearest

SCHEMA_VERSION = 1
"""The version of every document that this release writes. It reads this one and the one before."""


class Document(BaseModel):
    """Base of everything that is written to or read from a file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


M = TypeVar("M", bound=BaseModel)


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader with YAML 1.2's floats and without silent duplicate keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain value", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1, which PyYAML follows, wants a dot and a sign in an exponent, so `3e-4` would be a string.
# The pattern is the float of YAML 1.2's core schema (section 10.3.2).
# It also reads `8:00:00` as a number to the base of 60: here it is text, so that a library reads it as it was written.
_REPLACED = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int")
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in _StrictLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Args:
        text: the document; JSON is YAML too.
        where: the name of the file, or what the text is, for messages.

    Raises:
        RequestError: not YAML, a tab used for indentation, a duplicate key; with the line.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        raise _yaml_error(error, text, where) from error
    except yaml.YAMLError as error:
        raise RequestError(f"not valid YAML: {error}", where=where) from error


def _yaml_error(error: yaml.MarkedYAMLError, text: str, where: str) -> RequestError:
    mark = error.problem_mark or error.context_mark
    place = f"{where}:{mark.line + 1}" if mark else where
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return RequestError("a tab is used for indentation", where=place, way_out="indent with spaces")
    return RequestError(f"{error.problem or 'not valid YAML'}", where=place)


def read_yaml(path: Path) -> Any:
    """The value in a YAML or JSON file.

    Raises:
        RequestError: the file is missing, a folder, not UTF-8, or not valid.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RequestError("no such file", where=str(path), way_out=_like_named(path)) from error
    except IsADirectoryError as error:
        raise RequestError("is a folder, not a file", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise RequestError(f"is not UTF-8 text (byte {error.start})", where=str(path)) from error
    return parse_yaml(text, str(path))


def _like_named(path: Path) -> str | None:
    folder = path.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist either"
    guess = nearest(path.name, (p.name for p in folder.iterdir()))
    return f"did you mean {folder / guess}?" if guess else None


def check_version(data: dict[str, Any], where: str) -> None:
    """Refuse a document that a newer release wrote, before anything else in it is looked at.

    Raises:
        RequestError: `schema_version` is not a version that this release reads.
    """
    version = data.get("schema_version", SCHEMA_VERSION)
    if version in (SCHEMA_VERSION, SCHEMA_VERSION - 1):
        return
    newer = isinstance(version, int) and version > SCHEMA_VERSION
    raise RequestError(
        f"schema_version {version!r} is not one that this release reads ({SCHEMA_VERSION - 1} or {SCHEMA_VERSION})",
        where=where,
        way_out="update tuneyard (`git pull`)" if newer else "write the document anew from its source",
    )


def validate(model: type[M], data: Any, where: str) -> M:
    """`data` as a `model`, every problem named by its key.

    Raises:
        RequestError: a key is unknown (with the nearest known one), missing or of the wrong type.
    """
    if isinstance(data, dict):
        check_version(data, where)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise RequestError(_first_lines(error, model), where=where, way_out=_nearest_key(error, model)) from error


def read_document(path: Path, model: type[M]) -> M:
    """The document in `path`, validated; see `validate` for what is raised."""
    if path.suffix == ".json":
        return validate(model, _read_strict_json(path), str(path))
    return validate(model, read_yaml(path), str(path))


def _read_strict_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RequestError("no such file", where=str(path), way_out=_like_named(path)) from error
    except ValueError as error:
        raise RequestError(f"not valid JSON: {error}", where=str(path)) from error


def _first_lines(error: ValidationError, model: type[BaseModel]) -> str:
    problems = [_problem(e) for e in error.errors(include_url=False)]
    more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
    return "; ".join(problems[:5]) + more


def _problem(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    if error["type"] == "missing":
        return f"the key {key!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (got {_short(error.get('input'))})" if key else message


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _nearest_key(error: ValidationError, model: type[BaseModel]) -> str | None:
    for problem in error.errors(include_url=False):
        if problem["type"] != "extra_forbidden":
            continue
        known = _fields_at(model, problem["loc"][:-1])
        guess = nearest(str(problem["loc"][-1]), known)
        if guess:
            return f"did you mean {guess!r}?"
        if known:
            return "known keys: " + ", ".join(sorted(known))
    return None


def _fields_at(model: Any, location: tuple[Any, ...]) -> list[str]:
    """The keys of the model that stands at `location`, as far as annotations tell."""
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        candidates = [a for a in _leaves(field.annotation) if hasattr(a, "model_fields")] if field else []
        if candidates:
            model = candidates[0]
    return list(getattr(model, "model_fields", {}))


def _leaves(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", None)
    return [leaf for a in arguments for leaf in _leaves(a)] if arguments else [annotation]
