"""The rows of a generation while they come: appended as whole groups, never twice, put into order at the end.

A group is the samples of one input from one adapter. It is appended by one write; what a kill or a full disk left of
half a group is cut off when the file is opened again, and the input is asked anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RunError
from tuneyard.core.files import explain_os_error

Key = tuple[int, str | None]
"""Number of the input, name of the adapter."""


class Responses:
    """Every row of a run so far, on disk; in memory only where each group lies. Use it in `with`."""

    def __init__(self, part: Path, final: Path, samples: int) -> None:
        """
        Args:
            part: the file that rows are appended to.
            final: the file that they end in; where it is there without `part`, a run was killed at its very end.
            samples: rows in a group.

        Raises:
            SetupError: the file cannot be written.
        """
        self.part, self.final, self.samples = part, final, samples
        self.rows = self.errors = self.tokens = 0
        self.first_error: str | None = None
        self._places: dict[Key, tuple[int, int]] = {}
        if final.exists() and not part.exists():
            os.replace(final, part)
        try:
            self._file = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise explain_os_error(error, part) from error
        self._end = self._read()
        os.ftruncate(self._file, self._end)
        self.taken_over = self.rows
        """Rows of earlier attempts."""

    def __enter__(self) -> Responses:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    @property
    def groups(self) -> int:
        """Pieces of work that are answered."""
        return len(self._places)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Append the rows of one group, in the order of their samples.

        Raises:
            SetupError: the disk is full; the group counts as not answered.
        """
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")
        start = self._end
        try:
            while data:
                written = os.pwrite(self._file, data, self._end)
                data, self._end = data[written:], self._end + written
        except OSError as error:
            os.ftruncate(self._file, start)
            self._end = start
            raise explain_os_error(error, self.part) from error
        self._remember(rows, start, self._end)

    def finish(self, adapters: list[str | None]) -> None:
        """Write all rows in the order of inputs, adapters and samples, and let the file in the making go.

        Raises:
            SetupError: the disk is full; nothing is lost.
        """
        temporary = self.final.with_name(f".{self.final.name}.tmp")
        try:
            with open(temporary, "wb") as file:
                for start, end in self._in_order(adapters):
                    file.write(os.pread(self._file, end - start, start))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.final)
            self.part.unlink()
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise explain_os_error(error, self.final) from error

    def _in_order(self, adapters: list[str | None]) -> Iterator[tuple[int, int]]:
        rank = {name: number for number, name in enumerate(adapters)}
        for key in sorted(self._places, key=lambda key: (key[0], rank[key[1]])):
            yield self._places[key]

    def _read(self) -> int:
        """Find the whole groups; the offset behind the last one."""
        offset = end = 0
        group: list[dict[str, Any]] = []
        with open(self.part, "rb") as file:
            for line in file:
                row = _parsed(line)
                if row is None:
                    break
                group.append(row)
                offset += len(line)
                if len(group) == self.samples:
                    self._remember(group, end, offset)
                    group, end = [], offset
        return end

    def _remember(self, rows: list[dict[str, Any]], start: int, end: int) -> None:
        key = (rows[0]["input"], rows[0]["adapter"])
        if key in self._places or [row["sample"] for row in rows] != [*range(self.samples)]:
            raise RunError(f"the rows of input {key[0]} are there twice or not whole", where=str(self.part))
        self._places[key] = (start, end)
        self.rows += len(rows)
        self.tokens += sum(row["tokens"] for row in rows)
        failed = [row["error"] for row in rows if row["error"] is not None]
        self.errors += len(failed)
        self.first_error = self.first_error or (failed[0] if failed else None)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A row; None for the half of one that a kill left."""
    if not line.endswith(b"\n"):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None
