"""Which values of a spec name files, and how a relative one becomes absolute.

In a file a relative path is meant from that file's folder, on the command line from the folder the user stands in. Both
end up in one mapping, so each value is anchored where it comes from, before they are put together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tuneyard.core.references import HUB_ID

Keys = tuple[str, ...]
Role = Literal["reference", "path", "code", "task", "optional"]

ENGINE_FILES = frozenset({"deepspeed", "fsdp_config", "accelerator_config", "new_special_tokens_config"})
"""Keys of LLaMA-Factory that name a file to read; the file has to be there."""

ENGINE_FOLDERS = frozenset(
    {"tokenized_path", "media_dir", "cache_dir", "offload_folder", "logging_dir", "profiler_output_dir"}
    | {"swanlab_logdir", "kt_weight_path", "kt_expert_checkpoint_path", "include_path"}
)
"""Keys that name a folder or file which the library reads or makes."""

ENGINE_REFERENCES = frozenset(
    {"ref_model", "ref_model_adapters", "reward_model", "reward_model_adapters", "generation_config", "vllm_config"}
)
"""Keys that name a folder or something else, such as a hub id: anchored only where the folder is there."""

_ROLES: dict[Keys, Role] = {
    ("model",): "reference",
    ("model", "reference"): "reference",
    ("model", "path"): "path",
    ("model", "adapter"): "path",
    ("adapter",): "reference",
    ("adapter", "reference"): "reference",
    ("adapter", "path"): "path",
    ("data",): "path",
    ("tasks",): "task",
    ("tasks", "task"): "task",
    ("tasks", "path"): "path",
    ("lm",): "code",
    ("lm", "path"): "path",
    ("callbacks",): "code",
    ("callbacks", "path"): "path",
    ("code", "path"): "path",
}
for _field in ("dataset", "eval_dataset"):
    _ROLES |= {
        (_field,): "reference",
        (_field, "source"): "reference",
        (_field, "path"): "path",
        (_field, "filter"): "code",
        (_field, "converter"): "code",
        (_field, "data"): "path",  # of builtin:gsm8k
        (_field, "arguments", "data"): "path",
    }


def role(keys: Keys) -> Role | None:
    """What kind of name stands at `keys` of a spec (indexes of lists left out of account); None for no path."""
    names = tuple(key for key in keys if not key.isdigit())
    if len(names) == 2 and names[0] == "engine":
        if names[1] in ENGINE_FILES | ENGINE_FOLDERS:
            return "path"
        return "optional" if names[1] in ENGINE_REFERENCES else None
    if names and names[0] == "adapters":
        return _adapter_role(names[1:])
    return _ROLES.get(names)


def _adapter_role(names: Keys) -> Role | None:
    """Of what stands below `adapters`: a list of references, or names with one each."""
    if names[-1:] in (("revision",), ("run",)):
        return None
    return "path" if names[-1:] == ("path",) else "reference"


def anchored(value: Any, bases: Sequence[Path], keys: Keys = ()) -> Any:
    """`value`, which stands at `keys` of a spec, with every relative path in it made absolute.

    Args:
        value: a spec, or what stands at `keys` in one.
        bases: the folder that relative paths are meant from; with several, the first in which the path exists.
        keys: where the value stands; () for a whole spec.
    """
    if isinstance(value, dict):
        return {key: anchored(entry, bases, (*keys, str(key))) for key, entry in value.items()}
    if isinstance(value, list):
        return [anchored(entry, bases, keys) for entry in value]
    kind = role(keys) if isinstance(value, str) else None
    return value if kind is None else _absolute(value, kind, bases)


def _absolute(text: str, kind: Role, bases: Sequence[Path]) -> str:
    if not text or text.startswith(("run:", "builtin:")):
        return text
    if text.startswith("{") and existing(text, bases) is None:
        return text  # JSON in the place of a file, as deepspeed takes it
    if kind == "code":
        path, colon, name = text.rpartition(":")
        return f"{_first(path, bases)}{colon}{name}" if colon else text
    if kind == "task":
        path, at, name = text.partition("@") if ".py@" in text else (text, "", "")
        is_path = path.endswith((".yaml", ".yml", ".py")) or ("/" in path and existing(path, bases) is not None)
        # a bare word is the library's name for a task, although a folder of data may be called the same
        return f"{_first(path, bases)}{at}{name}" if is_path else text
    if kind == "optional" or (kind == "reference" and HUB_ID.match(text)):
        found = existing(text, bases)
        return str(found) if found else text
    return str(_first(text, bases))


def _first(text: str, bases: Sequence[Path]) -> Path:
    return existing(text, bases) or _join(bases[0], text)


def existing(text: str, bases: Sequence[Path]) -> Path | None:
    """The first path that `text` names from one of `bases` and that exists, or None."""
    for base in bases:
        path = _join(base, text)
        try:
            path.lstat()
        except (OSError, ValueError):  # not there, too long for a name, or with a null character
            continue
        return path
    return None


def _join(base: Path, text: str) -> Path:
    # normpath takes out `..` without asking the disk: what a person meant does not depend on links
    return Path(os.path.normpath(base / os.path.expanduser(text)))


def standing_folder() -> Path:
    """The folder the user stands in: INIT_CWD, which launchers set before they change folders, else this one.

    A user who has gone elsewhere since, in a shell below the launcher, stands there: PIXI_PROJECT_ROOT tells.
    """
    here = Path.cwd()
    root, initial = os.environ.get("PIXI_PROJECT_ROOT"), os.environ.get("INIT_CWD")
    moved = root is not None and here != Path(root).resolve()
    if initial and not moved and Path(initial).is_dir():
        return Path(initial).absolute()
    return here
