"""`path/file.py:function` in a spec: found without being run, hashed, and copied into the run folder."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from tuneyard.core.errors import RequestError, nearest
from tuneyard.core.files import sha256_of_file
from tuneyard.core.imported_files import imported_files
from tuneyard.core.references import CodeFile, CodeRef


def resolve_code(reference: CodeRef | str, where: str) -> CodeRef:
    """A reference to code with the hash of its file; the path is absolute already.

    The file is read, not run: whether it works is for the worker's `check` to say.

    Raises:
        RequestError: no such file, not Python, or nothing of that name at its top.
    """
    code = parse_code(reference, where) if isinstance(reference, str) else reference
    path = Path(code.path)
    if not path.is_file():
        raise RequestError(f"no such file: {path}", where=where)
    names = _names_at_top(path, where)
    if names is not None and code.name not in names:
        guess = nearest(code.name, names)
        known = "it has: " + ", ".join(sorted(names)) if names else "it defines nothing"
        way_out = f"did you mean {guess!r}?" if guess else known
        raise RequestError(f"{path} has no {code.name!r}", where=where, way_out=way_out)
    return code.model_copy(update={"sha256": sha256_of_file(path)})


def parse_code(text: str, where: str) -> CodeRef:
    """`path/file.py:function` as a reference.

    Raises:
        RequestError: it is not written so.
    """
    try:
        return CodeRef.model_validate(text)
    except ValidationError as error:
        raise RequestError(f"{text!r} must be written path/file.py:function", where=where) from error


def _names_at_top(path: Path, where: str) -> set[str] | None:
    """What a Python file defines at its top; None where it imports `*`, which only running it would tell."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise RequestError(f"is not valid Python: {path}{line}: {error}", where=where) from error
    names: set[str] = set()
    for node in _statements(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        else:
            stored = (n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
            names |= {n.id for n in stored}
    return None if "*" in names else names


def _statements(body: list[ast.stmt]) -> Iterable[ast.stmt]:
    """The statements of a module, those inside `if` and `try` included."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            handlers = [s for h in node.handlers for s in h.body] if isinstance(node, ast.Try) else []
            rest = node.finalbody if isinstance(node, ast.Try) else []
            yield from _statements([*node.body, *handlers, *node.orelse, *rest])
        else:
            yield node


def copy_code(references: Iterable[CodeFile], folder: Path) -> None:
    """Copy every file, once each, into the `code` folder of a run; equal names get a number."""
    taken: dict[str, str] = {}
    for path in dict.fromkeys(reference.path for reference in references):
        folder.mkdir(exist_ok=True)
        name = Path(path).name
        number = 1
        while name in taken:
            number += 1
            name = f"{Path(path).stem}-{number}{Path(path).suffix}"
        taken[name] = path
        shutil.copyfile(path, folder / name)


def with_imported_files(named: Iterable[CodeFile]) -> list[CodeFile]:
    """Every file once, however many functions of it are named, and what lies beside it that it imports."""
    found = {code.path: code for code in named}
    for path in [path for path in found if path.endswith(".py")]:
        for file in imported_files(Path(path)):
            if str(file) not in found:
                found[str(file)] = CodeFile(path=str(file), sha256=sha256_of_file(file))
    return list(found.values())
