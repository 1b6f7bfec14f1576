"""Tells what is installed in the environment whose interpreter executes this, without importing any of it.

    python inventory.py DESCRIPTOR [NAME]

Writes one line of JSON to the descriptor. NAME: the worker whose package is looked for. Standard library alone; any
Python from 3.8 on.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import sysconfig


def main(arguments):
    sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    told = {
        "python": platform.python_version(),
        "executable": sys.executable,
        "prefix": sys.prefix,
        "platform": platform.platform(),
        "markers": _markers(),
        "distributions": [_described(each) for each in importlib.metadata.distributions()],
        "worker": _has_module("tuneyard." + arguments[1]) if len(arguments) > 1 else None,
        "core": _place("tuneyard.core"),
        "compiler": shutil.which(os.environ.get("CC") or "gcc") or shutil.which("cc"),
        "nvcc": shutil.which("nvcc") or _in_cuda_home(),
        "headers": os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h")),
        "include": sysconfig.get_paths()["include"],
        "variables": sorted(os.environ),
    }
    with open(int(arguments[0]), "w") as file:
        file.write(json.dumps(told) + "\n")


def _markers():
    """What decides the markers of requirements, under the names that they use."""
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": platform.python_version(),
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def _described(distribution):
    """A distribution; the name is null where its metadata cannot be read."""
    place = str(getattr(distribution, "_path", "") or "")
    try:
        name, version = distribution.metadata["Name"], distribution.version
        requires = distribution.requires or []
    except (KeyError, OSError, TypeError, ValueError):
        return {"name": None, "version": None, "requires": [], "place": place}
    return {"name": name, "version": version, "requires": requires, "place": place}


def _has_module(name):
    return _place(name) is not None


def _place(name):
    """The folder of a package, or None where it cannot be imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return (
        os.path.realpath(next(iter(spec.submodule_search_locations)))
        if spec and spec.submodule_search_locations
        else None
    )


def _in_cuda_home():
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    program = os.path.join(home, "bin", "nvcc")
    return program if os.access(program, os.X_OK) else None


if __name__ == "__main__":
    main(sys.argv[1:])
