"""Whether stacks can share an environment: what each declares, where that disagrees, and the proof by a real solve.

`yard doctor compare A B [...]` calls `main`; everything else is imported by then.
"""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """Compare the stacks named in `arguments`; the exit code: 0 fine, 1 conflicts, 3 could not be proved.

    Raises:
        RequestError: an argument is wrong, or names nothing that can be read.
    """
    from tuneyard.doctor.compatibility.compare import run

    return run(arguments)
