"""The user's Python files that one of them imports: found without being run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def imported_files(path: Path) -> list[Path]:
    """What lies beside a file, or in folders beside it, that it imports, and what that imports; not the file itself.

    Imports inside functions count. What a name made at run time imports is not found, nor what is no Python.
    """
    found: dict[Path, None] = {}
    _collect(path, path.parent, found)
    found.pop(path, None)
    return list(found)


def _collect(file: Path, top: Path, found: dict[Path, None]) -> None:
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (OSError, SyntaxError, ValueError):
        return  # whoever runs it is told
    for node in ast.walk(tree):
        for imported in _named(node, file, top):
            if imported not in found and imported.is_file():
                found[imported] = None
                _collect(imported, top, found)


def _named(node: ast.AST, file: Path, top: Path) -> Iterator[Path]:
    """The files that an import may mean."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _of_module(top, alias.name.split("."))
    elif isinstance(node, ast.ImportFrom):
        folder = file.parents[node.level - 1] if 0 < node.level <= len(file.parents) else top
        module = node.module.split(".") if node.module else []
        yield from _of_module(folder, module)
        for alias in node.names:  # a module of the package, where it is no name in it
            yield from _of_module(folder.joinpath(*module), [alias.name])


def _of_module(folder: Path, parts: list[str]) -> Iterator[Path]:
    """The module's file, and the packages that are imported on the way to it."""
    for part in parts:
        folder = folder / part
        yield folder / "__init__.py"
    if parts:
        yield folder.with_suffix(".py")
