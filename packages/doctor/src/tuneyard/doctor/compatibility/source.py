"""What a distribution's own code says about versions: checks made at run time, and which modules import what.

Read, never run: the syntax tree of each module is enough.
"""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CHECKS = {"check_version", "require_version", "require_version_core"}
"""Functions that take a requirement and stop where it is not met (transformers has the last two)."""

_PARSERS = {"parse", "vparse", "parse_version", "Version", "LooseVersion"}
_SIGNS = {ast.GtE: ">=", ast.Gt: ">", ast.LtE: "<=", ast.Lt: "<", ast.Eq: "==", ast.NotEq: "!="}
_OPPOSITE = {">=": "<", ">": "<=", "<=": ">", "<": ">=", "==": "!=", "!=": "=="}
_VERSIONED = re.compile(r"^([a-z][a-z0-9-]*)\s*(?:>=|<=|==|!=|~=|>|<)\s*[\d.]+", re.IGNORECASE)
_SKIPPED = ("tests/", "test/", "benchmarks/", "examples/")


@dataclass(frozen=True)
class RuntimeCheck:
    """A version that the code asks for when it runs."""

    requirement: str
    where: str
    """`lm_eval/models/huggingface.py:867`."""
    condition: str
    """When it is asked for; empty: whenever the line is reached."""
    stops: bool
    """Whether the code raises otherwise. False: it only takes another path."""


@dataclass(frozen=True)
class SourceFacts:
    """What the code of one distribution says."""

    checks: list[RuntimeCheck] = field(default_factory=list)
    imports: dict[str, list[str]] = field(default_factory=dict)
    """Top-level module imported -> the modules that import it. Its own are left out."""
    read: bool = False
    """Whether there was source to read."""

    @staticmethod
    def read_from(files: Iterable[tuple[str, str]]) -> SourceFacts:
        """From the text of each module, by its path inside the distribution."""
        checks: list[RuntimeCheck] = []
        imports: dict[str, set[str]] = {}
        for path, text in files:
            try:
                tree = ast.parse(text)
            except (SyntaxError, ValueError, RecursionError):
                continue  # a template, or written for another Python
            checks += _checks(tree, path)
            for module in _imported(tree):
                if module != path.partition("/")[0]:
                    imports.setdefault(module, set()).add(path)
        return SourceFacts(checks, {name: sorted(paths) for name, paths in sorted(imports.items())}, True)

    @staticmethod
    def from_cache(stored: dict[str, Any]) -> SourceFacts:
        """From what was kept in the cache."""
        return SourceFacts([RuntimeCheck(**check) for check in stored["checks"]], stored["imports"], stored["read"])


def facts_of_folder(folder: Path) -> SourceFacts:
    """The facts of what was installed into `folder`."""
    paths = ((path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*.py")))
    return SourceFacts.read_from((name, path.read_text("utf-8", "replace")) for name, path in paths if _counts(name))


def facts_of_wheel(archive: zipfile.ZipFile) -> SourceFacts:
    """The facts of an open wheel."""
    names = sorted(name for name in archive.namelist() if name.endswith(".py") and _counts(name))
    return SourceFacts.read_from((name, archive.read(name).decode("utf-8", "replace")) for name in names)


def _counts(name: str) -> bool:
    return not any(part in f"{name}/" for part in _SKIPPED)


def _imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _checks(tree: ast.AST, path: str) -> list[RuntimeCheck]:
    found = [_called(node, path) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found += [_asserted(node, path) for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    found += [_guarded(node, path) for node in ast.walk(tree) if isinstance(node, ast.If)]
    return [check for check in found if check]


def _called(node: ast.Call, path: str) -> RuntimeCheck | None:
    """`check_version("peft>=0.14.0,<=0.17.1")`."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name not in _CHECKS or not node.args or not isinstance(node.args[0], ast.Constant):
        return None
    text = node.args[0].value
    if not isinstance(text, str) or not _VERSIONED.match(text):
        return None
    return RuntimeCheck(text, f"{path}:{node.lineno}", "", True)


def _asserted(node: ast.Assert, path: str) -> RuntimeCheck | None:
    """`assert vparse(transformers.__version__) >= vparse("4.30.0")`."""
    compared = _comparison(node.test)
    return compared and RuntimeCheck("".join(compared), f"{path}:{node.lineno}", "", True)


def _guarded(node: ast.If, path: str) -> RuntimeCheck | None:
    """`if load_in_4bit and vparse(PEFT_VERSION) < vparse("0.4.0"): raise …`: the opposite is asked for."""
    if not any(isinstance(statement, ast.Raise) for statement in node.body):
        return None
    parts = node.test.values if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And) else [node.test]
    for part in parts:
        compared = _comparison(part)
        if compared:
            others = " and ".join(ast.unparse(other) for other in parts if other is not part)
            name, sign, version = compared
            return RuntimeCheck(f"{name}{_OPPOSITE[sign]}{version}", f"{path}:{node.lineno}", others, True)
    return None


def _comparison(node: ast.AST) -> tuple[str, str, str] | None:
    """Name, sign, version of a comparison of parsed versions."""
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return None
    version = _literal_version(node.comparators[0])
    name = _whose_version(node.left)
    sign = _SIGNS.get(type(node.ops[0]))
    return (name, sign, version) if version and name and sign else None


def _literal_version(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call) or _function(node) not in _PARSERS or len(node.args) != 1:
        return None
    argument = node.args[0]
    is_text = isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    return argument.value if is_text and re.fullmatch(r"\d[\w.]*", argument.value) else None  # type: ignore[union-attr]


def _function(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _whose_version(node: ast.AST) -> str | None:
    """The distribution whose version is parsed: `vparse(peft.__version__)`, `parse(version("a"))`, `PEFT_VERSION`."""
    node = node.value if isinstance(node, ast.NamedExpr) else node
    if not isinstance(node, ast.Call) or _function(node) not in _PARSERS or not node.args:
        return None
    name = None
    match node.args[0]:
        case ast.Call(args=[ast.Constant(value=str(named)), *_]) as call if _function(call) == "version":
            name = named
        case ast.Attribute(value=ast.Name(id=named), attr="__version__"):
            name = named
        case ast.Name(id=named) if named.upper().endswith("_VERSION"):
            name = named[: -len("_VERSION")].lower().strip("_")
    return name.replace("_", "-") if name else None
