"""The journal of a study, study.jsonl: which run of tuneyard does which job. Appended line by line, never rewritten.

What a line does not tell is read from the run's own files: whether it runs, succeeded, or was lost. A line that was
lost with the process that was about to write it is made up for by the mark that every run of a study carries.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tuneyard.core.files import append_line, explain_os_error, read_json_lines
from tuneyard.core.run_folder import now
from tuneyard.study.jobs import Job

CANCEL = "cancel"
HALVED = "halved"


@dataclass
class Entry:
    """What the journal tells of a job."""

    asked: str
    """Hash of what was asked for."""
    run: str | None = None
    """Id of the run that does it; the latest, where there were several."""
    runs: list[str] = field(default_factory=list)
    """All of them, the first one first."""
    halved: bool = False
    """Whether it was started again with half the batch."""
    refused: str | None = None
    """Why it could not be started."""


class Journal:
    """The journal, read as far as it goes; `refresh` reads on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._entries: dict[str, Entry] = {}
        self.cancels = 0
        """How often the end of the study was asked for."""
        self.cancelled_at: float | None = None
        """When it was last asked for, in Unix time."""
        self.refresh()

    def refresh(self) -> None:
        """Take in what was appended since."""
        for line, offset in read_json_lines(self.path, self._offset):
            self._take(line)
            self._offset = offset

    def _take(self, line: dict[str, Any]) -> None:
        if line.get("what") == CANCEL:
            self.cancels += 1
            self.cancelled_at = datetime.fromisoformat(line["time"]).timestamp()
            return
        old = self._entries.get(line["job"])
        entry = old if old is not None and old.asked == line["asked"] else Entry(line["asked"])
        self._entries[line["job"]] = entry
        entry.refused = line.get("message") if line["what"] == "refused" else None
        if run := line.get("run"):
            entry.run = run
            entry.runs.append(run)
            entry.halved |= line["what"] == HALVED

    def entry(self, job: Job) -> Entry | None:
        """What is told of a job; None where there is nothing, or where the experiment asked for something else then."""
        found = self._entries.get(job.key)
        return found if found is not None and found.asked == job.asked else None

    def entries(self) -> dict[str, Entry]:
        """All that is told, by the key of the job; of an earlier form of the experiment too."""
        return dict(self._entries)

    def write(self, job: Job, what: str, run: str | None = None, message: str | None = None) -> None:
        """Append a line: `started`, `reused`, `halved` or `refused`."""
        line = {"time": now(), "job": job.key, "asked": job.asked, "what": what, "run": run, "message": message}
        self._append({key: value for key, value in line.items() if value is not None})
        self.refresh()

    def ask_cancel(self, who: str) -> None:
        """Ask the process that runs the study, if any, to start nothing more."""
        self._append({"time": now(), "what": CANCEL, "who": who})

    def _append(self, line: dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, json.dumps(line, ensure_ascii=False))
        except OSError as error:
            raise explain_os_error(error, self.path) from error
