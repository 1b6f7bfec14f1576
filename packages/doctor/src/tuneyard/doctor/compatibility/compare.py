"""`yard doctor compare A B [...]`: every pair of stacks, from the inventory to the ways out."""

from __future__ import annotations

import json
import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from tuneyard.control.commands.arguments import Arguments
from tuneyard.control.workspace import Workspace, find_workspace
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.masking import mask_secrets
from tuneyard.doctor.compatibility.declared import Stack
from tuneyard.doctor.compatibility.evidence import Evidence, gather
from tuneyard.doctor.compatibility.expand import expand_all
from tuneyard.doctor.compatibility.install_command import written_files
from tuneyard.doctor.compatibility.mitigations import Mitigation, ways_out
from tuneyard.doctor.compatibility.proof import Proof, prove
from tuneyard.doctor.compatibility.shared import Shared, Verdict, inventory
from tuneyard.doctor.compatibility.stacks import ON_THE_COMMAND_LINE, environment_names, read_stack
from tuneyard.doctor.compatibility.statements import Judged, judge, read_statements
from tuneyard.doctor.compatibility.uv import Solver, find_solver
from tuneyard.doctor.findings import Finding

DEFAULT_PYTHON = "3.11"

AT_ONCE = 4
"""Pairs that are proved at the same time."""


@dataclass
class Pair:
    """Two stacks, compared."""

    a: Stack
    b: Stack
    rows: list[Shared]
    proof: Proof | None = None
    """None: it was not asked for."""
    evidence: Evidence = field(default_factory=Evidence)
    mitigations: list[Mitigation] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """What a solve showed; without one, what the ranges show."""
        declared = {row.verdict for row in self.rows}
        if self.proof is not None and self.proof.together is not None:
            if not self.proof.together.ok:
                return "conflict"
            return "far behind" if self.proof.far_behind else "agree"
        if "conflict" in declared:
            return "conflict"
        if "far behind" in declared:
            return "far behind"
        return "agree" if self.a.complete and self.b.complete and "unknown" not in declared else "unknown"


@dataclass
class Comparison:
    """Everything that one command found."""

    stacks: list[Stack]
    pairs: list[Pair]
    findings: list[Finding]
    command: str
    judged: list[Judged] = field(default_factory=list)
    """Statements of documents, held against the facts."""
    not_attempted: str | None = None
    """Why there is no proof."""

    @property
    def exit_code(self) -> int:
        """1 something conflicts, 3 nothing conflicts as far as one can see but a proof is missing, 0 fine."""
        if any(pair.verdict in ("conflict", "far behind") for pair in self.pairs):
            return 1
        missing = self.not_attempted or any(
            p.verdict == "unknown" or (p.proof and p.proof.not_attempted) for p in self.pairs
        )
        return 3 if missing else 0


def run(arguments: list[str]) -> int:
    """The command."""
    options = _options(arguments)
    if len(options.stacks) == 1:
        raise RequestError(
            "one stack is nothing to compare", way_out="name two or more, or none for the workspace's own"
        )
    comparison = compare(
        options.stacks,
        folder=Path(os.environ.get("INIT_CWD") or Path.cwd()),
        python=options.python,
        proof=not options.no_proof,
        fresh=options.fresh,
        statements=options.claims,
        command=shlex.join(["yard", "doctor", "compare", *arguments]),
    )
    _write(comparison, options.json, options.markdown)
    return comparison.exit_code


def _options(arguments: list[str]):
    parser = Arguments("doctor compare", "Whether stacks can share an environment, and why not.")
    parser.add_argument("stacks", nargs="*", metavar="STACK", help="name==1.2, a file, an environment, a pip command")
    parser.add_argument("--no-proof", action="store_true", help="compare what is declared, without asking uv to solve")
    parser.add_argument("--python", default=DEFAULT_PYTHON, metavar="X.Y", help="solve for this Python (default 3.11)")
    parser.add_argument("--fresh", action="store_true", help="solve anew what was solved within the last six hours")
    parser.add_argument("--claims", metavar="FILE", help="statements of documents, to be confirmed or refuted")
    parser.add_argument("--markdown", metavar="FILE", help="write the report as Markdown")
    parser.add_json()
    return parser.parse_args(arguments)


def compare(
    names: list[str],
    *,
    folder: Path,
    python: str = DEFAULT_PYTHON,
    proof: bool = True,
    fresh: bool = False,
    statements: str | None = None,
    command: str = "yard doctor compare",
) -> Comparison:
    """Compare every pair of stacks.

    Args:
        names: what the stacks are; none: the environments of the workspace.
        folder: where the user stands.
        python: the version that is solved for, where the stacks take it.
        proof: whether uv is asked to solve.
        fresh: solve anew.
        statements: a YAML file with statements to be judged.
        command: what was typed, for the report.

    Raises:
        RequestError: a name, a file or a statement is wrong.
    """
    workspace = _workspace(folder, needed=not names)
    asked = read_statements(folder / statements) if statements else []
    names = names or environment_names(workspace) if workspace else names
    stacks = [read_stack(name, workspace, folder, python) for name in _unique(names)]
    solver, why_not = _solver(workspace, python, fresh)
    for stack in stacks:
        expand_all(stack, solver)
    pairs = [Pair(a, b, inventory(a, b)) for a, b in combinations(stacks, 2) if not _alternatives(a, b)]
    comparison = Comparison(stacks, pairs, _findings(stacks, folder), command)
    if not proof:
        comparison.not_attempted = None
    elif solver is None:
        comparison.not_attempted = why_not
    if proof and solver:
        with ThreadPoolExecutor(AT_ONCE) as pool:  # a solve waits for the index most of its time
            list(pool.map(lambda pair: _prove(pair, solver, python), pairs))
    comparison.judged = [judge(one, solver) for one in asked]
    return comparison


def _prove(pair: Pair, solver: Solver, python: str) -> None:
    print(f"doctor: {pair.a.name} with {pair.b.name}", file=sys.stderr, flush=True)
    pair.proof = prove(pair.a, pair.b, pair.rows, solver, python)
    pair.evidence = gather(pair.a, pair.b, pair.rows, pair.proof, solver)
    if pair.proof.together is not None:
        pair.mitigations = ways_out(pair.a, pair.b, pair.proof, pair.evidence, solver)


def _workspace(folder: Path, *, needed: bool) -> Workspace | None:
    try:
        return find_workspace(folder)
    except SetupError:
        if needed:
            raise
        return None


def _solver(workspace: Workspace | None, python: str, fresh: bool) -> tuple[Solver | None, str | None]:
    try:
        return find_solver(workspace.path if workspace else None, python, fresh=fresh), None
    except SetupError as error:
        return None, error.message


def _unique(names: list[str]) -> list[str]:
    """Each stack once, so that a pair never compares one with itself."""
    unique = list(dict.fromkeys(names))
    if len(unique) == 1:
        raise RequestError(f"{unique[0]!r} is named twice", way_out="name another stack to compare it with")
    return unique


def _alternatives(a: Stack, b: Stack) -> bool:
    """Two versions of one distribution are alternatives; nobody wants both."""
    both = (*a.roots, *b.roots)
    return len(both) == 2 and both[0].name == both[1].name and all(d.where == ON_THE_COMMAND_LINE for d in both)


def _findings(stacks: list[Stack], folder: Path) -> list[Finding]:
    found = [
        Finding("declared-note", "note", note, evidence=stack.name)
        for stack in stacks
        for note in dict.fromkeys(stack.notes)
    ]
    for name in written_files(folder):
        message = f"the file {name!r} was written by an install command without quotes: a shell redirects at >"
        found.append(
            Finding("unquoted-requirement", "risky", message, evidence=str(folder), way_out=f"rm ./{name!r}; quote it")
        )
    return found


def _write(comparison: Comparison, as_json: bool, markdown: str | None) -> None:
    from tuneyard.doctor.compatibility import markdown as pages
    from tuneyard.doctor.compatibility import report

    if markdown:
        pages.write(comparison, Path(os.environ.get("INIT_CWD") or Path.cwd()) / markdown)
    if as_json:
        print(mask_secrets(json.dumps(report.as_dict(comparison), indent=2, ensure_ascii=False)))
    else:
        print(mask_secrets(report.text(comparison)))
