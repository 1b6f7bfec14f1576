"""`yard doctor ENV` without --deep, against a bare Python of that environment that imports its engine once.

    python benchmarks/doctor_health.py [--pairs 5]

The doctor imports the same engine, in a process of its own, and beside it reads what is installed, looks at disks,
limits, cards and variables, and asks the hub for at most three seconds. Prints rows of the table in docs/benchmarks.md.
Needs the environments `train` and `eval`.
"""

from __future__ import annotations

import os
from pathlib import Path

from measure import HEADER, YARD, Comparison, compare, pairs_from_command_line

from tuneyard.control.environments import worker_environment, worker_python
from tuneyard.control.workspace import Workspace, find_workspace

ROOT = Path(__file__).parents[1]

BOUND = 1.2
"""The most that a diagnosis may take, as a multiple of the bare import."""

ENGINES = {
    "train": "from tuneyard.train.stand_ins import stand_in; stand_in(); import llamafactory.train.tuner",
    "eval": "import lm_eval.models.huggingface",
}
"""Environment -> the import of its engine; LLaMA-Factory needs torchaudio, or what stands in for it."""


def measure(pairs: int = 5) -> list[Comparison]:
    """Time both in turn in each environment; the first of each, which warms the disk, does not count."""
    return [_measure(find_workspace(ROOT), name, pairs) for name in ENGINES]


def _measure(workspace: Workspace, name: str, pairs: int) -> Comparison:
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    own = {**kept, "TUNEYARD_WORKSPACE": str(workspace.path)}
    bare = worker_environment(workspace, name, {"HF_HUB_OFFLINE": "1"})
    bare.pop("PYTHONDONTWRITEBYTECODE", None)
    rival = [worker_python(workspace, name), "-c", ENGINES[name]]
    return compare(f"`yard doctor {name}`", [*YARD, "doctor", name], rival, pairs=pairs, env=own, rival_env=bare)


if __name__ == "__main__":
    found = measure(pairs_from_command_line(__doc__ or ""))
    print(HEADER)
    for each in found:
        print(each.row(BOUND))
