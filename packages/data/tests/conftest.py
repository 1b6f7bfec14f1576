"""What the tests of the data package share."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def weird_path(tmp_path: Path) -> Path:
    """A folder whose name has spaces, quotes, a newline and letters from elsewhere."""
    path = tmp_path / 'it\'s a "weird"\nfolder, näïve 北京 {1}, *?'
    path.mkdir()
    return path


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)
