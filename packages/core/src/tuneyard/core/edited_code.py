"""Files of the user's that were edited after the run was made: told, and kept as they are used.

They are not refused: mending a callback that failed, and resuming, is what most edits are for. Nor is the copy in the
run folder used in their place: code finds the files beside it by its own path.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tuneyard.core.files import sha256_of_file
from tuneyard.core.imported_files import imported_files
from tuneyard.core.references import CodeFile
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import RunSpec, TrainSpec


def notes_on_edits(run: RunFolder, spec: RunSpec) -> list[str]:
    """A sentence for each file that the run still has to read and that is not what its spec says."""
    return [_note(run, code, now) for code, now in _edited(run, spec)]


def keep_edited(run: RunFolder, spec: RunSpec) -> list[str]:
    """Copy those files into the run's `code`, each with its hash in its name: a hash alone cannot be read later.

    Returns:
        the same sentences.
    """
    notes = []
    for code, now in _edited(run, spec):
        run.code.mkdir(exist_ok=True)
        path = Path(code.path)
        shutil.copyfile(path, run.code / f"{path.stem}-{now[:12]}{path.suffix}")
        notes.append(_note(run, code, now))
    return notes


def _note(run: RunFolder, code: CodeFile, now: str) -> str:
    return (
        f"{code.path} was edited after the run was made (sha256 {str(code.sha256)[:12]}… then, {now[:12]}… now) and is "
        f"used as it is now; `code` in the run folder has what it was, `yard run run:{run.id}` starts anew with the new"
    )


def _edited(run: RunFolder, spec: RunSpec) -> Iterator[tuple[CodeFile, str]]:
    """The references to files that have another hash by now, with that hash; a file that is gone fails the run."""
    for code in _still_read(run, spec):
        if code.sha256 and Path(code.path).is_file() and (now := sha256_of_file(Path(code.path))) != code.sha256:
            yield code, now


def _still_read(run: RunFolder, spec: RunSpec) -> Sequence[CodeFile]:
    """What reads the data is imported only until they are prepared."""
    if not run.data_manifest.exists():
        return spec.code
    callbacks = [Path(code.path) for code in spec.callbacks] if isinstance(spec, TrainSpec) else []
    read = {str(file) for path in callbacks for file in (path, *imported_files(path))}
    return [code for code in spec.code if code.path in read]
