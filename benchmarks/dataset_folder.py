"""Alpaca JSONL to a dataset folder: `tuneyard.data prepare` against `datasets`, which maps in batches and saves.

    python benchmarks/dataset_folder.py [--rows 1000000] [--pairs 5] [--python PYTHON]

Both check that every row has texts where texts belong and put an empty text where there is no input; ours also takes
the sha256 of what it writes. PYTHON must have `datasets`; it defaults to the environment `train`, and runs both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

BOUND = 0.2
"""Ours may take this part of the rival's time: five times its speed."""

MEMORY_BOUND = 1.25
"""Peak memory at ten times the rows, over that at one time."""

RIVAL = """
import sys
from datasets import load_dataset

source, target, cache = sys.argv[1:]

def check(batch):
    for column in ("instruction", "output"):
        if not all(isinstance(text, str) for text in batch[column]):
            raise ValueError(f"{column} must be text")
    batch["input"] = [text if text is not None else "" for text in batch["input"]]
    return batch

rows = load_dataset("json", data_files=source, split="train", cache_dir=cache)
rows.map(check, batched=True, num_proc=2).save_to_disk(target)
"""

PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""

WORDS = (__doc__ or "").split()
"""English enough for rows."""


def write_corpus(path: Path, rows: int, seed: int = 0) -> None:
    """Alpaca rows of made-up English: about 400 bytes each, two in three without input, some quotes and accents."""
    random_ = random.Random(seed)

    def texts(shortest: int, longest: int, count: int = 5000) -> list[str]:
        return [_text(random_, random_.randint(shortest, longest)) for _ in range(count)]

    instructions, inputs, outputs = texts(6, 20), texts(4, 30), texts(5, 120)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(rows):
            row = {
                "instruction": random_.choice(instructions),
                "input": random_.choice(inputs) if number % 3 == 0 else "",
                "output": random_.choice(outputs),
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _text(random_: random.Random, length: int) -> str:
    text = " ".join(random_.choices(WORDS, k=length)).capitalize() + "."
    if random_.random() < 0.3:
        text = text.replace(" ", "\n", 2)
    return text + ' So the "naïve" Straße ends — here.' if random_.random() < 0.1 else text


def ours(folder: Path, corpus: Path, python: str) -> list[str]:
    """Our command over a corpus; `folder` is the run's."""
    folder.mkdir()
    spec = {"kind": "train", "model": "builtin:tiny", "dataset": {"source": "rows", "path": str(corpus)}}
    (folder / "spec.json").write_text(json.dumps(spec))
    return [python, "-m", "tuneyard.data", "prepare", str(folder)]


def rival(folder: Path, corpus: Path, python: str) -> list[str]:
    """The rival's command over a corpus; `folder` takes the cache that it cannot do without, too."""
    return [python, "-c", RIVAL, str(corpus), str(folder / "saved"), str(folder / "cache")]


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def compare(rows: int, pairs: int, python: str, folder: Path) -> measure.Comparison:
    """Time both over `rows` rows, in turn, after a run of each that is not counted; who goes first alternates.

    Args:
        rows: rows of the corpus.
        pairs: counted runs of each.
        python: interpreter that has `datasets` and `tuneyard.data`.
        folder: takes what both write, up to four times the corpus, of about 400 bytes a row; emptied between the runs.
    """
    corpus = folder / "alpaca.jsonl"
    write_corpus(corpus, rows)
    times: dict[str, list[float]] = {"ours": [], "rival": []}
    sides = {"ours": ours, "rival": rival}
    for number in range(pairs + 1):
        for name in ("ours", "rival") if number % 2 else ("rival", "ours"):
            place = folder / f"train-{name}-261120-1830-{number:03d}"
            os.sync()  # what was written before is not to be paid for here
            taken = measure.seconds(sides[name](place, corpus, python), env=_environment())
            shutil.rmtree(place)
            if number:
                times[name].append(taken)
    return measure.Comparison(f"alpaca JSONL of {rows:,} rows to a dataset folder", times["ours"], times["rival"])


def peak_memory(rows: int, python: str, folder: Path) -> int:
    """The most memory that any process of ours holds at once, in MiB."""
    corpus = folder / "alpaca.jsonl"
    write_corpus(corpus, rows)
    command = ours(folder / "train-memory-261120-1830-abc", corpus, python)
    done = subprocess.run([python, "-c", PEAK, *command], capture_output=True, text=True, check=True)
    return int(done.stdout) // (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _python_of_train() -> str:
    from tuneyard.control.environments import environment_prefix
    from tuneyard.control.workspace import find_workspace

    return str(environment_prefix(find_workspace(), "train") / "bin" / "python")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the corpus (default 1,000,000)")
    parser.add_argument("--pairs", type=int, default=5, help="counted runs of each side (default 5)")
    parser.add_argument("--python", help="interpreter with `datasets` (default: that of the environment train)")
    asked = parser.parse_args()
    python = asked.python or _python_of_train()
    with tempfile.TemporaryDirectory() as folder:
        result = compare(asked.rows, asked.pairs, python, Path(folder))
    print(measure.HEADER)
    print(result.row(BOUND), flush=True)
    print()
    for rows in (asked.rows // 10, asked.rows):
        with tempfile.TemporaryDirectory() as folder:
            print(f"Peak memory at {rows:,} rows: {peak_memory(rows, python, Path(folder))} MiB.", flush=True)


if __name__ == "__main__":
    main()
