"""Everything that has to pass before a change is good, and how long each part took: `./pixiw run test`.

    ./pixiw run test                     all parts; two at once, as most of their time is waiting for processes to start
    ./pixiw run test --at-once 1         one after the other
    ./pixiw run check                    (--fast) the parts that need no engine: lint, types and the fast tests
    ./pixiw run test --only train        one part, or several: --only lint --only types

With CI set in the environment, a test that skips fails, unless its reason is in tests/allowed_skips.txt.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
PIXIW = str(ROOT / "pixiw")
ENVIRONMENTS = ("default", "train", "eval", "serve")
WORKERS = ("train", "eval", "serve")
ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")


@dataclass(frozen=True)
class Part:
    """One row of the table: commands that each pass or fail, or a pytest that counts for itself."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    is_pytest: bool = False
    is_fast: bool = False
    is_alone: bool = False
    """Nothing runs beside it: what comes after needs it, or it compares times."""


class Outcome(NamedTuple):
    passed: int
    failed: int
    skipped: int
    seconds: float = 0.0


def parts() -> list[Part]:
    python = sys.executable
    light = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "packages").iterdir()) if path.name not in WORKERS]
    install = (PIXIW, "install", *(word for name in ENVIRONMENTS for word in ("-e", name)))
    lint = (python, "-m", "ruff", "check"), (python, "-m", "ruff", "format", "--check")
    pytest = (python, "-m", "pytest", f"--ignore={ENGINE_READS['train']}", "-m")
    return [
        Part("environments", (install,), is_alone=True),
        Part("lint", lint, is_fast=True),
        Part("types", ((python, "-m", "pyright", "tests", "benchmarks", "agents", *light),), is_fast=True),
        Part("worker-types", tuple(worker_types(name) for name in WORKERS)),
        Part("fast", ((*pytest, "not slow and not alone", "tests", *light),), is_pytest=True, is_fast=True),
        Part("end-to-end", ((*pytest, "slow and not alone", "tests"),), is_pytest=True),
        Part("agents", ((*pytest, "not alone", "agents"),), is_pytest=True),
        *(Part(name, (worker_tests(name),), is_pytest=True) for name in WORKERS),
        Part("studies", ((*pytest, "slow and not alone", *light),), is_pytest=True),
        Part("benchmarks", ((*pytest, "alone", "tests", *light, "agents"),), is_pytest=True, is_alone=True),
    ]


ENGINE_READS = {"train": "packages/data/tests/test_llamafactory_reads.py", "eval": "packages/data/tests/test_gsm8k.py"}
"""Tests of the light packages that an engine has a part in; without it they skip."""


def worker_tests(name: str) -> tuple[str, ...]:
    """A worker's tests run in its own environment, where its engine is."""
    reads = (ENGINE_READS[name],) if name in ENGINE_READS else ()
    return (PIXIW, "run", "-e", name, "python", "-m", "pytest", f"packages/{name}", *reads)


def worker_types(name: str) -> tuple[str, ...]:
    """pyright of this environment asks the first Python of PATH what is installed, and that is the worker's."""
    return (PIXIW, "run", "-e", name, sys.executable, "-m", "pyright", f"packages/{name}")


def run_parts(parts: Iterable[Part], strict: bool, at_once: int) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    for is_alone, group in groupby(parts, lambda part: part.is_alone):
        together = list(group)
        found = [run(part, strict) for part in together] if is_alone else run_beside(together, strict, at_once)
        outcomes |= zip((part.name for part in together), found, strict=True)
        if is_alone and any(outcome.failed for outcome in found):
            break  # everything after it would fail for the same reason
    return outcomes


def run_beside(parts: Sequence[Part], strict: bool, at_once: int) -> list[Outcome]:
    lanes = min(at_once, len(parts))
    with ThreadPoolExecutor(lanes) as pool:
        try:
            return list(pool.map(lambda part: run(part, strict, lanes > 1), parts))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # those under way got it too
            raise


def run(part: Part, strict: bool, beside_others: bool = False) -> Outcome:
    print(f"\n== {part.name}", flush=True)
    started = time.monotonic()
    outcome = run_pytest(part, strict, beside_others) if part.is_pytest else run_commands(part, beside_others)
    outcome = outcome._replace(seconds=time.monotonic() - started)
    if beside_others:
        print(f"\n== {part.name}: {'failed' if outcome.failed else 'done'}\n", flush=True)
    return outcome


def call(command: Sequence[str], label: str) -> int:
    """The exit code of a command; with a label, its lines are told from those of the commands beside it."""
    if not label:
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{label:<12} {line}", end="", flush=True)
    return process.returncode


def run_commands(part: Part, beside_others: bool) -> Outcome:
    codes = [call(command, part.name if beside_others else "") for command in part.commands]
    failed = sum(code != 0 for code in codes)
    return Outcome(len(codes) - failed, failed, 0)


def run_pytest(part: Part, strict: bool, beside_others: bool) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        (command,) = part.commands
        code = call([*command, f"--junitxml={report}"], part.name if beside_others else "")
        return count(report, code, strict)


def count(report: Path, code: int, strict: bool) -> Outcome:
    """What pytest's report says. Its exit code counts too: collecting nothing, or a crash, is a failure."""
    if not report.exists():
        return Outcome(0, 1, 0)
    cases = list(ElementTree.parse(report).iter("testcase"))
    broken = {id(case) for case in cases for kind in ("failure", "error") if case.find(kind) is not None}
    reasons = [skip.get("message", "") for case in cases for skip in case.iter("skipped")]
    refused = [reason for reason in reasons if strict and reason not in allowed_skips()]
    for reason in refused:
        print(f"a test skipped for a reason that tests/allowed_skips.txt does not list: {reason}")
    failed = len(broken) + len(refused)
    if code and not failed:
        failed = 1
    return Outcome(len(cases) - len(broken) - len(reasons), failed, len(reasons) - len(refused))


def allowed_skips() -> set[str]:
    lines = ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def table(outcomes: dict[str, Outcome]) -> str:
    rows = [f"{'part':<14}{'seconds':>9}{'passed':>9}{'failed':>9}{'skipped':>9}"]
    rows += [
        f"{name:<14}{each.seconds:>9.1f}{each.passed:>9}{each.failed:>9}{each.skipped:>9}"
        for name, each in outcomes.items()
    ]
    return "\n".join(rows)


def chosen(arguments: Sequence[str]) -> tuple[list[Part], int]:
    """The parts to run, and how many of them at once."""
    every = parts()
    parser = argparse.ArgumentParser(description="Runs everything that has to pass.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--fast", action="store_true", help="lint, types and the fast tests")
    choice.add_argument("--only", action="append", metavar="PART", choices=[part.name for part in every])
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="how many parts at once (default: 2)")
    options = parser.parse_args(arguments)
    if options.at_once < 1:
        parser.error("--at-once takes a number from 1")
    if options.only:
        return [part for part in every if part.name in options.only], options.at_once
    return [part for part in every if part.is_fast or not options.fast], options.at_once


def main(arguments: Sequence[str]) -> int:
    strict = os.environ.get("CI", "").lower() not in ("", "0", "false")
    # A shell starts what it puts in the background with Ctrl-C ignored, which tests of Ctrl-C would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked, at_once = chosen(arguments)
    outcomes = run_parts(asked, strict, at_once)
    passed, failed, skipped = (sum(each[place] for each in outcomes.values()) for place in range(3))
    print(f"\n{table(outcomes)}\n\n{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
