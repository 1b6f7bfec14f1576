"""`yard cancel | resume | rm RUN`: what acts on a run takes its whole id."""

from __future__ import annotations

import json
from argparse import Namespace

from tuneyard.control import launch
from tuneyard.control.commands.arguments import Arguments, named_values
from tuneyard.control.commands.follow import follow, started
from tuneyard.control.progress import Signals
from tuneyard.control.run import resume_notes, resume_variables, user_name
from tuneyard.control.summary import say
from tuneyard.control.workspace import Workspace, find_workspace
from tuneyard.core.run_folder import RunFolder, find_run

WORDS = {
    "cancel": "Ask for the end of a run: it is told to end (TERM), and killed after its cancel_grace.",
    "resume": "Start a run again that failed, was cancelled or was lost; it goes on from its last checkpoint.",
    "rm": "Delete a run that has ended, with all its files. Refused where another run refers to it.",
}


def main(command: str, arguments: list[str]) -> int:
    parser = Arguments(command, WORDS[command])
    parser.add_run("whole id of the run")
    if command == "resume":
        parser.add_argument("--detach", action="store_true", help="start it and return at once")
        parser.add_slurm()
    parser.add_json()
    options = parser.parse_args(arguments)
    workspace = find_workspace()
    run = find_run(workspace.runs, options.run, exact=True)
    if command == "resume":
        return _resume(workspace, run, options)
    if command == "cancel":
        launch.cancel(workspace, run, user_name())
        _tell(run, "is asked to end", run.status().state, options.json)
    else:
        launch.remove(workspace, run)
        _tell(run, "is deleted", "deleted", options.json)
    return 0


def _resume(workspace: Workspace, run: RunFolder, options: Namespace) -> int:
    variables = resume_variables(workspace, run)
    slurm = None
    if options.slurm:
        from tuneyard.control.slurm.script import options as slurm_options

        slurm = slurm_options(workspace, named_values(options.slurm))
    for note in resume_notes(run):
        say(f"note: {note}")
    with Signals() as signals:
        launch.resume(workspace, run, variables, slurm)
        return started(run, options.json) if options.detach else follow(workspace, run, signals, options.json)


def _tell(run: RunFolder, text: str, state: str, as_json: bool) -> None:
    print(json.dumps({"id": run.id, "state": state}) if as_json else f"{run.id} {text}")
