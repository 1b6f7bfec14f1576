"""Serving: vLLM."""

from __future__ import annotations

from tuneyard.core.signatures.signature import signature

SIGNATURES = (
    signature(
        "kv-cache-empty",
        r"No available memory for the cache blocks",
        cause="the model's weights leave no GPU memory for the cache",
        way_out=(
            "raise `gpu_memory_utilization`, lower `max_model_len`, quantize, or use more GPUs (`tensor_parallel_size`)"
        ),
        thread="vllm-project/vllm/issues/2248",
    ),
    signature(
        "kv-cache-too-small",
        r"max seq len \(\d+\) is larger than the maximum number of tokens|KV cache is needed, which is larger than",
        cause="one sequence of the model's full length does not fit the cache",
        way_out="`max_model_len` as long as your prompts and answers, or a higher `gpu_memory_utilization`",
        thread="vllm-project/vllm/issues/2418",
    ),
    signature(
        "gpu-memory-taken",
        r"Free memory on device .{0,80}is less than desired GPU memory",
        cause="another process holds the GPU memory that vLLM wants",
        way_out="`nvidia-smi` shows who; end it, or lower `gpu_memory_utilization`",
        thread="vllm-project/vllm/issues/20305",
    ),
    signature(
        "lora-rank",
        r"LoRA rank \d+ is greater than max_lora_rank",
        cause="the adapter's rank is larger than the server was started for",
        way_out="`--max-lora-rank` (one of 1, 8, 16, 32, 64, 128, 256, 320, 512), or serve the merged model",
        thread="vllm-project/vllm/issues/2847",
    ),
    signature(
        "no-device",
        r"Failed to infer device type",
        cause="vLLM finds no device it was built for: no GPU, no driver, or the wrong build",
        way_out="`nvidia-smi` must work in the same container (--gpus all); without a GPU the CPU build is needed",
        thread="vllm-project/vllm/issues/12847",
    ),
    signature(
        "vllm-architecture",
        r"Model architectures \[.{0,200}\] are not supported for now|failed to be inspected",
        cause="this vLLM does not know the model's architecture, or could not import its code",
        way_out="the error before it says which; else a newer vLLM, or `--model-impl transformers`",
        thread="vllm-project/vllm/issues/22231",
        effect="follows",
    ),
)
