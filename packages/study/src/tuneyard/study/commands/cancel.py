"""`yard study cancel`: start nothing more, and end the runs of this study that are under way."""

from __future__ import annotations

import json
from contextlib import suppress

from tuneyard.control import launch
from tuneyard.control.run import user_name
from tuneyard.control.study_mark import read_mark
from tuneyard.core.errors import RequestError
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.commands.opening import parser, study_of
from tuneyard.study.journal import Journal
from tuneyard.study.study import Study


def main(command: str, arguments: list[str]) -> int:
    made = parser(command, "Start nothing more, and end the runs of this study that are under way.")
    options = made.parse_args(arguments)
    study = study_of(options)
    ended = cancel(study)
    if options.json:
        print(json.dumps({"study": study.name, "cancelled": ended}))
    else:
        print(f"{study.name}: asked {len(ended)} run(s) to end" + "".join(f"\n  {run}" for run in ended))
    return 0


def cancel(study: Study) -> list[str]:
    """Ask for the end of a study; ids of the runs that were asked. What it shares with another study goes on."""
    journal = Journal(study.folder.journal)
    journal.ask_cancel(user_name())
    asked: list[str] = []
    for entry in journal.entries().values():
        run = RunFolder(study.workspace.runs / str(entry.run))
        if entry.run is None or run.id in asked or not run.spec.is_file() or run.status().ended:
            continue
        if (read_mark(run) or {}).get("study") == study.name:
            with suppress(RequestError):  # it has ended since
                launch.cancel(study.workspace, run, user_name())
                asked.append(run.id)
    return asked
