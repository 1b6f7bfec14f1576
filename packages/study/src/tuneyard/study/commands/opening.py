"""What the commands share: the study that a person names, and the question before a large one."""

from __future__ import annotations

import argparse

from tuneyard.control.commands.arguments import Arguments
from tuneyard.control.summary import say
from tuneyard.control.workspace import find_workspace
from tuneyard.core.errors import RequestError
from tuneyard.study.study import Study, open_study
from tuneyard.study.warnings import ASK


def parser(command: str, description: str) -> Arguments:
    """A parser that takes the experiment first, and --json."""
    made = Arguments(command, description)
    made.add_argument("experiment", metavar="EXPERIMENT", help="experiment.yaml, or the folder that it stands in")
    made.add_json()
    return made


def study_of(options: argparse.Namespace) -> Study:
    """The study that was named; raises as `open_study` does."""
    return open_study(options.experiment, find_workspace())


def add_yes(made: Arguments) -> None:
    """`--yes`, for what would make very many runs."""
    made.add_argument("--yes", action="store_true", help=f"go on where there are {ASK:,} runs or more")


def refuse_huge(study: Study, yes: bool) -> None:
    """Raise RequestError for a study of ten thousand runs unless it is meant."""
    if len(study) >= ASK and not yes:
        raise RequestError(
            f"{len(study):,} runs", where=str(study.file), way_out="--yes if they are meant, or `random` with a budget"
        )


def warn(texts: list[str]) -> None:
    """Say what is doubtful, beside the answer."""
    for text in texts:
        say(f"warning: {text}")
