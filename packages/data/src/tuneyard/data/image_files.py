"""Whether an image is one, and whole, without a library that reads images."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import IO

_END = 64 << 10
"""Where the end of a JPEG or GIF is looked for: cameras append things of their own."""


def fault(image: str | bytes) -> str | None:
    """What is wrong with an image, or None.

    Args:
        image: a path, or the bytes.
    """
    if isinstance(image, bytes):
        return _fault(io.BytesIO(image))
    try:
        with open(image, "rb") as file:
            problem = _fault(file)
    except OSError as error:
        problem = error.strerror or str(error)
    return f"the image {image} cannot be used: {problem}" if problem else None


def _fault(file: IO[bytes]) -> str | None:
    start = file.read(16)
    if not start:
        return "it is empty"
    for magic, whole in _KINDS.items():
        if start.startswith(magic):
            return None if whole(file, start) else "it is cut off"
    if start.startswith((b"II*\0", b"MM\0*")) or start[4:8] == b"ftyp":  # TIFF, AVIF, HEIC: the beginning must do
        return None
    return f"it is no image (it begins with {start!r})"


def _png(file: IO[bytes], start: bytes) -> bool:
    """Whether its chunks, each of a length, a name, data and a sum, go on to the last, IEND."""
    size, place = _size(file), 8
    while place + 12 <= size:
        file.seek(place)
        head = file.read(8)
        place += 12 + int.from_bytes(head[:4], "big")
        if head[4:] == b"IEND":
            return place <= size
    return False


def _ends_with(mark: bytes) -> Callable[[IO[bytes], bytes], bool]:
    def whole(file: IO[bytes], start: bytes) -> bool:
        file.seek(max(0, _size(file) - _END))
        return mark in file.read()

    return whole


def _webp(file: IO[bytes], start: bytes) -> bool:
    return start[8:12] == b"WEBP" and int.from_bytes(start[4:8], "little") + 8 <= _size(file)


def _bmp(file: IO[bytes], start: bytes) -> bool:
    return int.from_bytes(start[2:6], "little") <= _size(file)


def _size(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


_KINDS: dict[bytes, Callable[[IO[bytes], bytes], bool]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _ends_with(b"\xff\xd9"),
    b"GIF8": _ends_with(b"\x3b"),
    b"RIFF": _webp,
    b"BM": _bmp,
}
"""How a file of a kind begins -> whether one is whole."""
