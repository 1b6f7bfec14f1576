"""`yard runs` and `yard show` among 10,000 runs, against a Python that only imports pydantic and yaml.

    python benchmarks/runs_listing.py [--pairs 5]

Looking at runs must cost no more than starting to think about them. Prints rows of the table in docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from pathlib import Path

from measure import HEADER, YARD, Comparison, compare, pairs_from_command_line

from tuneyard.core.results import Artifact, Metric, Result
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import EvalSpec, TrainSpec

RUNS = 10_000

BOUNDS = {"yard runs": 1.5, "yard runs --state failed": 1.5, "yard show": 1.2}
"""What is measured -> the most that it may cost, as a multiple of the rival."""

RIVAL = [sys.executable, "-c", "import pydantic, yaml"]


def measure(pairs: int = 5, runs: int = RUNS) -> list[Comparison]:
    """Make a workspace with that many runs and time the commands in it, bytecode compiled on both sides."""
    with tempfile.TemporaryDirectory(prefix="runs listing ") as folder:
        workspace = Path(folder)
        (workspace / "pixi.toml").touch()
        names = make_runs(workspace / "runs", runs)
        env = environment(workspace)
        words = {
            "yard runs": ["runs"],
            "yard runs --state failed": ["runs", "--state", "failed"],
            "yard show": ["show"],
        }
        words["yard show"].append(names[len(names) // 2])
        return [
            compare(f"`{name}` over {runs:,} runs", [*YARD, *words[name]], RIVAL, pairs=pairs, env=env, rival_env=env)
            for name in BOUNDS
        ]


def environment(workspace: Path) -> dict[str, str]:
    """Variables of both sides: bytecode is kept, and the index lies in a cache of its own."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "INIT_CWD")}
    own = {
        "TUNEYARD_WORKSPACE": str(workspace),
        "XDG_CACHE_HOME": str(workspace / "cache"),
        "PYTHONPYCACHEPREFIX": str(workspace / "bytecode"),
    }
    return {**kept, **own}


def make_runs(folder: Path, count: int) -> list[str]:
    """That many finished runs, as workers leave them, over some months; their ids, the oldest first."""
    generator = random.Random(0)
    letters = "abcdefghijkmnpqrstuvwxyz23456789"
    names = []
    for number in range(count):
        kind = "train" if number % 2 else "eval"
        day, minute = divmod(number * 17, 24 * 60)
        date = f"26{1 + day // 28 % 12:02d}{1 + day % 28:02d}"
        tail = "".join(generator.choices(letters, k=3))
        names.append(f"{kind}-arithmetic-{date}-{minute // 60:02d}{minute % 60:02d}-{tail}")
        make_run(RunFolder(folder / names[-1]), kind, failed=number % 50 == 0)
    return names


def make_run(run: RunFolder, kind: str, failed: bool) -> None:
    """One finished run."""
    spec = (
        TrainSpec.model_validate({"model": "builtin:tiny", "dataset": "builtin:arithmetic", "engine": {"stage": "sft"}})
        if kind == "train"
        else EvalSpec.model_validate({"model": "builtin:tiny", "tasks": "arithmetic"})
    )
    run.attempt(1).folder.mkdir(parents=True)
    run.spec.write_text(spec.model_dump_json(indent=2))
    metrics = {f"arithmetic/metric_{n}": Metric(value=n / 7, standard_error=0.01, n=500) for n in range(6)}
    artifacts = [Artifact(name=f"artifact_{n}", path=f"artifacts/{n}", sha256="0" * 64, size=n) for n in range(6)]
    result = Result(
        run=run.id,
        attempt=1,
        status="failed" if failed else "succeeded",
        metrics=metrics,
        artifacts=artifacts,
        started="2026-11-21T00:00:00.000Z",
        ended="2026-11-21T00:01:00.000Z",
        seconds=60.0,
        versions={f"package-{n}": f"1.{n}" for n in range(12)},
    )
    run.attempt(1).result.write_text(json.dumps(result.model_dump(), indent=2))


if __name__ == "__main__":
    found = measure(pairs_from_command_line(__doc__ or ""))
    print(HEADER)
    for comparison, bound in zip(found, BOUNDS.values(), strict=True):
        print(comparison.row(bound))
