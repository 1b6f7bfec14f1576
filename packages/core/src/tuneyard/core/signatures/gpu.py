"""The GPU: its memory, its driver, its links to other GPUs."""

from __future__ import annotations

from tuneyard.core.signatures.signature import signature

SIGNATURES = (
    signature(
        "cuda-out-of-memory",
        r"CUDA out of memory|torch\.(?:cuda\.)?OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        cause="the GPU's memory did not suffice",
        way_out=(
            "halve `engine.per_device_train_batch_size` (the effective batch stays), set "
            "`engine.gradient_checkpointing: true`, shorten `engine.cutoff_len`, or train LoRA or 4-bit; `nvidia-smi` "
            "shows who else holds memory"
        ),
        thread="hiyouga/LlamaFactory/issues/4263",
    ),
    signature(
        "driver-too-old",
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient",
        cause="the NVIDIA driver is older than the CUDA that torch was built for",
        way_out=(
            "update the driver, or install a torch built for an older CUDA (`nvidia-smi` shows the newest it can serve)"
        ),
        thread="zai-org/ChatGLM3/issues/100",
    ),
    signature(
        "driver-forward-compatibility",
        r"Error 804: forward compatibility was attempted",
        cause="a container brings CUDA compatibility libraries that this card does not take",
        way_out="update the driver, or take the container's /usr/local/cuda/compat out of LD_LIBRARY_PATH",
        thread="gpustack/gpustack/issues/1254",
    ),
    signature(
        "fabric-manager",
        r"Error 802: system not yet initialized|cuda runtime error \(802\)",
        cause="GPUs joined by NVSwitch are not ready: the fabric manager does not run, or not in the driver's version",
        way_out="`systemctl start nvidia-fabricmanager`; its package must have the very version of the driver",
        thread="pytorch/pytorch/issues/35710",
    ),
    signature(
        "no-kernel-image",
        r"no kernel image is available for execution on the device",
        cause="torch was not built for this GPU's architecture",
        way_out=(
            "install a torch whose CUDA supports this card: `python -c 'import torch; "
            "print(torch.cuda.get_arch_list())'`"
        ),
        thread="pytorch/pytorch/issues/167244",
    ),
    signature(
        "cpu-torch",
        r"Torch not compiled with CUDA enabled",
        cause="this torch was built for the CPU only",
        way_out=(
            "install a CUDA build: `./pixiw install -e train` on the machine with the GPU, or the index pytorch.org "
            "names"
        ),
        thread="karpathy/nanoGPT/issues/281",
    ),
    signature(
        "nvml-mismatch",
        r"Failed to initialize NVML: Driver/library version mismatch|LIB_RM_VERSION_MISMATCH|LibRmVersionMismatch",
        cause="the driver was updated while the old one is still loaded",
        way_out=(
            "reboot, or end every process on the GPU and reload the kernel modules; `cat /proc/driver/nvidia/version` "
            "shows what is loaded"
        ),
        thread="NVIDIA/ubuntu-packaging-nvidia-driver/issues/3",
    ),
    signature(
        "bf16-unsupported",
        r"Your setup doesn't support bf16|[Bb]float16 is only supported on GPUs with compute capability",
        cause="this GPU (older than Ampere) or CPU set-up does not compute in bf16",
        way_out="set `engine.fp16: true` in place of bf16; without a GPU neither",
        thread="databrickslabs/dolly/issues/11",
    ),
    signature(
        "device-assert",
        r"device-side assert triggered|Assertion `srcIndex < srcSelectDimSize` failed",
        cause="a token id or label lies outside the model's vocabulary",
        way_out=(
            "added tokens need `engine.resize_vocab: true`; run once with CUDA_LAUNCH_BLOCKING=1, or on the CPU, to "
            "see where"
        ),
        thread="hiyouga/LlamaFactory/issues/5028",
    ),
    signature(
        "cuda-in-fork",
        r"Cannot re-initialize CUDA in forked subprocess",
        cause="CUDA was used before a process was forked that uses it too",
        way_out="start workers by spawn: VLLM_WORKER_MULTIPROC_METHOD=spawn for vLLM; touch no CUDA before they start",
        thread="vllm-project/vllm/issues/12754",
    ),
    signature(
        "nccl",
        r"NCCL (?:error|timeout)|ncclUnhandledCudaError|Watchdog caught collective operation timeout|DistBackendError",
        cause="the GPUs could not talk to each other, or one process was gone",
        way_out=(
            "look at every rank's log for the first error; NCCL_DEBUG=INFO tells more; slow preprocessing needs a "
            "larger `engine.ddp_timeout`"
        ),
        thread="hiyouga/LlamaFactory/issues/7396",
        effect="follows",
    ),
)
