"""`yard study generate`: write configurations, scripts and the mapping."""

from __future__ import annotations

import json

from tuneyard.control.summary import say
from tuneyard.study.checks import check_values
from tuneyard.study.commands.opening import add_yes, parser, refuse_huge, study_of, warn
from tuneyard.study.generate import generate
from tuneyard.study.jobs import evaluation_specs
from tuneyard.study.warnings import warnings_of


def main(command: str, arguments: list[str]) -> int:
    made = parser(command, "Write one configuration per run, evaluation scripts, run_mapping.yaml and batch scripts.")
    made.add_argument("--force", action="store_true", help="replace what was generated before")
    made.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    add_yes(made)
    options = made.parse_args(arguments)
    study = study_of(options)
    refuse_huge(study, options.yes)
    warn(warnings_of(study))
    check_values(study)
    evaluations = len(study) if evaluation_specs(study) else 0
    if not options.dry_run:
        generate(study, force=options.force)
    done = "Would generate" if options.dry_run else "Generated"
    if options.json:
        answer = {"trainings": len(study), "evaluations": evaluations, "configs": str(study.folder.configs)}
        print(json.dumps({**answer, "dry_run": options.dry_run}))
        return 0
    print(f"{done} {len(study)} training configurations in {study.folder.configs}")
    if evaluations:
        print(f"{done} {evaluations} evaluation scripts in {study.folder.configs}")
    if not options.dry_run:
        say(f"next: yard study run {study.file}")
    return 0
