"""The matrix of a study with 10,000 runs, against `itertools.product` writing the same YAML by hand.

    python benchmarks/study_plan.py [--pairs 7]

The rival knows the names and types of its variables and formats every line itself; tuneyard makes combinations of any
design and writes values of any kind so that YAML reads them back. Both write the same bytes, which is checked.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import tracemalloc
from pathlib import Path

from measure import HEADER, Comparison, compare

from tuneyard.study.generate import mapping_rows
from tuneyard.study.study import Point
from tuneyard.study.variables import design_of

BOUND = 5.0
"""Ours / rival at most."""

MEMORY = 1_000_000
"""Bytes that ours may hold at once, whatever the number of runs."""

RANKS = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
RATES = [n * 1e-5 for n in range(1, 21)]
STEPS = list(range(100, 600, 100))
TEMPLATES = ["default", "llama3", "qwen", "gemma", "mistral", "phi", "yi", "baichuan", "alpaca", "vicuna"]
VARIABLES = {"lora_rank": RANKS, "learning_rate": RATES, "max_steps": STEPS, "template": TEMPLATES}


def ours(path: Path) -> None:
    """All runs of the design."""
    combinations = design_of(VARIABLES, "benchmark").combinations()
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(mapping_rows(Point(number, values) for number, values in enumerate(combinations)))


def rival(path: Path) -> None:
    """The same by itertools and a formatted string."""
    with open(path, "w", encoding="utf-8") as file:
        for number, (rank, rate, steps, template) in enumerate(itertools.product(RANKS, RATES, STEPS, TEMPLATES)):
            file.write(
                f"- {{id: '{number:03d}', params: {{lora_rank: {rank}, learning_rate: {_float(rate)}, "
                f"max_steps: {steps}, template: {template}}}}}\n"
            )


def _float(value: float) -> str:
    text = repr(value)
    return text.replace("e", ".0e", 1) if "e" in text and "." not in text else text


def peak(folder: Path) -> int:
    """Bytes that ours held at most."""
    tracemalloc.start()
    ours(folder / "ours.yaml")
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return held


def measure(pairs: int = 7) -> Comparison:
    """Both in turn, after both were seen to write the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours(folder / "ours.yaml")
        rival(folder / "rival.yaml")
        assert (folder / "ours.yaml").read_bytes() == (folder / "rival.yaml").read_bytes()
        assert peak(folder) < MEMORY
        return compare(
            "the matrix of 10,000 runs",
            lambda: ours(folder / "ours.yaml"),
            lambda: rival(folder / "rival.yaml"),
            pairs=pairs,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    print(HEADER)
    print(measure(parser.parse_args().pairs).row(BOUND))
