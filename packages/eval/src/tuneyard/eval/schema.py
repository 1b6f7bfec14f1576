"""What `engine` may hold: the keys of lm-eval and of Inspect, read off their own functions and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, get_args, get_origin

from tuneyard.core.worker import installed
from tuneyard.eval import inspect_arguments, lm_eval_arguments, verbs


def schema() -> dict[str, Any]:
    """What the verb `schema` answers: each key with type, choices, default, help and the library that takes it."""
    found = installed()
    one, other = lm_eval_keys(), inspect_keys()
    both = {
        name: {**one[name], "library": "lm-eval, inspect", "type": _both(one[name]["type"], other[name]["type"])}
        for name in one
        if name in other
    }
    return {
        "keys": {**one, **other, **both},
        "versions": {name: found[name] for name in verbs.DISTRIBUTIONS if name in found},
    }


def lm_eval_keys() -> dict[str, dict[str, Any]]:
    """Keys of HFLM, of `simple_evaluate` and of the task manager."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    taken = {*lm_eval_arguments.OWNED, *lm_eval_arguments.OURS}
    others = {**lm_eval_arguments.OF_API, **lm_eval_arguments.HANDED_ON, **lm_eval_arguments.OF_MANAGER}
    handed_on = {name: _entry(kind, None, help_) for name, (kind, help_) in others.items()}
    keys = {**handed_on, **_keys(HFLM.__init__), **_keys(simple_evaluate)}
    return {name: {**entry, "library": "lm-eval"} for name, entry in keys.items() if name not in taken}


def inspect_keys() -> dict[str, dict[str, Any]]:
    """Keys of `inspect_ai.eval`, of its generation settings and of its Hugging Face provider."""
    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import GenerateConfigArgs

    taken = {*inspect_arguments.OWNED, *inspect_arguments.OURS}
    hints = inspect.get_annotations(GenerateConfigArgs)
    docs = _attribute_docs(inspect.getsource(GenerateConfigArgs))
    generation = {name: _entry(_type(hint), None, docs.get(name, "")) for name, hint in hints.items()}
    provider = {name: _entry("any", None, "Argument of Inspect's Hugging Face provider.") for name in _provider()}
    keys = {**_keys(inspect_eval), **generation, **provider}
    return {name: {**entry, "library": "inspect"} for name, entry in keys.items() if name not in taken}


def _provider() -> tuple[str, ...]:
    return inspect_arguments.OF_PROVIDER


def _keys(function: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    function = inspect.unwrap(function)
    helps = _argument_docs(inspect.getdoc(function) or "")
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind in kinds and p.name != "self"]
    return {p.name: _entry(_type(p.annotation), _plain(p.default), helps.get(p.name, "")) for p in parameters}


def _entry(kind: str, default: Any, help_: str) -> dict[str, Any]:
    return {"type": kind, "choices": None, "default": default, "help": help_}


_SIMPLE = {"int", "float", "bool", "str", "None", "dict", "list"}


def _type(annotation: Any) -> str:
    """`int | None` and the like; `any` for what only Python code can make, or where nothing is said."""
    if annotation is inspect.Parameter.empty:
        return "any"
    text = annotation if isinstance(annotation, str) else _name(annotation)
    parts = {_outer(part) for part in _alternatives(text)}
    if not parts <= _SIMPLE:
        return "any"
    return " | ".join(sorted(parts, key=lambda part: (part == "None", part)))


def _name(annotation: Any) -> str:
    if get_origin(annotation) is None or isinstance(annotation, type):
        return "None" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))
    if "|" in str(annotation) or "Union" in str(annotation):
        return " | ".join(_name(a) for a in get_args(annotation))
    return str(annotation)


def _alternatives(text: str) -> list[str]:
    """The parts of `a | b[c | d]` at its outermost `|`."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _outer(part: str) -> str:
    name = part.partition("[")[0].rpartition(".")[2]
    return {"PathLike": "str", "NoneType": "None"}.get(name, name)


def _both(one: str, other: str) -> str:
    """A type that takes what either takes."""
    if "any" in (one, other):
        return "any"
    parts = dict.fromkeys([*one.split(" | "), *other.split(" | ")])
    return " | ".join(sorted(parts, key=lambda part: (part == "None", part)))


def _plain(value: Any) -> Any:
    if value is inspect.Parameter.empty:
        return None
    return value if value is None or isinstance(value, bool | int | float | str | list | dict) else str(value)


def _argument_docs(text: str) -> dict[str, str]:
    """Argument -> its text in the `Args:` section of a docstring."""
    _, _, section = text.partition("Args:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    indent = len(section) - len(section.lstrip(" "))
    found: dict[str, list[str]] = {}
    name = ""
    for line in section.splitlines():
        match = re.match(rf" {{{indent}}}(\w+)(?: \([^)]*\))?: ?(.*)", line)
        if match:
            name = match.group(1)
            found[name] = [match.group(2)]
        elif name:
            found[name].append(line.strip())
    return {name: " ".join(" ".join(lines).split()) for name, lines in found.items()}


def _attribute_docs(source: str) -> dict[str, str]:
    """Attribute -> the docstring below it, from the source of a class."""
    import ast
    import textwrap

    (body,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for entry, below in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name) and is_text:
            docs[entry.target.id] = " ".join(str(below.value.value).split())  # type: ignore[union-attr]
    return docs
