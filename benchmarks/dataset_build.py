"""`yard dataset build` of a JSONL file, checked and without doubles, against parsing and writing it with orjson.

    python benchmarks/dataset_build.py [--rows 1000000] [--pairs 5]

Both are one process, the start of Python included. The rival reads a line, parses it, writes it again, and that is all.
Ours also checks every row, leaves out those that say the same as an earlier one, and hashes what it reads and writes.
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
from dataset_folder import PEAK, write_corpus

BOUND = 2.0
"""Ours may take this many times the rival's time."""

DOUBLE = 50
"""One row in this many says what an earlier one says."""

RIVAL = """
import sys
import orjson

with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
    for line in source:
        target.write(orjson.dumps(orjson.loads(line), option=orjson.OPT_APPEND_NEWLINE))
"""


def write_source(path: Path, rows: int, seed: int = 0) -> None:
    """Alpaca rows of about 580 bytes, of which one in `DOUBLE` comes twice."""
    write_corpus(path, rows, seed)
    lines = path.read_bytes().splitlines(keepends=True)
    random_ = random.Random(seed)
    for number in range(0, rows, DOUBLE):
        lines[number] = lines[random_.randrange(rows)]
    path.write_bytes(b"".join(lines))


def ours(source: Path, target: Path, *options: str) -> list[str]:
    """Our command; `target` is the dataset folder."""
    run = "import sys; from tuneyard.control.cli import run; sys.exit(run(sys.argv[1:]))"
    return [sys.executable, "-c", run, "dataset", "build", str(source), "--out", str(target), *options]


def rival(source: Path, target: Path) -> list[str]:
    """The rival's command; `target` is the file."""
    return [sys.executable, "-c", RIVAL, str(source), str(target)]


def compare(rows: int, pairs: int, folder: Path, *options: str) -> measure.Comparison:
    """Time both over the same file, in turn, after a run of each that is not counted; who goes first alternates.

    Args:
        rows: rows of the file.
        pairs: counted runs of each.
        folder: takes the file and what both write, of about 580 bytes a row each; emptied between the runs.
        options: further options of our command.
    """
    source = folder / "alpaca.jsonl"
    if not source.exists():
        write_source(source, rows)
    times: dict[str, list[float]] = {"ours": [], "rival": []}
    sides = {
        "ours": (ours(source, folder / "built", *options), folder / "built"),
        "rival": (rival(source, folder / "written.jsonl"), folder / "written.jsonl"),
    }
    for number in range(pairs + 1):
        for name in ("ours", "rival") if number % 2 else ("rival", "ours"):
            command, target = sides[name]
            os.sync()  # what was written before is not to be paid for here
            taken = measure.seconds(command)
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            if number:
                times[name].append(taken)
    what = f"`yard dataset build` of {rows:,} rows, against parsing and writing them with orjson"
    return measure.Comparison(" ".join([what, *(f"(`{' '.join(options)}`)" for _ in options[:1])]), **times)


def peak_memory(rows: int, folder: Path) -> int:
    """The most memory that our process holds at once, in MiB."""
    source = folder / f"{rows}.jsonl"
    write_source(source, rows)
    command = [sys.executable, "-c", PEAK, *ours(source, folder / f"built-{rows}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) // (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the file (default 1,000,000)")
    parser.add_argument("--pairs", type=int, default=5, help="counted runs of each side (default 5)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(measure.HEADER)
        for options in ([], ["--dedupe", "normalised"]):
            print(compare(asked.rows, asked.pairs, Path(folder), *options).row(BOUND), flush=True)
        memory = {rows: peak_memory(rows, Path(folder)) for rows in (asked.rows // 10, asked.rows)}
    print(json.dumps({"peak memory in MiB, by rows": memory}))


if __name__ == "__main__":
    main()
