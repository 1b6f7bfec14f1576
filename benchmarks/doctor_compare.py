"""`yard doctor compare --no-proof` of the workspace's own stacks, against one `uv pip compile` of one of them.

    python benchmarks/doctor_compare.py [--pairs 5]

What is declared must be told before a solver could have answered once, or people would ask the solver only. Both sides
have what they know in their caches: ours the metadata of the engines, uv its own. Prints rows of the table in
docs/benchmarks.md. It needs uv and a package index.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from measure import HEADER, YARD, Comparison, compare, pairs_from_command_line

from tuneyard.control.workspace import Workspace
from tuneyard.doctor.compatibility.stacks import environment_stack
from tuneyard.doctor.compatibility.uv import find_solver

ROOT = Path(__file__).resolve().parents[1]

BOUNDS = {"train": 1.0, "default": 1.5}
"""The stack that is solved for -> the most that comparing all four may cost, as a multiple of that solve.

`default` holds tools alone and is by far the smallest.
"""

ACCEPTING = [
    sys.executable,
    "-c",
    "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL) not in (0, 1))",
]
"""Runs a command that ends with 1 where stacks conflict, as ours do: that is its answer, and no failure."""


def measure(pairs: int = 5) -> list[Comparison]:
    """Time the comparison of every pair of the workspace's environments against a solve for each rival."""
    solver = find_solver(ROOT)
    ours = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [*ACCEPTING, *YARD, "doctor", "compare", "--no-proof"]
    found = []
    with tempfile.TemporaryDirectory(prefix="doctor-compare-") as folder:
        ours |= {"TUNEYARD_WORKSPACE": str(ROOT), "PYTHONPYCACHEPREFIX": folder}  # bytecode is kept, as uv is compiled
        for name in BOUNDS:
            stack = environment_stack(Workspace(ROOT), name, solver.python)
            listing = Path(folder) / f"{name}.txt"
            listing.write_text("".join(f"{declared.requirement}\n" for declared in stack.to_solve()))
            rival = [solver.program, "pip", "compile", "--quiet", "--no-header", *solver.options]
            rival += ["--python", sys.executable, "--python-version", solver.python, str(listing)]
            title = f"what the four stacks declare, against `uv pip compile` of `{name}`"
            found.append(compare(title, command, rival, pairs=pairs, env=ours, rival_env=solver.environ))
    return found


if __name__ == "__main__":
    print(HEADER)
    for comparison, bound in zip(measure(pairs_from_command_line(__doc__ or "")), BOUNDS.values(), strict=True):
        print(comparison.row(bound))
