"""Environment variables that vLLM is started with. What stands in the user's own environment is left as it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tuneyard.core.specs import GenerateSpec, ServeSpec

KEY_VARIABLE = "TUNEYARD_API_KEY"
"""The key that requests must carry; vLLM reads it from a variable too, so that no command line shows it."""

SOCKETS_VARIABLE = "VLLM_RPC_BASE_PATH"
"""The folder of the sockets over which vLLM's processes talk."""

LONGEST_FOLDER = 70
"""Characters that a folder of vLLM's sockets may have: 107 of a socket's path (unix(7)), less its name, a UUID."""

GIB = 2**30

MOST_CACHE_GIB = 4
"""Of a CPU's memory; vLLM alone would take nearly all of it, and touches what it takes."""

EVERYWHERE = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # as `vllm serve` sets it: CUDA does not survive a fork
    "TOKENIZERS_PARALLELISM": "false",
    "SPT_NOENV": "1",  # vLLM names its processes, which would overwrite the variable that a run's are found by
}

ON_CPU = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else every server binds itself to the same first cores
}


def defaults(spec: ServeSpec | GenerateSpec, on_cpu: bool) -> dict[str, str]:
    """The variables that vLLM gets where the user has not set them.

    Args:
        spec: of the server, or of a generation.
        on_cpu: whether this vLLM computes on the CPU.
    """
    found = dict(EVERYWHERE)
    if runtime_adapters(spec):
        found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if on_cpu:
        found |= ON_CPU
        if spec.engine.get("kv_cache_memory_bytes") is None:
            found["VLLM_CPU_KVCACHE_SPACE"] = str(cache_gib())
    return found


@contextmanager
def sockets(given: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The variable that names a folder for sockets, which is gone at the end of the block: vLLM leaves them behind."""
    # no TemporaryDirectory: its finalizer would make Python's exit wait for vLLM's processes before it ends them
    folder = tempfile.mkdtemp(prefix="vllm-")
    try:
        if SOCKETS_VARIABLE in given or len(os.fsencode(folder)) > LONGEST_FOLDER:
            yield {}
        else:
            yield {SOCKETS_VARIABLE: folder}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def of_server(spec: ServeSpec, on_cpu: bool, given: Mapping[str, str]) -> dict[str, str]:
    """All variables of the server's process: the user's own win, and the API key goes by vLLM's name for it."""
    key = {"VLLM_API_KEY": given[KEY_VARIABLE]} if given.get(KEY_VARIABLE) else {}
    return {**defaults(spec, on_cpu), **given, **key}


def runtime_adapters(spec: ServeSpec | GenerateSpec) -> bool:
    """Whether adapters may come and go: LoRA is on, and one process answers (vLLM refuses it with several)."""
    several = (spec.engine.get("api_server_count") or spec.engine.get("data_parallel_size") or 1) > 1
    return bool(spec.engine.get("enable_lora")) and not several


def cache_gib() -> int:
    """GiB of memory for cached keys and values on a CPU: an eighth of it, at least 1 and at most 4."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(MOST_CACHE_GIB, total // 8 // GIB))
