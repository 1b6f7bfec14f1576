"""What is typed behind `yard dataset`: options, and sources and paths as they are meant where the user stands."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, NoReturn

from tuneyard.core.errors import RequestError

FORMATS = ("alpaca", "sharegpt", "preference", "kto", "text")
DROPS = ("broken", "contaminated", "long")


class Arguments(argparse.ArgumentParser):
    """A parser whose errors are RequestErrors, so that they are JSON where JSON was asked for."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"yard dataset {command}", description=description, allow_abbrev=False)
        self.add_argument("--json", action="store_true", help="answer with JSON on stdout; errors too")

    def error(self, message: str) -> NoReturn:
        raise RequestError(message, where=self.prog, way_out=self.format_usage().strip())

    def add_reading(self) -> None:
        """How rows are read."""
        self.add_argument("--columns", metavar="ROLE=COLUMN", action="append", default=[], help="such as prompt=Frage")
        self.add_argument("--name", metavar="N", help="of several datasets in a folder, which one")

    def add_looking(self) -> None:
        """What is looked at in the rows."""
        self.add_argument("--tokenizer", metavar="MODEL", help="folder of a model: count the tokens of the rows")
        self.add_argument("--max-tokens", type=positive, metavar="N", help="longer rows would be cut (default 2048)")
        self.add_argument("--against", metavar="SOURCE", help="an evaluation whose documents must not be in the rows")

    def add_writing(self) -> None:
        """What is written, and where."""
        self.add_argument("--out", required=True, metavar="DIR", help="the dataset folder")
        self.add_argument("--format", choices=FORMATS, help="how rows are written (default: as the first one is)")
        self.add_argument("--dedupe", choices=("exact", "normalised", "no"), default="exact", help="(default exact)")
        self.add_argument("--drop", metavar="KIND", default="", help=f"leave out rows: {', '.join(DROPS)}")
        there = self.add_mutually_exclusive_group()
        there.add_argument("--append", action="store_true", help="add to the dataset that is there")
        there.add_argument("--replace", action="store_true", help="take the place of the dataset that is there")


def positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


def anchored(text: str) -> str | dict[str, Any]:
    """A source as it was typed, a mapping in YAML among them; what is a file is named from where the user stands."""
    if text.startswith("{"):
        from tuneyard.core.documents import parse_yaml

        given = parse_yaml(text, "SOURCE")
        paths = {key: _path(str(given[key])) for key in ("source", "filter", "converter") if key in given}
        return {**given, **paths}
    return _path(text)


def _path(text: str) -> str:
    path, colon, name = text.rpartition(":")
    if colon and path.endswith(".py"):
        return f"{standing(path)}:{name}"
    there = standing(text)
    return str(there) if text != "-" and there.exists() else text


def standing(text: str) -> Path:
    """A path, meant from the folder that the user stands in."""
    return Path(os.path.abspath(Path(os.environ.get("INIT_CWD") or os.getcwd()) / Path(text).expanduser()))


def runs_folder() -> Path | None:
    """The folder of all runs in the nearest workspace; None outside of one."""
    named = os.environ.get("TUNEYARD_WORKSPACE")
    here = Path(named) if named else standing(".")
    for folder in (here, *here.parents):
        if (folder / "pixi.toml").is_file():
            settings = folder / "tuneyard.yaml"
            return folder / (_runs_setting(settings) if settings.is_file() else "runs")
    return None


def _runs_setting(settings: Path) -> str:
    from tuneyard.core.documents import read_yaml

    known = read_yaml(settings)
    return os.path.expanduser(str(known.get("runs") or "runs")) if isinstance(known, dict) else "runs"


def values(words: list[str]) -> dict[str, Any]:
    """`key=value` arguments, the values read as YAML."""
    from tuneyard.core.documents import parse_yaml

    values = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise RequestError(f"{word!r} is no argument", way_out="write key=value, such as size=1000")
        values[name] = parse_yaml(text, f"{name}=")
    return values
