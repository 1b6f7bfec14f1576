"""`yard run SPEC [key=value ...]`: resolve, start, and show how it goes."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from tuneyard.control import launch
from tuneyard.control.commands.arguments import Arguments, named_values
from tuneyard.control.commands.follow import follow, started
from tuneyard.control.progress import Signals
from tuneyard.control.resolving.anchors import standing_folder
from tuneyard.control.resolving.defaults import default_request
from tuneyard.control.resolving.overrides import parse_words
from tuneyard.control.resolving.request import Request, create, read_request
from tuneyard.control.resolving.resolve import Resolved
from tuneyard.control.resolving.scheduled import where_it_runs
from tuneyard.control.starting import job_text, library_arguments
from tuneyard.control.summary import say
from tuneyard.control.workspace import Workspace, find_workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.kinds import ENVIRONMENTS
from tuneyard.core.run_folder import find_run


def main(command: str, arguments: list[str]) -> int:
    options = _parse(command, arguments)
    workspace = find_workspace()
    slurm = _slurm_options(workspace, options)
    request = _request(workspace, options)
    with where_it_runs(slurm):
        resolved = request.resolve(workspace, "eval" if options.task else options.kind)
    for note in resolved.notes:
        say(f"note: {note}")
    if options.dry_run:
        return _dry_run(workspace, resolved, slurm, options.json)
    with Signals() as signals:
        run = create(workspace, resolved.spec, request.as_given())
        launch.start(workspace, run, resolved.variables, slurm)
        if options.detach:
            return started(run, options.json)
        return follow(workspace, run, signals, options.json)


def _parse(command: str, arguments: list[str]) -> Namespace:
    parser = Arguments(
        command, "Start a run from a spec, a LLaMA-Factory YAML or overrides alone, and show how it goes."
    )
    parser.add_argument("words", nargs="*", metavar="SPEC | key=value", help="one SPEC (or run:ID), and changes to it")
    parser.add_argument("--kind", choices=tuple(ENVIRONMENTS), help="refuse a spec of another kind")
    parser.add_argument("--task", metavar="NAME", help="evaluate on this task; needs no SPEC")
    parser.add_argument("--on", choices=("local", "slurm"), default="local", help="where it runs (default: local)")
    parser.add_slurm()
    parser.add_argument("--detach", action="store_true", help="start it and return at once")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved spec and the library's arguments only"
    )
    parser.add_json()
    return parser.parse_intermixed_args(arguments)


def _slurm_options(workspace: Workspace, options: Namespace) -> dict[str, Any] | None:
    """sbatch's options for a run on SLURM; None for one that runs here."""
    if options.on == "local" and not options.slurm:
        return None
    from tuneyard.control.slurm.submit import options_on

    return options_on(workspace, options.on, named_values(options.slurm), start=not options.dry_run)


def _request(workspace: Workspace, options: Namespace) -> Request:
    spec, overrides = parse_words(options.words, standing_folder())
    if options.task and options.kind not in (None, "eval"):
        raise RequestError(f"--task {options.task} evaluates", way_out="--kind eval")
    if spec is None:
        return default_request(workspace, options.kind, options.task, overrides)
    if options.task:
        raise RequestError(f"--task {options.task} and {spec}: one of them", way_out="leave one out")
    if spec.startswith("run:"):
        return read_request(find_run(workspace.runs, spec).spec, overrides)
    return read_request(spec, overrides)


def _dry_run(workspace: Workspace, resolved: Resolved, slurm: dict[str, Any] | None, as_json: bool) -> int:
    """Print what would be done; nothing is started and nothing left."""
    spec = resolved.spec.model_dump(mode="json")
    library = library_arguments(workspace, resolved)
    script = job_text(workspace, resolved, slurm) if slurm is not None else None
    if as_json:
        seen = {"spec": spec, "library": library, "notes": resolved.notes}
        print(json.dumps(seen | ({"job": script} if script else {}), indent=2, ensure_ascii=False))
        return 0
    import yaml

    print("# the resolved spec\n" + yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))
    print(f"# the library's arguments: {library.get('file_name', '')}")
    print(library.get("file") or json.dumps(library.get("arguments"), indent=2, ensure_ascii=False))
    if library.get("command"):
        print(f"# its command: {' '.join(map(str, library['command']))}")
    for note in library.get("notes") or []:
        print(f"# note: {note}", file=sys.stderr)
    if script:
        print(f"\n# job.sh, what sbatch is given\n{script}")
    return 0
