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

    def add_run(self, text: str = "id of a run") -> None:
        """The run that a command is about."""
        self.add_argument("run", metavar="RUN", help=text)
