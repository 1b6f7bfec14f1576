"""The datasets of a study, prepared once: LLaMA-Factory's own command reads them, and runs get links to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tuneyard.control.environments import raised_error
from tuneyard.core.errors import RunError
from tuneyard.core.files import write_json
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.jobs import file_signatures
from tuneyard.study.study import Study, digest


def prepared_data(study: Study, spec: dict[str, Any]) -> Path:
    """The folder with dataset_info.json for a resolved training; written where it is not there and whole.

    It is made by a process of its own, as a run's is: what reads a dataset may be the user's code.

    Raises:
        RequestError, SetupError: as `tuneyard.data.prepare` does.
    """
    folder = _folder(study, spec)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "spec.json", spec)
    command = [sys.executable, "-P", "-m", "tuneyard.data", "prepare", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise _failure(done.stdout, done.stderr)
    return folder / "data"


def _folder(study: Study, spec: dict[str, Any]) -> Path:
    """One for what is asked for, the code that makes it, and the files it is read from, as they are now."""
    engine = spec.get("engine", {})
    asked = [spec["dataset"], spec["eval_dataset"], spec.get("code"), engine.get("stage"), engine.get("media_dir")]
    return study.folder.data / digest([*asked, sorted(file_signatures(asked))])


def give_data(study: Study, run: RunFolder) -> bool:
    """Link the study's data into the folder of a training; False where they are not there, or cannot be linked."""
    given = RunFolder(_folder(study, run.read_spec()))
    if not given.data_manifest.is_file():
        return False
    try:
        run.data.mkdir()
        for path in given.data.iterdir():
            path.chmod(0o444)  # whoever changed it in place would change it for every run
            if path != given.data_manifest:
                os.link(path, run.data / path.name)
        os.link(given.data_manifest, run.data_manifest)  # last: from then on they count as prepared
    except OSError:  # on another disk, or one without links: the run prepares its own
        shutil.rmtree(run.data, ignore_errors=True)
        return False
    return True


def _failure(out: str, err: str) -> Exception:
    try:
        answer = json.loads(out.strip().rpartition("\n")[2])
    except ValueError:
        answer = {}
    return raised_error(answer.get("error")) or RunError(f"preparing the data failed: {err.strip()[-500:]}")
