"""GSM8K, 20 documents, tiny model: `yard run --kind eval --task gsm8k` against lm-eval's own command.

    python benchmarks/gsm8k.py [--pairs 5] [--documents 20]

Both read the same local files, ask the same five-shot prompts in batches of the same size on the CPU and generate up to
lm-eval's own 256 tokens. Needs the environment `eval`, in which both sides run. GSM8K's files are looked for in
../shared/data/gsm8k and in TUNEYARD_GSM8K; without them nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measure import HEADER, YARD, Comparison, compare
from yard import Yard

BOUND = 0.8
"""Ours may take this part of the rival's time."""

BATCH = 8


@dataclass(frozen=True)
class Sides:
    """The two commands, over one model, one folder of data and one cache."""

    yard: Yard
    data: Path
    documents: int

    def prepare(self) -> None:
        """The task file of theirs, and the model."""
        from tuneyard.data.tiny import write_tiny

        write_tiny(self.folder / "tiny")
        files = {split: str(self.data / f"{split}.jsonl") for split in ("train", "test")}
        task = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
        self.task.write_text(json.dumps({"include": str(_task_of(self.python)), **task}))

    @property
    def folder(self) -> Path:
        return self.yard.folder

    @property
    def python(self) -> str:
        return self.yard.pythons["eval"]

    @property
    def task(self) -> Path:
        return self.folder / "theirs.yaml"

    def ours(self) -> list[str]:
        settings = [f"data={self.data}", f"limit={self.documents}", f"batch_size={BATCH}"]
        return [*YARD, "run", "--kind", "eval", "--task", "gsm8k", f"model={self.folder / 'tiny'}", *settings]

    def rival(self) -> list[str]:
        model = ["--model", "hf", "--model_args", f"pretrained={self.folder / 'tiny'}", "--device", "cpu"]
        asked = ["--tasks", str(self.task), "--limit", str(self.documents), "--batch_size", str(BATCH)]
        kept = ["--output_path", str(self.folder / "out"), "--log_samples"]
        return [self.python, "-m", "lm_eval", "run", *model, *asked, *kept]


def _task_of(python: str) -> Path:
    """lm-eval's own task file, in the environment of an interpreter."""
    import subprocess

    code = "import importlib.util as u; print(u.find_spec('lm_eval').origin)"
    origin = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    return Path(origin).parent / "tasks" / "gsm8k" / "gsm8k.yaml"


def measure(data: Path, pairs: int = 5, documents: int = 20) -> Comparison:
    """Time both, in turn.

    Args:
        data: folder of GSM8K's train.jsonl and test.jsonl.
        pairs: counted runs of each.
        documents: documents of the test split.
    """
    with tempfile.TemporaryDirectory(prefix="gsm8k-") as folder:
        caches = {"XDG_CACHE_HOME": f"{folder}/cache", "HF_HOME": f"{folder}/hf"}
        yard = Yard(Path(folder), ["eval"], TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1", **caches)
        sides = Sides(yard, data, documents)
        sides.prepare()
        name = f"GSM8K, {documents} documents, tiny model"
        return compare(name, sides.ours(), sides.rival(), pairs=pairs, env=yard.variables, rival_env=yard.variables)


def data_folder() -> Path | None:
    """GSM8K's files, where they are at hand."""
    named = os.environ.get("TUNEYARD_GSM8K")
    places = [Path(named)] if named else []
    places.append(Path(__file__).parents[2] / "shared" / "data" / "gsm8k")
    return next((place for place in places if (place / "test.jsonl").is_file()), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="counted runs of each side (default 5)")
    parser.add_argument("--documents", type=int, default=20, help="documents that are asked (default 20)")
    asked = parser.parse_args()
    data = data_folder()
    if data is None:
        print("not run: GSM8K's JSONL files are neither in ../shared/data/gsm8k nor in TUNEYARD_GSM8K")
        return
    result = measure(data, asked.pairs, asked.documents)
    print(HEADER)
    print(result.row(BOUND))


if __name__ == "__main__":
    main()
