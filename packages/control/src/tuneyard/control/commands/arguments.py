"""Options of the commands: argparse, except that what is wrong is told as every other error is."""

from __future__ import annotations

import argparse
from typing import NoReturn

from tuneyard.core.errors import RequestError


class Arguments(argparse.ArgumentParser):
    """A parser whose errors are RequestErrors, so that they are JSON where JSON was asked for."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"yard {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise RequestError(message, where=self.prog, way_out=self.format_usage().strip())

    def add_json(self) -> None:
        """`--json`, which every command takes."""
        self.add_argument("--json", action="store_true", help="answer with JSON on stdout; errors too")

    def add_slurm(self) -> None:
        """`--slurm NAME=VALUE`: an option of a job; `named_values` reads what was given."""
        text = "an option of sbatch for the job, such as time=2:00:00; may be repeated"
        self.add_argument("--slurm", metavar="NAME=VALUE", action="append", default=[], help=text)

    def add_run(self, text: str = "id of a run") -> None:
        """The run that a command is about."""
        self.add_argument("run", metavar="RUN", help=text)


def named_values(words: list[str]) -> dict[str, str]:
    """NAME=VALUE words as a mapping; raises RequestError for any other word."""
    for word in words:
        if "=" not in word:
            raise RequestError(f"{word!r} is not NAME=VALUE", where="--slurm", way_out="--slurm partition=gpu")
    return dict(word.split("=", 1) for word in words)
