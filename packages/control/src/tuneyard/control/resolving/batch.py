"""How an effective batch is divided: examples per optimizer step = per device x accumulation x processes."""

from __future__ import annotations

from typing import Any

from tuneyard.core.errors import RequestError

PER_DEVICE = "per_device_train_batch_size"
ACCUMULATION = "gradient_accumulation_steps"

LARGEST_PER_DEVICE = 8
"""The most examples that one device takes at once where nobody said how many."""


def split_batch(effective: int, processes: int, engine: dict[str, Any]) -> dict[str, int]:
    """LLaMA-Factory's two batch keys for an effective batch size.

    Args:
        effective: examples per optimizer step over all processes, at least 1.
        processes: training processes, at least 1.
        engine: the library's settings; `per_device_train_batch_size` in it is kept, and
            `gradient_accumulation_steps` is accepted only as the value computed here.

    Returns:
        both keys; without a given size per device, the largest divisor up to 8.

    Raises:
        RequestError: the size cannot be divided so; the message names the nearest sizes that can.
    """
    per_device = engine.get(PER_DEVICE)
    if per_device is not None and (not isinstance(per_device, int) or isinstance(per_device, bool) or per_device < 1):
        raise RequestError(f"engine.{PER_DEVICE} must be a whole number from 1 (got {per_device!r})")
    unit = (per_device or 1) * processes
    if effective % unit:
        raise _impossible(effective, processes, per_device)
    share = effective // processes
    size = per_device or max(n for n in range(1, LARGEST_PER_DEVICE + 1) if share % n == 0)
    computed = {PER_DEVICE: size, ACCUMULATION: share // size}
    _refuse_other_accumulation(engine.get(ACCUMULATION), computed, effective, processes)
    return computed


def _impossible(effective: int, processes: int, per_device: int | None) -> RequestError:
    unit = (per_device or 1) * processes
    below, above = effective // unit * unit, (effective // unit + 1) * unit
    nearest = f"{below} or {above}" if below else str(above)
    by = f"{processes} {'process' if processes == 1 else 'processes'}"
    if per_device:
        by += f" with engine.{PER_DEVICE} {per_device}"
    return RequestError(
        f"effective_batch_size {effective} cannot be divided over {by}",
        where="effective_batch_size",
        way_out=f"the nearest possible: {nearest}",
    )


def _refuse_other_accumulation(given: Any, computed: dict[str, int], effective: int, processes: int) -> None:
    if given is None or given == computed[ACCUMULATION]:
        return
    raise RequestError(
        f"effective_batch_size {effective} over {processes} process(es) means engine.{ACCUMULATION} "
        f"{computed[ACCUMULATION]} (at {computed[PER_DEVICE]} per device), but it is {given!r}",
        where=f"engine.{ACCUMULATION}",
        way_out=f"leave engine.{ACCUMULATION} out; or leave effective_batch_size out and set both engine keys",
    )
