"""Whether torch and what is compiled with it go with the driver, the cards and each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tuneyard.doctor.findings import Finding
from tuneyard.doctor.inventory import Inventory

FIRST_CALL = {
    3: "the driver is not initialised",
    100: "no card is visible to this process",
    802: "the system is not yet initialised: the fabric manager does not run",
    803: "the driver's kernel module and its library are of different versions",
    804: "this card does not take the compatibility library that is on the library path",
    999: "the driver failed for a reason that it does not tell",
}
"""What the driver's answers to its first call mean."""

FIRST_CALL_MENDS = {
    802: "systemctl start nvidia-fabricmanager (on machines with NVSwitch)",
    803: "restart the machine, or reload the NVIDIA kernel modules, after a driver update",
    804: "take the cuda-compat folder out of LD_LIBRARY_PATH",
}

_NVIDIA = re.compile(r"^nvidia-(?P<library>[a-z-]+?)(?:-cu(?P<cuda>\d\d))?$")


def judge(
    name: str, found: Inventory, facts: Mapping[str, Any], cards: list[str], driver: str | None
) -> Iterator[Finding]:
    """What is wrong between torch, driver and cards.

    Args:
        name: the environment.
        found: what is installed in it.
        facts: of the import probe: `torch.cuda` and `cuda libraries`.
        cards: names of the GPUs that the machine has.
        driver: version of the NVIDIA driver, where there is one.
    """
    cuda = facts.get("torch.cuda", {})
    if cuda.get("built_for"):
        yield from _against_driver(name, cuda, cards, driver)
        yield from _architectures(name, cuda)
        yield from _for_triton(name, found, cards)
    elif cards and "torch" in facts:  # it was imported: what fails to import tells nothing of its build
        yield Finding(
            "torch-without-cuda",
            "risky",
            f"torch {found.versions['torch']} was built for the CPU, and this machine has {len(cards)} GPU(s)",
            name,
            ", ".join(cards),
            f"CONDA_OVERRIDE_CUDA=13.0 ./pixiw install -e {name}",
        )
    yield from _mixed(name, found, facts.get("cuda libraries", {}), str(cuda.get("built_for") or ""))


def _against_driver(name: str, cuda: Mapping[str, Any], cards: list[str], driver: str | None) -> Iterator[Finding]:
    built = [int(part) for part in str(cuda["built_for"]).split(".")[:2]]
    runs = cuda.get("runs")
    evidence = f"torch is built for CUDA {cuda['built_for']}; driver {driver or 'unknown'}"
    if runs and runs[0] < built[0]:
        yield Finding(
            "driver-too-old",
            "broken",
            f"the NVIDIA driver runs CUDA {runs[0]}.{runs[1]} and torch was built for {cuda['built_for']}",
            name,
            evidence,
            "update the driver, or install a torch built for an older CUDA",
        )
    elif cards and not cuda.get("available"):
        yield _unavailable(name, cuda, evidence)


def _unavailable(name: str, cuda: Mapping[str, Any], evidence: str) -> Finding:
    code = cuda.get("first_call")
    if code is None:
        meaning = f"libcuda cannot be loaded ({cuda.get('driver_error', 'no reason given')})"
    else:
        meaning = (
            f"error {code}: {FIRST_CALL.get(code, 'unknown')}" if code else "the driver answers, torch sees no card"
        )
    warnings = "; ".join(cuda.get("warnings", []))
    mend = FIRST_CALL_MENDS.get(code or 0, "nvidia-smi, and CUDA_VISIBLE_DEVICES; in a container: --gpus all")
    message = f"the machine has GPUs, and torch cannot use them: {meaning}"
    return Finding(
        "cuda-unavailable", "broken", message, name, f"{evidence}; {warnings}" if warnings else evidence, mend
    )


def _architectures(name: str, cuda: Mapping[str, Any]) -> Iterator[Finding]:
    """Cards that torch holds no code for: neither of their own architecture nor any that the driver could compile."""
    built = [flag for flag in cuda.get("architectures", []) if re.match(r"(sm|compute)_\d+", flag)]
    for card in cuda.get("cards", []):
        major, minor = card["capability"]
        if built and not any(_runs_on(flag, major, minor) for flag in built):
            yield Finding(
                "no-kernel-image",
                "broken",
                f"torch holds no code for {card['name']} (compute capability {major}.{minor})",
                name,
                "it holds " + " ".join(built),
                "install a torch whose CUDA supports this card",
            )


def _runs_on(flag: str, major: int, minor: int) -> bool:
    kind, _, number = flag.partition("_")
    digits = re.match(r"\d+", number)
    assert digits is not None
    built_major, built_minor = int(digits[0][:-1]), int(digits[0][-1])
    if kind == "compute":
        return (built_major, built_minor) <= (major, minor)
    if number != digits[0]:  # sm_90a runs on that very card alone
        return (built_major, built_minor) == (major, minor)
    return built_major == major and built_minor <= minor


def _for_triton(name: str, found: Inventory, cards: list[str]) -> Iterator[Finding]:
    """What Triton compiles with when a kernel is first used."""
    if "triton" not in found.versions:
        return
    severity = "risky" if cards else "note"
    why = "Triton compiles a small module with it when a kernel is first used"
    if not found.compiler:
        message = "there is no C compiler"
        yield Finding("compiler-missing", severity, message, name, why, "apt-get install gcc, or set CC")
    if not found.headers:
        message = "Python.h is not there"
        evidence = f"looked for in {found.include}; {why}"
        way_out = "apt-get install python3-dev, or use a Python that brings its headers"
        yield Finding("python-headers-missing", severity, message, name, evidence, way_out)
    if "deepspeed" in found.versions and not found.nvcc:
        message = "DeepSpeed compiles its operators, and nvcc is not there"
        yield Finding("cuda-home-missing", "note", message, name, "looked in PATH and CUDA_HOME", "set CUDA_HOME")


def _mixed(name: str, found: Inventory, loaded: Mapping[str, list[str]], built_for: str) -> Iterator[Finding]:
    """CUDA libraries of more than one CUDA: installed, or loaded into one process."""
    by_cuda: dict[str, list[str]] = {}
    for distribution, version in found.versions.items():
        match = _NVIDIA.match(distribution)
        if match and match["cuda"]:
            by_cuda.setdefault(match["cuda"], []).append(f"{distribution} {version}")
        elif distribution == "nvidia-cuda-runtime":
            by_cuda.setdefault(version.partition(".")[0], []).append(f"{distribution} {version}")
    if len(by_cuda) > 1:
        some = "; ".join(", ".join(names[:3]) for _, names in sorted(by_cuda.items()))
        yield _mixed_finding(name, f"libraries of CUDA {' and '.join(sorted(by_cuda))} are installed", some, built_for)
    copies = {each: files for each, files in loaded.items() if len(files) > 1}
    runtimes = sorted(each for each in loaded if each.startswith("libcudart.so."))
    if copies or len(runtimes) > 1:
        several = list(copies) or runtimes
        files = [file for each in several for file in loaded[each]]
        yield _mixed_finding(name, f"{', '.join(several)} loaded more than once", ", ".join(files[:4]), built_for)


def _mixed_finding(name: str, what: str, evidence: str, built_for: str) -> Finding:
    wanted = f"torch was built for CUDA {built_for}; " if built_for else ""
    return Finding(
        "cuda-libraries-mixed",
        "risky",
        f"CUDA libraries are mixed: {what}",
        name,
        wanted + evidence,
        "keep those of torch's CUDA and uninstall the others; look at LD_LIBRARY_PATH",
    )
