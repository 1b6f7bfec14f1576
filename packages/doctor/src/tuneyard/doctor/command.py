"""`yard doctor`: why environments do not work, alone or together.

    yard doctor [ENV ...]             their health: what is installed, what imports, the machine beneath
    yard doctor --deep                and a real training of 2 steps, a real evaluation of 1 document
    yard doctor --model MODEL         and whether every environment makes the same tokens with it
    yard doctor --since RUN           and what changed in a run's environment since it ran
    yard doctor compare ...           whether stacks could share an environment, proved by a solver
    yard doctor --log FILE            what a log gives away; - is stdin

Exit codes: 0 fine; 1 something breaks; 2 the request is wrong; 3 nothing could be probed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from tuneyard.control.commands.arguments import Arguments
from tuneyard.core.masking import mask_secrets

if TYPE_CHECKING:
    import argparse

    from tuneyard.doctor.examination import Examination


def main(arguments: list[str]) -> int:
    """Run the command; its exit code."""
    if arguments[:1] == ["compare"]:
        from tuneyard.doctor import compatibility

        return compatibility.main(arguments[1:])
    if any(each == "--log" or each.startswith("--log=") for each in arguments):
        from tuneyard.doctor import logs

        return logs.main(arguments)
    return _health(_parser().parse_args(arguments))


def _parser() -> Arguments:
    parser = Arguments(
        "doctor", "Why environments do not work, alone or together. See also: yard doctor compare --help."
    )
    parser.add_argument("environments", nargs="*", metavar="ENV", help="such as train; default: all but the light one")
    parser.add_argument("--deep", action="store_true", help="also train 2 steps and evaluate 1 document, for real")
    parser.add_argument("--model", metavar="MODEL", help="also compare this model's tokens in every environment")
    parser.add_argument("--since", metavar="RUN", help="also tell what changed in a run's environment since it ran")
    parser.add_argument("--time-limit", type=_seconds, default=180.0, metavar="S", help="seconds for one import (180)")
    parser.add_argument("--log", metavar="FILE", help="instead: what a log gives away; - is stdin")
    parser.add_json()
    return parser


def _seconds(text: str) -> float:
    from argparse import ArgumentTypeError

    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86_400:
        raise ArgumentTypeError(f"{text!r} is no number of seconds between 0.1 and 86400")
    return value


def _health(options: argparse.Namespace) -> int:
    from tuneyard.control.resolving.anchors import standing_folder
    from tuneyard.control.workspace import find_workspace
    from tuneyard.doctor.examination import Asked, examine

    asked = Asked(
        options.environments, options.deep, options.model, options.since, options.time_limit, standing_folder()
    )
    found = examine(find_workspace(), asked, _teller(options.json))
    if options.json:
        print(mask_secrets(json.dumps(found.as_dict(), indent=2, ensure_ascii=False)))
    else:
        _show(found)
    return found.exit_code


def _teller(quiet: bool) -> Callable[[str], None]:
    """Progress on stderr for a person who waits; nothing for a program."""
    if quiet or not sys.stderr.isatty():
        return lambda text: None
    return lambda text: print(f"… {text}", file=sys.stderr, flush=True)


def _show(found: Examination) -> None:
    from tuneyard.doctor.report import text

    print(mask_secrets(text(found)))
    if not found.health.inventories and found.health.environments:
        _static_part()


def _static_part() -> None:
    """What can be told without any environment: whether the stacks that are declared could share one."""
    from tuneyard.core.errors import TuneyardError
    from tuneyard.doctor import compatibility

    print("\nno environment could be probed; what is declared (`yard doctor compare` also proves it):\n", flush=True)
    try:
        compatibility.main(["--no-proof"])
    except TuneyardError as error:
        print(f"yard doctor compare: {error}", file=sys.stderr)
