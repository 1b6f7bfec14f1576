"""`yard study run` and `yard study resume`: train and evaluate what is not done yet, then write the report."""

from __future__ import annotations

import json
from argparse import Namespace

from tuneyard.control.commands.arguments import named_values
from tuneyard.control.summary import say
from tuneyard.core.errors import RequestError
from tuneyard.study.checks import check
from tuneyard.study.commands.opening import add_yes, parser, refuse_huge, study_of, warn
from tuneyard.study.detach import log_of, start_detached
from tuneyard.study.execute import Execution, Tally
from tuneyard.study.generate import ensure_generated
from tuneyard.study.study import Study
from tuneyard.study.warnings import warnings_of


def main(command: str, arguments: list[str]) -> int:
    again = command.endswith("resume")
    more = " What failed or was cancelled is tried again." if again else ""
    made = parser(command, f"Train and evaluate what is not done yet, then write the report.{more}")
    made.add_argument("--jobs", type=int, metavar="N", help="runs in flight at most (default: two for each device)")
    made.add_argument("--detach", action="store_true", help="check it, start it and return; it writes to study.log")
    made.add_argument("--no-report", action="store_true", help="leave the report to `yard study report`")
    made.add_argument("--on", choices=("local", "slurm"), default="local", help="where it runs (default: local)")
    made.add_slurm()
    add_yes(made)
    options = made.parse_args(arguments)
    study = study_of(options)
    refuse_huge(study, options.yes)
    warn(warnings_of(study))
    if options.on == "slurm":
        return _submit(study, again, options)
    if options.slurm:
        raise RequestError("--slurm sets options of jobs", way_out="--on slurm")
    check(study)
    ensure_generated(study)
    if options.detach:
        pid = start_detached(study, again=again, yes=options.yes)
        answer = {"study": study.name, "pid": pid, "log": str(log_of(study))}
        print(json.dumps(answer) if options.json else f"{study.name}: process {pid} runs it; log: {log_of(study)}")
        return 0
    tally = execute(study, again=again, at_once=options.jobs)
    if not tally.cancelled and not options.no_report:
        _report(study, options.json)
    if options.json:
        print(json.dumps({"study": study.name, **vars(tally)}))
    else:
        print(f"{study.name}: {told(tally)}")
    if tally.cancelled:
        return 130
    return 1 if tally.failed or tally.refused else 0


def _submit(study: Study, again: bool, options: Namespace) -> int:
    """Give it to SLURM and return; `yard study status` and `report` tell the rest."""
    from tuneyard.study.submit import Submission

    submission = Submission(study, named_values(options.slurm), again)
    with submission.counting_on():
        check(study)
        ensure_generated(study)
    given = submission.submit()
    for note in given.notes:
        say(note)
    if options.json:
        print(json.dumps({"study": study.name, **vars(given)}))
    else:
        print(f"{study.name}: {given.trainings} trainings and {given.evaluations} evaluations given to SLURM")
        say(f"next: yard study status {study.file}; when all is done: yard study report {study.file}")
    return 0


def execute(study: Study, *, again: bool, at_once: int | None) -> Tally:
    """Run the study in this process; Ctrl-C leaves the runs that are under way to their supervisors."""
    try:
        return Execution(study, say, again=again, at_once=at_once).run()
    except KeyboardInterrupt:
        say(f"left: the runs under way go on. `yard study run {study.file}` takes them up again")
        say(f"`yard study cancel {study.file}` ends them")
        raise


def told(tally: Tally) -> str:
    """The ending in a line."""
    parts = [f"{tally.succeeded} succeeded"]
    parts += [f"{count} {name}" for name, count in (("failed", tally.failed), ("not started", tally.refused)) if count]
    return ", ".join([*parts, *(["cancelled"] if tally.cancelled else [])])


def _report(study: Study, as_json: bool) -> None:
    from tuneyard.study.report.write import write_report

    written = write_report(study)
    if not as_json:
        print(f"report: {written[0]}")
