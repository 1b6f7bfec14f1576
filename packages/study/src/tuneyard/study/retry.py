"""What the job of a run that ran out of memory does at its end: it gives the run to SLURM with half the batch.

    python -m tuneyard.study.retry EXPERIMENT [NAME=VALUE ...]

The options are those of `yard study run --slurm`. It may be killed, and it may be called again: what is done is not
done twice.
"""

from __future__ import annotations

import sys

from tuneyard.control.commands.arguments import named_values
from tuneyard.control.workspace import find_workspace
from tuneyard.core.errors import TuneyardError
from tuneyard.study.study import open_study
from tuneyard.study.submit import Submission


def main(arguments: list[str]) -> int:
    file, *words = arguments
    try:
        given = Submission(open_study(file, find_workspace()), named_values(words)).retry()
    except TuneyardError as error:
        print(f"not tried again with half the batch: {error}", file=sys.stderr)
        print(f"`yard study run {file} --on slurm` does it, where sbatch is", file=sys.stderr)
        return 1
    for note in given.notes:
        print(note, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
