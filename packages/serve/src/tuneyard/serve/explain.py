"""Why a server ended by itself: the first error that its processes logged, and what helps."""

from __future__ import annotations

import re
import signal

from tuneyard.core.errors import RunError
from tuneyard.core.failures import log_tail
from tuneyard.core.run_folder import Attempt

LINES = 400
"""How far back the error may stand: each process of vLLM prints a traceback when one of them dies."""

_PREFIX = r"^(?:\([^)]*\) )*(?:(?:ERROR|CRITICAL) [^\]]*\] )?"
_ERROR = re.compile(_PREFIX + r"((?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt): .+)$")
_DIED = re.compile(r"\b(?:Worker proc|Engine core proc) (\S+) died unexpectedly")
_FOLLOWS = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "Engine process failed to start",
    "EngineDeadError",
    "CancelledError",
    "Executor failed",
    "RuntimeError: cancelled",
)
"""Errors that only say that there was another."""

_CACHE = re.compile(r"available memory|requested memory for kv|memory for the cache|KV cache is needed", re.IGNORECASE)

CACHE_ON_CPU = (
    "VLLM_CPU_KVCACHE_SPACE=N gives the cache N GiB of memory (engine.kv_cache_memory_bytes says it in bytes); a lower "
    "engine.max_model_len or engine.max_num_seqs needs less"
)
CACHE_ON_GPU = (
    "a lower engine.max_model_len or engine.max_num_seqs needs less; engine.gpu_memory_utilization=0.95 gives it more; "
    "engine.tensor_parallel_size=2 spreads it over two GPUs"
)


def explain(attempt: Attempt, code: int, on_cpu: bool) -> RunError:
    """The error for a server that ended though nobody asked it to.

    Args:
        attempt: where its processes wrote.
        code: its exit code; a negative one is a signal's number.
        on_cpu: whether it computed on the CPU.
    """
    lines = log_tail(attempt.stderr, LINES) + log_tail(attempt.stdout, LINES)
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    reason = first_error(lines)
    way_out = (CACHE_ON_CPU if on_cpu else CACHE_ON_GPU) if reason and _CACHE.search(reason) else None
    return RunError(f"the server {ended}" + (f": {reason}" if reason else ""), way_out=way_out)


def first_error(lines: list[str]) -> str | None:
    """The first error in a log that does not merely follow from another; a process that died tells no error."""
    found = [match[1] for line in lines if (match := _ERROR.match(line))]
    first = next((error for error in found if not any(word in error for word in _FOLLOWS)), None)
    died = next((match[1] for line in lines if (match := _DIED.search(line))), None)
    return first or (f"its process {died} died, killed from outside or for want of memory" if died else None)
