"""Eight adapters of one base, evaluated through one server, against eight evaluations that each start vLLM.

    python benchmarks/serving_adapters.py [--pairs 1] [--adapters 8] [--model tiny|100m]

Ours starts a server with all adapters and evaluates them through it at once, which takes no device; the rival starts a
server with one adapter, evaluates, ends it, and so on. Start-up is in both, the evaluations are the same runs, and
their scores have to agree. Prints a row of the table in docs/benchmarks.md. Needs the environments `eval` and `serve`,
and `train` for the adapter of which the others are copies.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from measure import HEADER, Comparison, compare
from serving_client import write_model
from yard import Yard

from tuneyard.core.run_folder import RunFolder

BOUND = 0.25
"""Ours may take this part of the rival's time. Asserted on a GPU, reported on a CPU."""

LORA = [
    "dataset={source: builtin:arithmetic, size: 200, digits: 1}",
    "engine.finetuning_type=lora",
    "engine.lora_rank=8",
    "engine.lora_target=all",
    "engine.max_steps=5",
    "engine.cutoff_len=64",
]


@dataclass
class Bench:
    """One base, its adapters, and both ways to evaluate them."""

    yard: Yard
    model: str
    adapters: list[Path]
    scores: dict[str, list[float]] = field(default_factory=dict)

    def ours(self) -> None:
        """One server for all."""
        with self._server(self.adapters) as server, ThreadPoolExecutor(len(self.adapters)) as pool:
            self.scores["ours"] = [*pool.map(lambda adapter: self._score(server, adapter), self.adapters)]

    def rival(self) -> None:
        """A server for each."""
        self.scores["rival"] = []
        for adapter in self.adapters:
            with self._server([adapter]) as server:
                self.scores["rival"].append(self._score(server, adapter))

    def _server(self, adapters: list[Path]):
        names = ",".join(map(str, adapters))
        return self.yard.server(f"model={self.model}", f"adapters=[{names}]", "port=0", "engine.max_model_len=512")

    def _score(self, server: RunFolder, adapter: Path) -> float:
        words = [f"endpoint=run:{server.id}", f"endpoint_model={adapter.name}", "limit=50", "batch_size=16"]
        run = self.yard.run("eval", "--task", "arithmetic", *words)
        latest = run.latest()
        result = latest.read_result() if latest else None
        assert result is not None
        return result["metrics"]["arithmetic/exact_match"]["value"]


def measure(model: str = "tiny", pairs: int = 1, adapters: int = 8) -> Comparison:
    """Time both ways, in turn, after one start of a server that is not counted.

    Args:
        model: tiny or 100m.
        pairs: counted rounds of each.
        adapters: how many are evaluated.

    Raises:
        AssertionError: both ways end with other scores.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yard = Yard(folder, ["train", "eval", "serve"])
        reference = write_model(yard, model)
        trained = yard.run("train", f"model={reference}", *LORA).adapter
        copies = [Path(shutil.copytree(trained, folder / f"adapter-{number}")) for number in range(adapters)]
        bench = Bench(yard, reference, copies)
        with yard.server(f"model={reference}", "port=0", "engine.max_model_len=512"):
            print("warm", file=sys.stderr, flush=True)
        title = f"{adapters} adapters of one base evaluated, against as many servers, {model}"
        comparison = compare(title, bench.ours, bench.rival, pairs=pairs, warm_up=0)
        assert bench.scores["ours"] == bench.scores["rival"], json.dumps(bench.scores)
        return comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--model", choices=("tiny", "100m"), default="tiny")
    options = parser.parse_args()
    comparison = measure(options.model, options.pairs, options.adapters)
    print(HEADER)
    print(comparison.row(BOUND))


if __name__ == "__main__":
    main()
