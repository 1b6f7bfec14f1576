"""The datasets of a study in a folder that LLaMA-Factory's own command reads, beside the configurations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tuneyard.control.environments import raised_error
from tuneyard.core.errors import RunError
from tuneyard.core.files import write_json
from tuneyard.study.study import Study, digest


def prepared_data(study: Study, spec: dict[str, Any]) -> Path:
    """The folder with dataset_info.json for a resolved training; written where it is not there and whole.

    It is made by a process of its own, as a run's is: what reads a dataset may be the user's code.

    Raises:
        RequestError, SetupError: as `tuneyard.data.prepare` does.
    """
    folder = study.folder.data / digest([spec["dataset"], spec["eval_dataset"]])
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "spec.json", spec)
    command = [sys.executable, "-P", "-m", "tuneyard.data", "prepare", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise _failure(done.stdout, done.stderr)
    return folder / "data"


def _failure(out: str, err: str) -> Exception:
    try:
        answer = json.loads(out.strip().rpartition("\n")[2])
    except ValueError:
        answer = {}
    return raised_error(answer.get("error")) or RunError(f"preparing the data failed: {err.strip()[-500:]}")
