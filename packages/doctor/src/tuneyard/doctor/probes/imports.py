"""Imports modules one after the other and tells how each went. Executed by the environment's own interpreter.

    python imports.py DESCRIPTOR SECONDS MODULE [...]

A line of JSON is written to the descriptor before and after each step, so that whoever reads it knows what was being
done when this process died. Standard library alone until a module is asked for; any Python from 3.8 on.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import json
import os
import re
import sys
import time
import traceback
import warnings
from typing import Any

OWN = os.getpid()
FORKS = []  # one entry for each fork of this process since the step began
CUDA_LIBRARIES = re.compile(r"/(lib(?:cudart|cublas|cudnn|nccl|cusparse|nvrtc|nvJitLink)\.so\.(\d+))")


def main(arguments):
    descriptor, seconds, modules = int(arguments[0]), float(arguments[1]), arguments[2:]
    _prepare()
    steps = [step for name in modules for step in _steps(name)]
    for name, step in steps:
        _tell(descriptor, {"begin": name})
        faulthandler.dump_traceback_later(max(0.1, seconds - 0.5), exit=False)
        started = time.perf_counter()
        del FORKS[:]
        told: dict[str, Any] = _outcome(step)
        if os.getpid() != OWN:
            os._exit(0)  # a copy that a fork in an import made; it must not tell the same a second time
        told["seconds"] = round(time.perf_counter() - started, 3)
        _tell(descriptor, {"end": name, "forks": len(FORKS), **told})
        faulthandler.cancel_dump_traceback_later()
    _tell(descriptor, {"end": "all", "cuda_libraries": _cuda_libraries()})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what libraries do at exit is not what is asked


def _prepare():
    faulthandler.enable()
    gc.disable()  # what imports make lives on; looking for garbage among it takes a third of the time
    sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    os.register_at_fork(after_in_parent=lambda: FORKS.append(1))
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError):
        pass


def _steps(name):
    if name == "stand-ins":
        return [(name, _stand_ins)]
    steps = [(name, lambda: _imported(name))]
    return [*steps, ("torch.cuda", _cuda)] if name == "torch" else steps


def _outcome(step):
    try:
        return {"facts": step()}
    except BaseException as error:  # SystemExit too: an import may raise anything, and all of it is told
        return {"error": _described(error)}


def _imported(name):
    module = importlib.import_module(name)
    return {"version": str(getattr(module, "__version__", "")), "file": str(getattr(module, "__file__", ""))}


def _stand_ins():
    """What the training worker puts in the place of what it does without, where that worker is installed."""
    try:
        from tuneyard.train.stand_ins import stand_in
    except ImportError:
        return {"torchaudio": False}
    return {"torchaudio": bool(stand_in())}


def _cuda():
    """What torch was built for, and what it and the driver say of the cards. It initialises CUDA as a worker would."""
    torch = sys.modules.get("torch")
    version = getattr(getattr(torch, "version", None), "cuda", None)
    if torch is None or not version:
        return {"built_for": None}
    facts: dict[str, Any] = {"built_for": str(version), "architectures": _architectures(torch), **_driver()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        facts["available"] = bool(torch.cuda.is_available())
        count = torch.cuda.device_count() if facts["available"] else 0
        cards = [torch.cuda.get_device_properties(number) for number in range(count)]
    facts["cards"] = [
        {"name": card.name, "memory": card.total_memory, "capability": [card.major, card.minor]} for card in cards
    ]
    facts["warnings"] = [str(warning.message)[:500] for warning in caught][:5]
    return facts


def _architectures(torch):
    flags = getattr(getattr(torch, "_C", None), "_cuda_getArchFlags", None)
    text = flags() if flags else None
    return text.split() if text else []


def _driver():
    """CUDA that the driver can run, as major and minor, and what it answers to its first call (0: well)."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"driver_error": str(error)[:300]}
    version = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(version))
    return {"runs": [version.value // 1000, version.value % 1000 // 10], "first_call": int(library.cuInit(0))}


def _cuda_libraries():
    """The CUDA libraries that are loaded: name -> files."""
    found = {}
    try:
        with open("/proc/self/maps") as file:
            for line in file:
                match = CUDA_LIBRARIES.search(line)
                if match:
                    found.setdefault(match.group(1), set()).add(line[line.index("/") :].strip())
    except OSError:
        pass
    return {name: sorted(files) for name, files in found.items()}


def _described(error):
    """The error and those that led to it, the last one first, and the place at which the first was raised."""
    chain, seen = [], set()
    current = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    frames = traceback.extract_tb(chain[-1].__traceback__)
    return {
        "type": type(error).__name__,
        "chain": [f"{type(each).__name__}: {str(each)[:1500]}" for each in chain[:6]],
        "missing": getattr(chain[-1], "name", None) if isinstance(chain[-1], ModuleNotFoundError) else None,
        "place": f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None,
    }


def _tell(descriptor, told):
    os.write(descriptor, (json.dumps(told) + "\n").encode())


if __name__ == "__main__":
    main(sys.argv[1:])
