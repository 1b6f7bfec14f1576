"""Signatures: lines of a log that give away why a run failed, with the way out."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Signature:
    """One known failure."""

    id: str
    """Stable name, used by programs."""
    pattern: re.Pattern[str]
    """What stands in the log."""
    cause: str
    """The likely cause, one sentence."""
    way_out: str
    """What to do about it."""


def _signature(id: str, pattern: str, cause: str, way_out: str) -> Signature:
    return Signature(id, re.compile(pattern), cause, way_out)


SIGNATURES: tuple[Signature, ...] = (
    _signature(
        "cuda-out-of-memory",
        r"CUDA out of memory|torch\.(?:cuda\.)?OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        "the GPU's memory did not suffice",
        "halve `engine.per_device_train_batch_size` (the effective batch stays), set `engine.gradient_checkpointing: "
        "true`, shorten `engine.cutoff_len`, or train LoRA or 4-bit",
    ),
    _signature(
        "cpu-out-of-memory",
        r"DefaultCPUAllocator: can't allocate memory|Cannot allocate memory|MemoryError",
        "the machine's memory did not suffice",
        "a smaller batch, model or `engine.preprocessing_num_workers`; `free -h` shows what is left",
    ),
    _signature(
        "disk-full",
        r"No space left on device|Disk quota exceeded",
        "a disk is full",
        "`df -h` shows which; `yard rm RUN` frees old runs, HF_HOME moves the hub's cache",
    ),
    _signature(
        "shared-memory",
        r"Bus error|DataLoader worker .* is killed by signal: Bus error|unable to (?:open|mmap) shared memory",
        "/dev/shm is too small for the data loader's workers",
        "set `engine.dataloader_num_workers: 0`, or start the container with a larger --shm-size",
    ),
    _signature(
        "hub-gated",
        r"GatedRepoError|Access to model .* is restricted|401 Client Error|403 Client Error|Cannot access gated repo",
        "the hub refuses this repository: no token, or no access granted to it",
        "accept its terms on its hub page, then set HF_TOKEN or run `hf auth login`",
    ),
    _signature(
        "hub-unreachable",
        r"Couldn't reach '[^']+' on the Hub|LocalEntryNotFoundError|OfflineModeIsEnabled|"
        r"Failed to resolve 'huggingface\.co'|couldn't connect to 'https://huggingface\.co'",
        "the hub cannot be reached and its cache does not hold what is asked for",
        "give a local folder, fill the cache on a machine with network (HF_HOME), or set HF_ENDPOINT to a mirror",
    ),
    _signature(
        "unknown-argument",
        r"Some (?:keys|specified arguments) are not used by the HfArgumentParser",
        "LLaMA-Factory does not know a key of `engine`",
        "`yard run SPEC --dry-run` checks the keys against the installed version",
    ),
    _signature(
        "torchvision-mismatch",
        r"operator torchvision::nms does not exist",
        "torchvision was built for another torch",
        "install the torchvision that belongs to this torch, or none: text needs none",
    ),
    _signature(
        "driver-too-old",
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient",
        "the NVIDIA driver is older than the CUDA that torch was built for",
        "update the driver, or install a torch built for an older CUDA",
    ),
    _signature(
        "no-kernel-image",
        r"no kernel image is available for execution on the device",
        "torch was not built for this GPU's architecture",
        "install a torch whose CUDA supports this card (`torch.cuda.get_arch_list()`)",
    ),
    _signature(
        "nccl",
        r"NCCL (?:error|timeout)|ncclUnhandledCudaError|Watchdog caught collective operation timeout",
        "the GPUs could not talk to each other, or one process was gone",
        "look at every rank's log for the first error; NCCL_DEBUG=INFO tells more",
    ),
    _signature(
        "ppo-removed",
        r"PPO.*trl|cannot import name 'AutoModelForCausalLMWithValueHead'",
        "PPO needs a trl that LLaMA-Factory no longer works with",
        "use dpo, kto or rm",
    ),
    _signature(
        "not-a-number",
        r"(?:loss|grad_norm)['\"]?\s*[:=]\s*['\"]?nan",
        "the loss became NaN",
        "lower the learning rate, add warm-up, or use bf16 in place of fp16",
    ),
    _signature(
        "broken-checkpoint",
        r"Error while deserializing header|MetadataIncompleteBuffer|InvalidHeaderDeserialization",
        "a safetensors file is cut off or no safetensors file",
        "write or download the model again",
    ),
    _signature(
        "missing-module",
        r"ModuleNotFoundError: No module named '[\w.]+'",
        "a Python package is missing in the environment",
        "`./pixiw install --all` builds the environments; a package of your own goes into pixi.toml",
    ),
)


def likely_cause(text: str) -> Signature | None:
    """The signature that stands last in `text`, or None: the last error wins over the noise before it."""
    best: tuple[int, Signature] | None = None
    for signature in SIGNATURES:
        for match in signature.pattern.finditer(text):
            if best is None or match.start() > best[0]:
                best = (match.start(), signature)
    return best[1] if best else None
