"""Reading and writing files so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuneyard.core.errors import SetupError


def write_atomically(path: Path, content: str | bytes, *, check: Callable[[], None] | None = None) -> None:
    """Write a temporary file beside `path` and move it there in one `os.replace`.

    A file that is there already passes its rights on, and its owner where this process may give files away.

    Args:
        path: the file.
        content: what it is to hold; text becomes UTF-8.
        check: called when the new file is complete, just before it takes its place; what it raises leaves the old one.

    Raises:
        SetupError: the disk is full, or the place cannot be written to; the old file, if any, is as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        # not `tempfile`: its files are private, and asking for the umask changes it for every thread
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            _pass_on_rights(path, file.fileno())
            os.fsync(file.fileno())
        if check is not None:
            check()
        os.replace(temporary, path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _pass_on_rights(path: Path, descriptor: int) -> None:
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    with suppress(PermissionError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def explain_os_error(error: OSError, path: Path) -> OSError | SetupError:
    """A full disk or a read-only place becomes a `SetupError`; any other error stays what it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SetupError(
            "no space left on the device",
            where=str(path),
            way_out=f"free space (`df -h {path.parent}`, `yard rm RUN`) or set another `runs` folder in tuneyard.yaml",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return SetupError("cannot be written", where=str(path), way_out="choose a folder that you may write to")
    return error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; keys keep their order, text stays readable."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=True) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`."""
    return json.loads(path.read_bytes())


def append_line(path: Path, line: str) -> None:
    """Append one line with a single write, so that readers and other writers see whole lines."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


def read_json_lines(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """The whole lines of a JSONL file from byte `offset`, each with the offset behind it.

    A last line without its newline is still being written and is left for the next reading.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, after the generator's last line
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            if line.strip():
                yield json.loads(line), offset


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """The sha256 of a file, or of a folder as the sorted list of its files' names and hashes."""
    if path.is_file():
        return sha256_of_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of_file(file)}\n".encode())
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Bytes in a file, or in all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def link_tree(source: Path, target: Path) -> None:
    """Give every file below `source` a second name below `target`, without a second copy where the disk allows it."""
    import shutil

    for file in source.rglob("*"):
        if not file.is_file():
            continue
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, place)
        except OSError:
            shutil.copy2(file, place)
