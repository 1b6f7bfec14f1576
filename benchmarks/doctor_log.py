"""How long `yard doctor --log` takes for 100 MB, against grep with the same patterns.

    python benchmarks/doctor_log.py [--pairs 5]

The log is of a long training and a server at work: losses, rewritten progress bars, requests, and one line in forty a
warning that mentions an error; it ends in an exception. grep only prints the lines that bear a pattern, and which of
them is the cause is left to the reader.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from measure import HEADER, Comparison, compare, pairs_from_command_line

from tuneyard.core.signatures import SIGNATURES

SIZE = 100_000_000
BOUND = 0.5
SECONDS = 2.0
"""What 100 MB may take."""

WORK = (
    "{'loss': '1.2345', 'grad_norm': '0.53', 'learning_rate': '9.8e-05', 'epoch': '0.12'}\n"
    " 12%|█████     | 1200/10000 [10:00<1:12:00,  2.1it/s]\r"
    '(APIServer pid=1) INFO:     127.0.0.1:5000 - "POST /v1/completions HTTP/1.1" 200 OK\n'
)
WARNING = (
    "WARNING 11-19 12:54:26 [core.py:9] Failed to import from vllm._C with ImportError('libcudart.so.12: cannot open "
    "shared object file')\n"
)
END = 'Traceback (most recent call last):\n  File "train.py", line 9\ntorch.OutOfMemoryError: CUDA out of memory.\n'


def write_log(path: Path, size: int = SIZE) -> None:
    """A log of about `size` bytes."""
    round_ = (WORK * 20 + WARNING).encode()
    with open(path, "wb") as file:
        for _ in range(size // len(round_)):
            file.write(round_)
        file.write(END.encode())


def measure(pairs: int) -> Comparison:
    """Both on the same log."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "train.log"
        write_log(log)
        code = "import sys; from tuneyard.control.cli import run; sys.exit(run(sys.argv[1:]) != 1)"  # 1: it found why
        ours = [sys.executable, "-c", code, "doctor", "--log", str(log)]
        rival = ["grep", "-aP", "|".join(known.pattern.pattern for known in SIGNATURES), str(log)]
        speed = {**os.environ, "LC_ALL": "C"}  # the faster way for grep, which counts in the rival's favour
        return compare(
            "a log of 100 MB, against `grep -P` with the same patterns", ours, rival, pairs=pairs, rival_env=speed
        )


def main() -> None:
    """Print the rows for docs/benchmarks.md."""
    comparison = measure(pairs_from_command_line(__doc__ or ""))
    print(HEADER)
    print(comparison.row(BOUND))
    print(f"\nslowest of ours: {max(comparison.ours):.2f} s (bound {SECONDS} s)")


if __name__ == "__main__":
    main()
