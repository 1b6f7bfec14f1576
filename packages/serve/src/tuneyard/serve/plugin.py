"""What vLLM runs at the start of each of its processes."""

from __future__ import annotations


def register() -> None:
    """Mend what is wrong where there is no GPU."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        ask_for_amx()
        from tuneyard.serve import cpu_lora

        cpu_lora.mend()


def ask_for_amx() -> None:
    """Ask the system for the use of AMX, where the processor has it.

    vLLM's attention uses the matrix tiles wherever the processor names them, and Linux ends a process with SIGILL that
    uses them without having asked.
    """
    import torch

    if torch.cpu._is_amx_tile_supported():
        torch.cpu._init_amx()
