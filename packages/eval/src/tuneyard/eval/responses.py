"""The responses of an evaluation, kept as they come: a resumed run does not ask for them again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tuneyard.core.files import append_line, explain_os_error, read_json_lines
from tuneyard.core.worker import Job

FILE = "responses.jsonl"
"""In the raw folder of each attempt."""


class Responses:
    """The responses of this attempt and of those before it, by the hash of their request."""

    def __init__(self, file: Path, earlier: Iterable[Path] = ()) -> None:
        self.file = file
        self.known: dict[str, Any] = {}
        self._waiting: list[tuple[str, Any]] = []
        for path in earlier:
            for row, _ in read_json_lines(path):
                self.known.update(row)

    def add(self, key: str, response: Any) -> None:
        self._waiting.append((key, response))

    def write(self) -> None:
        """Append what has come since the last time as one line: a batch is kept whole or not at all."""
        if self._waiting:
            try:
                append_line(self.file, json.dumps(dict(self._waiting), ensure_ascii=False))
            except OSError as error:
                raise explain_os_error(error, self.file) from error
            self.known.update(self._waiting)
            self._waiting.clear()

    @property
    def waiting(self) -> int:
        return len(self._waiting)


def responses_of(job: Job, raw: Path) -> Responses:
    """Those of a run: `raw` is the folder of this attempt."""
    earlier = [job.folder.raw / str(attempt.number) / FILE for attempt in job.folder.attempts()]
    return Responses(raw / FILE, earlier)


def taken_over(count: int) -> str:
    """What a reader of the score is told of responses that were not asked for again."""
    return f"{count} responses were taken over from earlier attempts of this run"
