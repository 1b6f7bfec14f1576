"""What stands around the import of LLaMA-Factory: a stand-in for torchaudio, and names that libraries can read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.train.library import COMMA, WILDCARDS, aliased

USE = """
import importlib.util, sys
sys.path.insert(0, {path!r})
from tuneyard.core.errors import SetupError
from tuneyard.train.stand_ins import stand_in
print(stand_in(), importlib.util.find_spec("torchaudio") is not None)
import torchaudio
try:
    torchaudio.load("voice.wav")
except SetupError as error:
    print(error.message)
"""


def use(folder: Path) -> list[str]:
    """What a new process prints that loads sound with the torchaudio of a folder."""
    command = [sys.executable, "-c", USE.format(path=str(folder))]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("broken", ["raise OSError('undefined symbol')", "import nothing_of_this_name"])
def test_a_stand_in_satisfies_the_import_and_raises_when_it_is_used(tmp_path: Path, broken: str) -> None:
    (tmp_path / "torchaudio.py").write_text(broken)
    first, second = use(tmp_path)
    assert first == "True True"
    assert second == "torchaudio.load is needed, and torchaudio cannot be imported in this environment"


def test_a_torchaudio_that_works_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "torchaudio.py").write_text("def load(file): print('loaded', file)")
    assert use(tmp_path) == ["False True", "loaded voice.wav"]


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1))
def test_a_path_is_renamed_only_where_a_library_would_misread_it(name: str) -> None:
    for syntax in (WILDCARDS, COMMA):
        with aliased(f"/{name}", syntax) as plain:
            assert not syntax.search(plain)
            assert (plain == f"/{name}") is not bool(syntax.search(name))


def test_another_name_leads_to_the_same_folder_and_is_gone_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "a, [b]"
    folder.mkdir()
    with aliased(str(folder), WILDCARDS) as plain:
        assert os.path.samefile(plain, folder)
    assert not Path(plain).exists()
    assert folder.exists()
