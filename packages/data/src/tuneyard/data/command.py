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

import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.errors import RequestError, unknown
from tuneyard.data.arguments import DROPS, FORMATS, Arguments, anchored, positive, runs_folder, standing, values

if TYPE_CHECKING:
    import argparse

    from tuneyard.data.building import Wishes
    from tuneyard.data.manifest import DatasetEntry
    from tuneyard.data.origins import Input


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
    taken = _input(options.source, options, values(options.arguments), options.format)
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

    folder = standing(options.out)
    with redirect_stdout(sys.stderr):  # what a person's code prints is not the answer
        entry = build(
            inputs,
            folder,
            name=options.name or "train",
            format=options.format,
            mode="append" if options.append else "replace" if options.replace else "new",
            wishes=_wishes(options),
            runs=runs_folder(),
            tell=_teller(options.json),
        )
    return _tell_entry(folder, entry, options.json)


def _show(arguments: list[str]) -> int:
    from tuneyard.data.reports import entry_text
    from tuneyard.data.surveying import shown_folder

    parser = Arguments("show", "What a dataset folder holds.")
    parser.add_argument("folder", metavar="DIR", help="a dataset folder")
    options = parser.parse_intermixed_args(arguments)
    shown = shown_folder(standing(options.folder))
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
    taken = _input(options.source, options, values(options.arguments), options.format, named=True)
    with redirect_stdout(sys.stderr):
        found = survey(taken, _wishes(options), format=options.format, runs=runs_folder(), tell=_teller(options.json))
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
    parser.add_argument("-n", "--count", type=positive, default=5, metavar="N", help="how many (default 5)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default 0)")
    parser.add_reading()
    options = parser.parse_intermixed_args(arguments)
    taken = _input(options.source, options, values(options.arguments), None, named=True)
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
    parser.add_argument("--held-out", type=positive, default=HELD_OUT, metavar="N", help="1 in N is test (default 10)")
    parser.add_reading()
    options = parser.parse_intermixed_args(arguments)
    taken = _input(options.source, options, values(options.arguments), options.format, named=True)
    folder = standing(options.out)
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

    given = anchored(source)
    if named and options.name:
        given = {**({"source": given} if isinstance(given, str) else given), "name": options.name}
    columns = {}
    for text in options.columns:
        role, equals, column = text.partition("=")
        if not equals:
            raise RequestError(f"--columns {text}", way_out="write role=column, such as prompt=question")
        columns[role] = column
    with redirect_stdout(sys.stderr):
        return open_input(given, arguments, columns=columns, format=format, runs=runs_folder())


def _wishes(options: argparse.Namespace) -> Wishes:
    from tuneyard.data.building import Wishes

    drop = [kind.strip() for kind in getattr(options, "drop", "").split(",") if kind.strip()]
    for kind in drop:
        if kind not in DROPS:
            raise unknown("kind of rows to drop", kind, DROPS, where="--drop")
    tokenizer = options.tokenizer
    if tokenizer and not tokenizer.startswith("builtin:"):
        tokenizer = str(standing(tokenizer))
    against = anchored(options.against) if options.against else None
    dedupe = getattr(options, "dedupe", "normalised")
    return Wishes(dedupe, frozenset(drop), tokenizer, options.max_tokens, against)  # type: ignore[arg-type]


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
