"""Adapters on a CPU: two places where vLLM 0.32's kernels for it take another row's adapter, mended.

Both are in what vLLM computes with PyTorch where there is no GPU; its kernels for GPUs are not touched.

- A row without an adapter carries the index -1, which PyTorch takes for the last adapter: the base model answers as
  that one (https://github.com/vllm-project/vllm/pull/48421).
- The log-probabilities of a prompt are computed for the rows of one request with the indices of all requests: the
  engine ends, or takes another request's adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Kernel = Callable[..., None]


def mend() -> None:
    """Make the kernels take each row's own adapter. For a process of vLLM's CPU build."""
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for name in ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice"):
        kernel = without_the_base(getattr(lora_ops, name))
        setattr(lora_ops, name, kernel)
        setattr(punica_cpu, name, kernel)  # imported there by name
    punica_cpu.PunicaWrapperCPU.add_lora_logits = add_lora_logits


def without_the_base(kernel: Kernel) -> Kernel:
    """A kernel that leaves rows without an adapter as they are.

    Args:
        kernel: takes inputs (rows, width), weights (adapters, ...), outputs, and each row's adapter (rows).
    """

    def run(
        inputs: torch.Tensor, weights: torch.Tensor, outputs: torch.Tensor, adapters: torch.Tensor, *rest: Any
    ) -> None:
        # nothing times an adapter adds nothing
        kernel(inputs.masked_fill((adapters < 0).unsqueeze(1), 0), weights, outputs, adapters.clamp(min=0), *rest)

    return run


def add_lora_logits(self: Any, y: torch.Tensor, x: torch.Tensor, *lora: Any, **_: Any) -> None:
    """Add what the adapters make of the hidden states to the logits.

    Args:
        self: vLLM's `PunicaWrapperCPU`.
        y: the logits (rows, vocabulary), changed in place.
        x: the hidden states (rows, width).
        lora: A of all adapters (adapters, 1, rank, width), B (adapters, 1, vocabulary, rank), and the scale.
    """
    from vllm.lora.ops.torch_ops import lora_ops

    stacked_a, stacked_b, scale = lora
    adapters = adapters_of(x, self.sampler_indices, self.token_lora_indices)
    between = torch.zeros((x.size(0), stacked_b.size(-1)), dtype=torch.float32, device=x.device)
    lora_ops.bgmv_shrink(x, stacked_a, between, adapters, scale)
    lora_ops.bgmv_expand(between, stacked_b, y, adapters, True)


def adapters_of(x: torch.Tensor, by_request: torch.Tensor, by_token: torch.Tensor) -> torch.Tensor:
    """The adapter of each row.

    Rows to sample from are copied out of the batch, one for each request. Those of a prompt are a part of the batch
    itself, which tells where it begins.

    Args:
        x: hidden states (rows, width).
        by_request: the adapter of each request.
        by_token: the adapter of each token of the batch.
    """
    rows, width = x.shape
    is_copy = x.untyped_storage().nbytes() == x.nbytes
    if is_copy and rows == by_request.numel():
        return by_request
    first = int(x.storage_offset()) // width
    return by_token[first : first + rows]
