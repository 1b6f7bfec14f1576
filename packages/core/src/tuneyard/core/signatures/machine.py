"""The machine: memory, disks, files, ports."""

from __future__ import annotations

from tuneyard.core.signatures.signature import signature

SIGNATURES = (
    signature(
        "cpu-out-of-memory",
        r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|Cannot allocate memory|\bMemoryError\b",
        cause="the machine's memory did not suffice",
        way_out="a smaller batch, model or `engine.preprocessing_num_workers`; `free -h` shows what is left",
        thread="hiyouga/LlamaFactory/issues/505",
    ),
    signature(
        "killed",
        (
            r"exitcode: -9\b|is killed by signal: Killed|died with <Signals\.SIGKILL|oom-kill|"
            r"Out of memory: Killed process"
        ),
        cause="the kernel ended a process: the machine's or the container's memory did not suffice",
        way_out=(
            "`dmesg | grep -i oom` confirms it; a smaller model, fewer `engine.preprocessing_num_workers`, or a higher "
            "limit"
        ),
        thread="hiyouga/LlamaFactory/issues/6608",
    ),
    signature(
        "disk-full",
        r"No space left on device|Disk quota exceeded|PytorchStreamWriter failed writing file",
        cause="a disk is full",
        way_out="`df -h` shows which; `yard rm RUN` frees old runs, HF_HOME moves the hub's cache",
        thread="hiyouga/LlamaFactory/issues/5155",
    ),
    signature(
        "shared-memory",
        r"[Bb]us error|unable to (?:open|mmap|allocate) shared memory",
        cause="/dev/shm is too small for the data loader's workers",
        way_out="set `engine.dataloader_num_workers: 0`, or start the container with a larger --shm-size",
        thread="pytorch/pytorch/issues/5040",
    ),
    signature(
        "open-files",
        r"Too many open files",
        cause="the limit on open files was reached",
        way_out="`ulimit -n 65535` before the start, or fewer data loader workers",
        thread="MhLiao/MaskTextSpotterV3/issues/51",
    ),
    signature(
        "port-in-use",
        r"EADDRINUSE|[Aa]ddress already in use",
        cause="another process listens on this port",
        way_out="`ss -ltnp` shows which; another port: MASTER_PORT for torchrun, --port for a server",
        thread="vllm-project/vllm/issues/39015",
    ),
    signature(
        "segmentation-fault",
        r"Segmentation fault|exitcode: -11\b|Signal 11 \(SIGSEGV\)",
        cause="native code crashed; most often libraries built for different versions are mixed",
        way_out=(
            "`python -X faulthandler` shows the last Python line; `yard doctor ENV` imports each engine and names the "
            "crash"
        ),
        thread="meta-llama/llama/issues/799",
    ),
)
