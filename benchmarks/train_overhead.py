"""A 20-step LoRA run through `yard run`, against `llamafactory-cli train` on the YAML that the run leaves.

    python benchmarks/train_overhead.py [--pairs 5]

Resolving, preparing the data, supervising, events, hashes, the fingerprint and the plot are all on our side of the
scale. Prints a row of the table in docs/benchmarks.md. Needs the environment `train`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from measure import HEADER, Comparison, compare, pairs_from_command_line, seconds
from yard import Yard

BOUND = 1.05
"""The most that a run may cost, as a multiple of the rival."""

SPEC = {
    "kind": "train",
    "name": "overhead",
    "model": "builtin:tiny",
    "dataset": {"source": "builtin:arithmetic", "digits": 3, "size": 2000, "seed": 0},
    "engine": {
        "stage": "sft",
        "finetuning_type": "lora",
        "lora_rank": 8,
        "cutoff_len": 128,
        "max_steps": 20,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "logging_steps": 1,
    },
}


@dataclass(frozen=True)
class Bench:
    """Both sides of the comparison, in a workspace of its own."""

    yard: Yard

    @property
    def folder(self) -> Path:
        return self.yard.folder

    @property
    def python(self) -> Path:
        """Of the environment `train`, which both sides train in."""
        return Path(self.yard.pythons["train"])

    def prepare(self) -> None:
        """Write the spec, and what stands in for torchaudio on the rival's side, which needs it too."""
        (self.folder / "spec.yaml").write_text(yaml.safe_dump(SPEC))
        stand_in = self.folder / "stand-in"
        stand_in.mkdir()
        (stand_in / "sitecustomize.py").write_text(
            "from tuneyard.train.stand_ins import stand_in\nstand_in()\n" if self._lacks_torchaudio() else ""
        )

    def _lacks_torchaudio(self) -> bool:
        command = [self.python, "-c", "import torchaudio"]
        return subprocess.run(command, capture_output=True, check=False).returncode != 0

    def ours(self) -> None:
        """One run from its spec to its result."""
        self.yard("run", str(self.folder / "spec.yaml"))

    def rival(self) -> None:
        """The same training by LLaMA-Factory alone: into a new folder, with data that it has not met before."""
        shutil.rmtree(self.folder / "saves", ignore_errors=True)
        with tempfile.TemporaryDirectory() as tables:
            own = {"HF_DATASETS_CACHE": tables, "PYTHONPATH": str(self.folder / "stand-in")}
            file = max(self.folder.glob("runs/*/artifacts/llamafactory.yaml"), key=os.path.getmtime)
            command = [self.python.with_name("llamafactory-cli"), "train", file]
            seconds(command, env={**self.yard.variables, **own}, cwd=self.folder)


def measure(pairs: int = 5) -> Comparison:
    """Time both in turn; the first of each, which writes bytecode, does not count."""
    with tempfile.TemporaryDirectory(prefix="train overhead ") as folder:
        bench = Bench(Yard(Path(folder), ["train"], OMP_NUM_THREADS="1"))
        bench.prepare()
        bench.ours()  # the rival reads the YAML of a run
        return compare("20 LoRA steps", bench.ours, bench.rival, pairs=pairs)


if __name__ == "__main__":
    found = measure(pairs_from_command_line(__doc__ or ""))
    print(HEADER)
    print(found.row(BOUND))
