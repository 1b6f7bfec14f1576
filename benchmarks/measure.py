"""Timing two commands against each other: interleaved pairs, medians, the ratio pair by pair.

The machine's speed drifts, so seconds of one run say little; what both did in the same minutes does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Comparison:
    """Wall seconds of ours and of the rival, run in turn."""

    name: str
    ours: list[float]
    rival: list[float]

    @property
    def ratio(self) -> float:
        """Median over the pairs of ours / rival; under 1 is faster."""
        return statistics.median(a / b for a, b in zip(self.ours, self.rival, strict=True))

    def row(self, bound: float) -> str:
        """A row of the table in docs/benchmarks.md."""
        ours, rival = statistics.median(self.ours), statistics.median(self.rival)
        return f"| {self.name} | {ours:.3f} s | {rival:.3f} s | {self.ratio:.2f} | {bound} | {len(self.ours)} |"


HEADER = "| what | tuneyard | rival | ratio | bound | pairs |\n| --- | --- | --- | --- | --- | --- |"
"""Head of the table that `Comparison.row` continues."""

YARD = [sys.executable, "-c", "from tuneyard.control.cli import main; main()"]
"""What the program `yard` does."""

Side = Sequence[str | Path] | Callable[[], None]
"""A command, or a function of this process."""


def seconds(side: Side, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> float:
    """Wall seconds of one run.

    Raises:
        RuntimeError: the command failed; with the end of what it printed.
    """
    start = time.perf_counter()
    if callable(side):
        side()
        return time.perf_counter() - start
    done = subprocess.run([str(word) for word in side], env=env, cwd=cwd, capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{side[0]} exited with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return elapsed


def compare(
    name: str,
    ours: Side,
    rival: Side,
    *,
    pairs: int = 5,
    warm_up: int = 1,
    env: Mapping[str, str] | None = None,
    rival_env: Mapping[str, str] | None = None,
) -> Comparison:
    """Run both in turn, `pairs` times, after runs of each that are not counted; who goes first alternates.

    Args:
        name: what is measured.
        ours, rival: commands or functions.
        pairs: counted runs of each.
        warm_up: runs of each that are not counted.
        env: variables of our command; default: this process's.
        rival_env: variables of the rival's; default: this process's.
    """
    both = {"ours": (ours, env or os.environ), "rival": (rival, rival_env or os.environ)}
    times: dict[str, list[float]] = {"ours": [], "rival": []}
    for number in range(warm_up + pairs):
        for side in ("ours", "rival") if number % 2 == 0 else ("rival", "ours"):
            command, variables = both[side]
            taken = seconds(command, env=variables)
            if number >= warm_up:
                times[side].append(taken)
        print(f"{name}: pair {number + 1 - warm_up} of {pairs}", file=sys.stderr, flush=True)
    return Comparison(name, times["ours"], times["rival"])


def pairs_from_command_line(description: str) -> int:
    """`--pairs N` of a benchmark's command line; default 5."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", type=int, default=5, help="counted runs of each side (default 5)")
    return parser.parse_args().pairs


def generation_options(description: str, prompts: int) -> argparse.Namespace:
    """`--pairs`, `--prompts`, `--tokens` and `--model` of a benchmark that generates.

    Args:
        description: of the command line.
        prompts: how many a round answers by default.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", type=int, default=5, help="counted rounds of each side (default 5)")
    parser.add_argument("--prompts", type=int, default=prompts, help=f"of each round (default {prompts})")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer (default 64)")
    parser.add_argument("--model", choices=("tiny", "100m"), default="tiny")
    return parser.parse_args()
