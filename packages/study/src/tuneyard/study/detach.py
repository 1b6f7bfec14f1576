"""Running a study in a process of its own, which outlives whoever started it; what it says goes to study.log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tuneyard.control.workspace import WORKSPACE_VARIABLE
from tuneyard.core.files import explain_os_error
from tuneyard.study.study import Study


def log_of(study: Study) -> Path:
    """Where a detached study writes what it does."""
    return study.folder.path / "study.log"


def start_detached(study: Study, *, again: bool = False, yes: bool = False) -> int:
    """Run a study apart from this process: no terminal, no common session. Returns its process id.

    Args:
        study: checked and generated, so that what is wrong was told already.
        again: try what failed or was cancelled once more.
        yes: it is meant although it is huge.

    Raises:
        SetupError: its log cannot be written.
    """
    words = ["study", "resume" if again else "run", str(study.file), *(["--yes"] if yes else [])]
    try:
        with open(log_of(study), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tuneyard.control.cli", *words],
                env={**os.environ, WORKSPACE_VARIABLE: str(study.workspace.path)},
                cwd=study.workspace.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError as error:
        raise explain_os_error(error, log_of(study)) from error
    return process.pid
