"""Files that were edited after the run was made are told by both hashes, and kept beside what they were."""

from pathlib import Path

import pytest

from tuneyard.core.edited_code import keep_edited, notes_on_edits
from tuneyard.core.files import sha256_of_file
from tuneyard.core.references import CodeFile
from tuneyard.core.run_folder import RunFolder, create_run
from tuneyard.core.specs import RunSpec


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return create_run(tmp_path / "runs", "eval", "x")


def test_what_was_edited_is_told_as_it_is_kept(run: RunFolder, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("edited.yaml", "same.py", "gone.py")]
    for file in files:
        file.write_text("old")
    spec = RunSpec(code=[CodeFile(path=str(file), sha256=sha256_of_file(file)) for file in files])
    assert keep_edited(run, spec) == notes_on_edits(run, spec) == []
    assert not run.code.exists()
    files[0].write_text("new")
    files[2].unlink()
    now = sha256_of_file(files[0])[:12]
    [note] = keep_edited(run, spec)
    assert note.startswith(f"{files[0]} was edited") and f"{now}… now" in note
    assert notes_on_edits(run, spec) == [note]
    assert [(path.name, path.read_text()) for path in run.code.iterdir()] == [(f"edited-{now}.yaml", "new")]
