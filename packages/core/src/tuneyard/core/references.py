"""What a spec may name: models, datasets and code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from tuneyard.core.documents import Document
from tuneyard.core.errors import RequestError

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
"""`owner/name`, as the Hugging Face hub spells a repository."""

ReferenceKind = Literal["hub", "folder", "run", "builtin"]


def kind_of(reference: str) -> ReferenceKind:
    """What a reference names, from its spelling alone: `run:…`, `builtin:…`, `owner/name`, else a path.

    An existing path wins over a hub id of the same spelling; start it with `./` to say so in a file.
    """
    if reference.startswith("run:"):
        return "run"
    if reference.startswith("builtin:"):
        return "builtin"
    if HUB_ID.match(reference) and not Path(reference).exists():
        return "hub"
    return "folder"


class ModelRef(Document):
    """A model. In a spec a person writes one string: `builtin:tiny`, `run:ID`, a folder, or a hub id.

    Resolving fills in the rest, so that a worker never has to decide or search.
    """

    reference: str
    """As it was asked for: `builtin:tiny`, `run:ID`, a folder, or `owner/name` on the hub."""
    path: str | None = None
    """Absolute folder of the weights; null for a model that the worker loads from the hub or its cache."""
    revision: str | None = None
    """Commit of a hub model, frozen when the hub could be asked; null otherwise."""
    adapter: str | None = None
    """Absolute folder of the adapter (PEFT) that goes on top of the weights; null for none."""
    run: str | None = None
    """Id of the run that produced the model or its adapter; null for a model without a run."""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"reference": value} if isinstance(value, str) else value

    @property
    def name_or_path(self) -> str:
        """What a library is given to load: the folder, else the hub id."""
        return self.path or self.reference


DatasetFormat = Literal["alpaca", "sharegpt", "preference", "kto", "text"]


class DatasetSource(Document):
    """A dataset. In a spec a person writes a string or a mapping with `source`.

    Keys that are not listed here are arguments of a built-in corpus (`{source: builtin:arithmetic, digits: 3}`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: str
    """`builtin:arithmetic`, `builtin:gsm8k`, a file, a folder of files or of LLaMA-Factory, a hub id, `run:ID`."""
    name: str | None = None
    """The entry of dataset_info.json, or the configuration of a hub dataset; null for the only one."""
    format: DatasetFormat | None = None
    """How rows are read; null: guessed from their columns."""
    split: str = "train"
    """Which split is used of a source that has several."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Role -> column, where a source names its columns otherwise (`{prompt: question, response: answer}`)."""
    limit: int | None = Field(default=None, ge=1)
    """Keep the first N records; null for all."""
    filter: str | None = None
    """`path/file.py:function`; called with each Record, keeps those for which it returns true."""
    converter: str | None = None
    """`path/file.py:function`; called with each raw row (a dict), returns a Record's fields, or None to drop it."""
    sha256: str | None = None
    """Expected sha256 of the source file; checked before anything is trained. Null: not checked."""
    path: str | None = None
    """Absolute file or folder of the source, filled in by resolving; null where the source is no path."""
    revision: str | None = None
    """Commit of a hub dataset, frozen when the hub could be asked."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of a built-in corpus, such as digits, size and seed."""

    @model_validator(mode="before")
    @classmethod
    def _from_shorthand(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"source": value}
        if isinstance(value, dict) and str(value.get("source", "")).startswith("builtin:"):
            own = {k: v for k, v in value.items() if k in cls.model_fields}
            extra = {k: v for k, v in value.items() if k not in cls.model_fields}
            return {**own, "arguments": {**extra, **own.get("arguments", {})}} if extra else value
        return value


class CodeFile(Document):
    """A file of the user's that a run uses."""

    path: str
    """Absolute path of the file, once resolved."""
    sha256: str | None = None
    """Hash of the file when the run was made; the run folder keeps a copy."""


class CodeRef(CodeFile):
    """A function in a file: `path/file.py:function`."""

    name: str
    """Name of a function or class at the top of that file."""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        path, colon, name = value.rpartition(":")
        if not colon or not path.endswith(".py") or not name.isidentifier():
            raise ValueError("must be written path/file.py:function")
        return {"path": path, "name": name}


def load_code(reference: CodeRef) -> Any:
    """Import the function that `reference` names. Only workers and the data step call this: it runs the file.

    From then on what lies beside the file can be imported too, where nothing that is installed has its name.

    Raises:
        RequestError: no such file, no such name, or the file cannot be imported (the cause is chained).
    """
    import importlib.util
    import sys

    path = Path(reference.path)
    if not path.is_file():
        raise RequestError("no such file", where=str(path))
    specification = importlib.util.spec_from_file_location(f"tuneyard_code_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise RequestError("is not a Python file", where=str(path))
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # the file is the user's: whatever it raises is told, with its type
        raise RequestError(f"importing it failed: {type(error).__name__}: {error}", where=str(path)) from error
    if not hasattr(module, reference.name):
        names = [n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n))]
        raise RequestError(
            f"function {reference.name!r} not found",
            where=str(path),
            way_out="it has: " + ", ".join(sorted(names)) if names else "it defines no function",
        )
    return getattr(module, reference.name)
