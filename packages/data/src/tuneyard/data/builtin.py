"""What `builtin:` names: the corpora, with their arguments, and the models, written into the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.core.cache import cache_folder
from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.files import explain_os_error
from tuneyard.data.records import Record

PREFIX = "builtin:"


@dataclass(frozen=True)
class Corpus:
    """A built-in corpus."""

    arguments: Mapping[str, type]
    """Its arguments and their types."""
    splits: tuple[str, ...]

    def check(self, arguments: Mapping[str, Any], split: str, where: str) -> None:
        """Raise RequestError where an argument or the split is not known (with the nearest), or of a wrong type."""
        for name, value in arguments.items():
            if name not in self.arguments:
                raise unknown("argument", name, self.arguments, where=where)
            wanted = self.arguments[name]
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                raise RequestError(f"{name} must be of type {wanted.__name__}, not {value!r:.40}", where=where)
        if split not in self.splits:
            raise unknown("split", split, self.splits, where=where)


CORPORA: dict[str, Corpus] = {
    "arithmetic": Corpus({"digits": int, "size": int, "seed": int, "shuffled_answers": bool}, ("train", "test")),
    "gsm8k": Corpus({"data": str}, ("train", "test")),
}
"""Name behind `builtin:` -> corpus. gsm8k's `data` is the folder of its JSONL files."""


def arithmetic(arguments: Mapping[str, Any], split: str) -> Iterator[Record]:
    """The problems of `builtin:arithmetic` as records; the arguments are those of `arithmetic.problems`."""
    from tuneyard.data.arithmetic import problems

    return (Record(**problem) for problem in problems(**arguments, split="test" if split == "test" else "train"))


def _write_tiny(folder: Path) -> None:
    from tuneyard.data.tiny import write_tiny

    write_tiny(folder)


MODELS: dict[str, Callable[[Path], Any]] = {"tiny": _write_tiny}
"""Name behind `builtin:` -> what writes the model into a folder."""


def materialise_model(reference: str, cache: Path | None = None) -> Path:
    """The folder of a built-in model, written at first use; two that want it at once get the same.

    Args:
        reference: `builtin:tiny`.
        cache: folder of built-in models. Default: `tuneyard/models` in XDG_CACHE_HOME, or in ~/.cache.

    Raises:
        RequestError: there is no such model.
        SetupError: the disk is full, or the cache cannot be written.
    """
    name = reference.removeprefix(PREFIX)
    if name not in MODELS:
        raise unknown("built-in model", name, MODELS)
    folder = (cache or cache_folder() / "models") / f"{name}-{_version(name)}"
    if not folder.is_dir():
        try:
            _write_beside(folder, MODELS[name])
        except OSError as error:
            raise explain_os_error(error, folder) from error
    return folder


def _version(name: str) -> str:
    """Changes when what writes the model does, so that a newer release never reads an older one's files."""
    source = Path(__file__).with_name(f"{name}.py")
    return hashlib.sha256(source.read_bytes()).hexdigest()[:10]


def _write_beside(folder: Path, write: Callable[[Path], Any]) -> None:
    """Write into a temporary folder and rename it; whoever comes second throws away what it wrote."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write(temporary)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
