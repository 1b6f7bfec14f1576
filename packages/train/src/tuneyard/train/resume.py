"""Where a run that was interrupted goes on: its highest checkpoint that is whole."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

from tuneyard.core.run_folder import RunFolder

_CHECKPOINT = re.compile(r"checkpoint-(\d+)$")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHTS = ("adapter_model.safetensors", "model.safetensors", "adapter_model.bin", "pytorch_model.bin")


def last_checkpoint(folder: RunFolder) -> Path | None:
    """The checkpoint of any attempt with the most steps, the newest attempt first among equals; None without one."""
    found = [
        (int(match.group(1)), int(path.parent.name), path)
        for path in folder.raw.glob("*/checkpoint-*")
        if (match := _CHECKPOINT.search(path.name)) and path.parent.name.isdigit()
    ]
    for step, _, path in sorted(found, reverse=True):
        if is_whole(path, step):
            return path
    return None


def is_finished(checkpoint: Path) -> bool:
    """Whether a checkpoint was written after the last step."""
    state = _state(checkpoint)
    return 0 < state["max_steps"] <= state["global_step"]


def best_of(raw: Path) -> Path:
    """The folder with the best weights: LLaMA-Factory's own output has them already, a checkpoint those of its step."""
    if not _CHECKPOINT.search(raw.name):
        return raw
    best = _state(raw).get("best_model_checkpoint")
    return Path(best) if best and Path(best).is_dir() else raw


def load_onto_numbered_cpus() -> None:
    """Let torch load an optimizer onto `cpu:0`.

    So accelerate names the device of each of several processes on CPUs, and transformers loads the optimizer onto the
    device that it was told; torch writes to `cpu:0` but reads to `cpu` alone. What torch knows itself comes first.
    """
    from torch.serialization import register_package

    register_package(1000, _no_name, _as_it_is)


def _no_name(storage: Any) -> None:
    """No other name for where a tensor is saved from."""


def _as_it_is(storage: Any, location: str) -> Any:
    """A tensor's memory for `cpu:0`, where it lies already; None for any other place."""
    return storage if location == "cpu:0" else None


def _state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "trainer_state.json").read_bytes())


def is_whole(checkpoint: Path, step: int) -> bool:
    """Whether the trainer's state, the weights and the optimizer can be read; a killed writer leaves parts of them."""
    try:
        state = _state(checkpoint)
    except (OSError, ValueError):
        return False
    return state.get("global_step") == step and _has_weights(checkpoint) and _optimizer_is_whole(checkpoint)


def _has_weights(checkpoint: Path) -> bool:
    if (checkpoint / "latest").is_file():  # DeepSpeed names the folder of the parts that its processes wrote
        return (checkpoint / (checkpoint / "latest").read_text().strip()).is_dir()
    if any(checkpoint.glob("pytorch_model_fsdp_*/.metadata")):  # FSDP's parts; their index is written last
        return True
    for index in _INDEXES:
        if (checkpoint / index).is_file():
            return all(_is_readable(checkpoint / name) for name in _shards(checkpoint / index))
    present = [checkpoint / name for name in _WEIGHTS if (checkpoint / name).is_file()]
    return bool(present) and all(map(_is_readable, present))


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError):
        return {"an index that cannot be read"}


def _optimizer_is_whole(checkpoint: Path) -> bool:
    """An optimizer's file that is there must be whole; `save_only_model` writes none."""
    file = checkpoint / "optimizer.pt"
    return not file.exists() or zipfile.is_zipfile(file)


def _is_readable(file: Path) -> bool:
    if file.suffix != ".safetensors":
        return zipfile.is_zipfile(file)
    try:
        with open(file, "rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(size)) if size < 100_000_000 else {}
    except (OSError, ValueError, struct.error):
        return False
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    return bool(ends) and file.stat().st_size == 8 + size + max(ends)
