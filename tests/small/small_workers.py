"""Small real workers in the place of the engines, for the tests of the light packages."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from tuneyard.core.processes import kill_run
from tuneyard.core.run_folder import RunFolder

SMALL_LIBRARY = Path(__file__).with_name("small_library.py").read_text(encoding="utf-8")
"""The source of a worker that does what those of train and eval do, with a library of a few lines."""


def make_worker(folder: Path, name: str, source: str = SMALL_LIBRARY) -> Path:
    """An interpreter that finds this worker as `tuneyard.NAME`, before any other; several may share a folder."""
    package = folder / "sources" / "tuneyard" / name
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(source, encoding="utf-8")
    interpreter = folder / "prefix" / "bin" / "python"
    interpreter.parent.mkdir(parents=True, exist_ok=True)
    sources = shlex.quote(str(folder / "sources"))
    interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={sources} exec {shlex.quote(sys.executable)} "$@"\n')
    interpreter.chmod(0o755)
    return interpreter


def kill_runs(runs: Iterable[RunFolder]) -> None:
    """Leave nothing of these runs alive, neither supervisors nor workers."""
    for run in runs:
        latest = run.latest()
        record = latest.read_supervisor() if latest else None
        if record and latest and latest.supervisor_lives():
            os.kill(record["pid"], signal.SIGKILL)
        kill_run(run.id)
