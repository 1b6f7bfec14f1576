"""What of a model vLLM can serve: its LoRA adapters, and the devices that its parallel sizes take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneyard.control.resolving import models
from tuneyard.control.resolving.hub import Hub
from tuneyard.control.resolving.model_files import adapter_config, beyond_text
from tuneyard.core.errors import RequestError
from tuneyard.core.references import ModelRef

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM 0.32 takes for --max-lora-rank; an adapter of a higher rank would end the server."""

PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
"""Settings of vLLM whose product is the number of devices."""


TOWERS = "enable_tower_connector_lora"
"""Setting of vLLM without which it leaves out what an adapter changes outside the language model, and says nothing."""


def resolve_adapters(
    adapters: Mapping[str, ModelRef], model: ModelRef, runs: Path, hub: Hub
) -> tuple[dict[str, ModelRef], dict[str, Any]]:
    """Every adapter with its folder, and vLLM's settings that make room for all of them: none without adapters.

    Raises:
        RequestError: an adapter that is not there, is for another base, or has a rank that vLLM does not serve.
    """
    resolved = {
        name: models.resolve_adapter(reference, model, runs, hub, f"adapters.{name}")
        for name, reference in adapters.items()
    }
    folders = {f"adapters.{name}": Path(str(adapter.path)) for name, adapter in resolved.items()}
    if not folders:
        return resolved, {}
    rank = max(rank_of(folder, where) for where, folder in folders.items())
    towers = {TOWERS: True} if any(map(beyond_text, folders.values())) else {}
    fitting = next(limit for limit in LORA_RANKS if limit >= rank)
    return resolved, {"enable_lora": True, "max_lora_rank": fitting, "max_loras": len(folders), **towers}


def rank_of(adapter: Path, where: str) -> int:
    """The LoRA rank of an adapter that vLLM can serve.

    Raises:
        RequestError: it is no LoRA adapter, or its rank is above every limit that vLLM takes.
    """
    config = adapter_config(adapter, where)
    kind = str(config.get("peft_type", "LORA"))
    if kind.upper() != "LORA":
        raise RequestError(f"is an adapter of type {kind}, and vLLM serves LoRA alone", where=where, way_out=_MERGE)
    if config.get("use_dora"):
        raise RequestError("is a DoRA adapter, and vLLM serves plain LoRA alone", where=where, way_out=_MERGE)
    rank = max([int(config.get("r") or 0), *map(int, (config.get("rank_pattern") or {}).values())])
    if not 0 < rank <= LORA_RANKS[-1]:
        raise RequestError(
            f"has rank {rank}, and vLLM serves ranks from 1 to {LORA_RANKS[-1]}", where=where, way_out=_MERGE
        )
    return rank


_MERGE = "train it with merge=true and serve the merged model"


def serving_devices(engine: Mapping[str, Any], gpus: int | None) -> int | None:
    """The GPUs that a server's parallel sizes need; None where the settings leave it open.

    Raises:
        RequestError: `gpus` says another number.
    """
    sizes = {name: engine[name] for name in PARALLEL if isinstance(engine.get(name), int)}
    if not sizes:
        return gpus
    needed = 1
    for size in sizes.values():
        needed *= size
    if gpus is not None and gpus not in (0, needed):
        told = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise RequestError(
            f"gpus: {gpus} given, and {told} takes {needed}", where="gpus", way_out=f"gpus={needed}, or leave it out"
        )
    return gpus if gpus == 0 else needed
