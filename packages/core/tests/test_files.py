"""Files appear whole or not at all."""

import os
import subprocess
from pathlib import Path

import pytest

from tuneyard.core.errors import SetupError
from tuneyard.core.files import append_line, link_tree, read_json_lines, sha256_of, write_atomically


@pytest.fixture
def full_disk(tmp_path: Path):
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_leaves_the_old_file_and_nothing_half_made(full_disk: Path) -> None:
    file = full_disk / "spec.json"
    write_atomically(file, "old")
    with pytest.raises(SetupError, match="no space left") as caught:
        write_atomically(file, "x" * 200_000)
    assert caught.value.exit_code == 3
    assert file.read_text() == "old"
    assert os.listdir(full_disk) == ["spec.json"]


def test_a_written_file_has_the_rights_that_any_new_file_has(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_replaced_file_keeps_its_rights_and_owner(tmp_path: Path) -> None:
    file = tmp_path / "notes.md"
    file.write_text("old")
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 1234, 5678)
    before = file.stat()
    write_atomically(file, "new")
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert file.read_text() == "new"


def test_a_check_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "notes.md"
    file.write_text("old")

    def refuse() -> None:
        raise ValueError("changed meanwhile")

    with pytest.raises(ValueError, match="changed meanwhile"):
        write_atomically(file, "new", check=refuse)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["notes.md"]


def test_a_line_still_being_written_is_left_for_the_next_reading(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    append_line(log, '{"a": 1}')
    with open(log, "a") as file:
        file.write('{"a": 2')
    [(first, offset)] = read_json_lines(log)
    assert first == {"a": 1}
    with open(log, "a") as file:
        file.write("}\n")
    assert [value for value, _ in read_json_lines(log, offset)] == [{"a": 2}]


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert list(read_json_lines(tmp_path / "none")) == []


def test_the_hash_of_a_folder_tells_names_and_contents_and_no_order(tmp_path: Path) -> None:
    for folder, order in (("one", "ab"), ("two", "ba")):
        (tmp_path / folder).mkdir()
        for name in order:
            (tmp_path / folder / name).write_text(name)
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")
    (tmp_path / "two" / "b").rename(tmp_path / "two" / "c")
    assert sha256_of(tmp_path / "one") != sha256_of(tmp_path / "two")


def test_a_linked_tree_costs_no_second_copy(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "weights").write_text("w")
    link_tree(tmp_path / "a", tmp_path / "z")
    assert (tmp_path / "z" / "b" / "weights").samefile(tmp_path / "a" / "b" / "weights")
