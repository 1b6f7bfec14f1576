"""`yard dataset`: datasets made on the fly, looked at, checked, merged and split.

    yard dataset build SOURCE --out DIR    from a file, folder, hub id, `file.py:function`, or - for a pipe
    yard dataset show DIR                  what is in it
    yard dataset check SOURCE              what is wrong with it; 1 if something is
    yard dataset sample SOURCE [-n 5]      some of its records, by chance
    yard dataset merge SOURCE ... --out    several into one
    yard dataset split SOURCE --out DIR    train and test, by the hash of the problem

Exit codes: 0; 1 a check found something; 2 the request is wrong; 3 the set-up is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tuneyard.core.errors import RequestError, unknown

if TYPE_CHECKING:
    from tuneyard.data.building import Wishes
    from tuneyard.data.manifest import DatasetEntry
    from tuneyard.data.origins import Input

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
        self.add_argument("--max-tokens", type=_positive, metavar="N", help="longer rows would be cut (default 2048)")
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


def main(arguments: list[str]) -> int:
    """Run the command; its exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    if arguments[0] not in _COMMANDS:
        raise unknown("command of yard dataset", arguments[0], _COMMANDS)
    return _COMMANDS[arguments[0]](arguments[1:])


def _build(arguments: list[str]) -> int:
    parser = Arguments("build", "Build a dataset folder from a source: checked, without doubles, nothing overwritten.")
    parser.add_argument("source", metavar="SOURCE", help="file, folder, hub id, builtin:NAME, file.py:function, or -")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="of a function or a built-in corpus")
    parser.add_reading()
    parser.add_looking()
    parser.add_writing()
    options = parser.parse_intermixed_args(arguments)
    taken = _input(options.source, options, _values(options.arguments), options.format)
    return _built([taken], options)


def _merge(arguments: list[str]) -> int:
    parser = Arguments("merge", "Build one dataset from several sources, in order, without doubles among them.")
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="as in build")
    parser.add_reading()
    parser.add_looking()
    parser.add_writing()
    options = parser.parse_intermixed_args(arguments)
    return _built([_input(source, options, {}, options.format) for source in options.sources], options)


def _built(inputs: list[Input], options: argparse.Namespace) -> int:
    from tuneyard.data.building import build

    folder = _standing(options.out)
    with redirect_stdout(sys.stderr):  # what a person's code prints is not the answer
        entry = build(
            inputs,
            folder,
            name=options.name or "train",
            format=options.format,
            mode="append" if options.append else "replace" if options.replace else "new",
            wishes=_wishes(options),
            runs=_runs(),
            tell=_teller(options.json),
        )
    return _tell_entry(folder, entry, options.json)


def _show(arguments: list[str]) -> int:
    from tuneyard.data.reports import entry_text
    from tuneyard.data.surveying import shown_folder

    parser = Arguments("show", "What a dataset folder holds.")
    parser.add_argument("folder", metavar="DIR", help="a dataset folder")
    options = parser.parse_intermixed_args(arguments)
    shown = shown_folder(_standing(options.folder))
    if options.json:
        _print(shown)
        return 0
    for each in shown["datasets"]:
        print(entry_text(each) + f"\n  first: {_line(each['first'])}")
    return 0


def _check(arguments: list[str]) -> int:
    from tuneyard.data.reports import survey_text
    from tuneyard.data.surveying import survey

    parser = Arguments("check", "What is wrong with a dataset; nothing is written.")
    parser.add_argument("source", metavar="SOURCE", help="as in build")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="of a function or a built-in corpus")
    parser.add_argument("--format", choices=FORMATS, help="how rows would be written")
    parser.add_reading()
    parser.add_looking()
    options = parser.parse_intermixed_args(arguments)
    taken = _input(options.source, options, _values(options.arguments), options.format, named=True)
    with redirect_stdout(sys.stderr):
        found = survey(taken, _wishes(options), format=options.format, runs=_runs(), tell=_teller(options.json))
    if options.json:
        _print(found.as_dict())
    else:
        print(survey_text(found))
    return 1 if found.faults else 0


def _sample(arguments: list[str]) -> int:
    from tuneyard.data.surveying import sample

    parser = Arguments("sample", "Some records, by chance; the same ones for the same seed.")
    parser.add_argument("source", metavar="SOURCE", help="as in build")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="of a function or a built-in corpus")
    parser.add_argument("-n", "--count", type=_positive, default=5, metavar="N", help="how many (default 5)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default 0)")
    parser.add_reading()
    options = parser.parse_intermixed_args(arguments)
    taken = _input(options.source, options, _values(options.arguments), None, named=True)
    with redirect_stdout(sys.stderr):
        chosen = sample(taken, options.count, options.seed)
    if options.json:
        _print(chosen)
    else:
        print("\n\n".join(json.dumps(record, ensure_ascii=False, indent=2, default=repr) for record in chosen))
    return 0


def _split(arguments: list[str]) -> int:
    from tuneyard.data.records import HELD_OUT
    from tuneyard.data.reports import entry_text
    from tuneyard.data.splitting import split

    parser = Arguments("split", "Two datasets, train and test. No seed or size moves a problem across.")
    parser.add_argument("source", metavar="SOURCE", help="as in build")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="of a function or a built-in corpus")
    parser.add_argument("--out", required=True, metavar="DIR", help="the dataset folder, which must not be there")
    parser.add_argument("--format", choices=FORMATS, help="how rows are written (default: as the first one is)")
    parser.add_argument("--held-out", type=_positive, default=HELD_OUT, metavar="N", help="1 in N is test (default 10)")
    parser.add_reading()
    options = parser.parse_intermixed_args(arguments)
    taken = _input(options.source, options, _values(options.arguments), options.format, named=True)
    folder = _standing(options.out)
    with redirect_stdout(sys.stderr):
        entries = split(taken, folder, held_out=options.held_out, format=options.format)
    if options.json:
        _print({"folder": str(folder), "datasets": [entry.model_dump() for entry in entries]})
    else:
        print(str(folder), *(entry_text(entry.model_dump()) for entry in entries), sep="\n")
    return 0


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "build": _build,
    "show": _show,
    "check": _check,
    "sample": _sample,
    "merge": _merge,
    "split": _split,
}


def _input(
    source: str, options: argparse.Namespace, arguments: dict[str, Any], format: Any, *, named: bool = False
) -> Input:
    """A source as it was typed. `--name` says which dataset of a folder is read where none is written."""
    from tuneyard.data.origins import open_input

    given = _anchored(source)
    if named and options.name:
        given = {**({"source": given} if isinstance(given, str) else given), "name": options.name}
    columns = {}
    for text in options.columns:
        role, equals, column = text.partition("=")
        if not equals:
            raise RequestError(f"--columns {text}", way_out="write role=column, such as prompt=question")
        columns[role] = column
    with redirect_stdout(sys.stderr):
        return open_input(given, arguments, columns=columns, format=format, runs=_runs())


def _wishes(options: argparse.Namespace) -> Wishes:
    from tuneyard.data.building import Wishes

    drop = [kind.strip() for kind in getattr(options, "drop", "").split(",") if kind.strip()]
    for kind in drop:
        if kind not in DROPS:
            raise unknown("kind of rows to drop", kind, DROPS, where="--drop")
    tokenizer = options.tokenizer
    if tokenizer and not tokenizer.startswith("builtin:"):
        tokenizer = str(_standing(tokenizer))
    against = _anchored(options.against) if options.against else None
    dedupe = getattr(options, "dedupe", "normalised")
    return Wishes(dedupe, frozenset(drop), tokenizer, options.max_tokens, against)  # type: ignore[arg-type]


def _anchored(text: str) -> str | dict[str, Any]:
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
        return f"{_standing(path)}:{name}"
    there = _standing(text)
    return str(there) if text != "-" and there.exists() else text


def _standing(text: str) -> Path:
    """A path, meant from the folder that the user stands in."""
    return Path(os.path.abspath(Path(os.environ.get("INIT_CWD") or os.getcwd()) / Path(text).expanduser()))


def _runs() -> Path | None:
    """The folder of all runs in the nearest workspace; None outside of one."""
    named = os.environ.get("TUNEYARD_WORKSPACE")
    here = Path(named) if named else _standing(".")
    for folder in (here, *here.parents):
        if (folder / "pixi.toml").is_file():
            settings = folder / "tuneyard.yaml"
            return folder / (_runs_setting(settings) if settings.is_file() else "runs")
    return None


def _runs_setting(settings: Path) -> str:
    from tuneyard.core.documents import read_yaml

    known = read_yaml(settings)
    return os.path.expanduser(str(known.get("runs") or "runs")) if isinstance(known, dict) else "runs"


def _values(words: list[str]) -> dict[str, Any]:
    """`key=value` arguments, the values read as YAML."""
    from tuneyard.core.documents import parse_yaml

    values = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise RequestError(f"{word!r} is no argument", way_out="write key=value, such as size=1000")
        values[name] = parse_yaml(text, f"{name}=")
    return values


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


def _teller(quiet: bool) -> Callable[[int], None]:
    """Progress on stderr for a person who waits; nothing for a program."""
    last = time.monotonic()

    def tell(rows: int) -> None:
        nonlocal last
        if time.monotonic() - last > 1:
            last = time.monotonic()
            print(f"\r… {rows:,} rows", end="", file=sys.stderr, flush=True)

    return (lambda rows: None) if quiet or not sys.stderr.isatty() else tell


def _tell_entry(folder: Path, entry: DatasetEntry, as_json: bool) -> int:
    from tuneyard.data.reports import entry_text

    if as_json:
        _print({"folder": str(folder), **entry.model_dump()})
    else:
        print(f"{folder}\n{entry_text(entry.model_dump())}")
    return 0


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=repr))


def _line(value: Any, most: int = 200) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= most else text[:most] + "…"
