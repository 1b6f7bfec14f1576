"""`yard doctor --log FILE`: what a log gives away, with the way out and the upstream thread.

    yard doctor --log train.log
    llamafactory-cli train a.yaml 2>&1 | yard doctor --log -

Exit codes: 0 nothing that breaks; 1 findings that break; 2 the log cannot be read.
"""

from __future__ import annotations

import json
from typing import Any

from tuneyard.control.commands.arguments import Arguments
from tuneyard.core.masking import mask_secrets
from tuneyard.core.signatures import Event, explain
from tuneyard.doctor.findings import Finding, Severity
from tuneyard.doctor.log_lines import Log, read_log

QUOTED = 300
"""Characters of a line that are shown."""


def main(arguments: list[str]) -> int:
    """Run the command; its exit code."""
    options = _parser().parse_args(arguments)
    log = read_log(options.log)
    found = findings(log)
    name = "stdin" if options.log == "-" else options.log
    if options.json:
        print(mask_secrets(json.dumps(_as_dict(name, log, found), indent=2, ensure_ascii=False)))
    else:
        print(mask_secrets(_text(name, log, found)))
    return int(any(finding.severity == "broken" for finding in found))


def _parser() -> Arguments:
    parser = Arguments("doctor --log", "What a log gives away.")
    parser.add_argument("--log", metavar="FILE", required=True, help="a log, also one ending in .gz; - is stdin")
    parser.add_json()
    return parser


def findings(log: Log) -> list[Finding]:
    """What a log gives away: why the run ended, what spoils its result, what it survived."""
    explained = explain(log.kept)
    found = [_failure(explained.failure)] if explained.failure else []
    found += [_known(event, _severity(event)) for event in explained.spoilt]
    found += [_known(event, "note") for event in explained.survived]
    if log.cut:
        found.append(Finding("log-cut", "note", log.cut))
    return found


def _severity(event: Event) -> Severity:
    return "broken" if event.signature and event.signature.effect == "spoils" else "risky"


def _failure(event: Event) -> Finding:
    if event.signature:
        return _known(event, "broken")
    if event.reports:
        message = "the log only reports that another process failed; that process's own lines are not in it"
        way_out = "look into the log of the process or rank that it names"
    else:
        message = "the log ends in an exception that no signature knows"
        way_out = "search the issues of the project that the traceback names for this message"
    return Finding("unknown-failure", "broken", message, evidence=_evidence(event), way_out=way_out)


def _known(event: Event, severity: Severity) -> Finding:
    known = event.signature
    assert known is not None, "only events with a signature come here"
    survived = " (the run went on)" if severity == "note" else ""
    return Finding(
        known.id,
        severity,
        known.cause + survived,
        evidence=_evidence(event),
        way_out=known.way_out,
        link=known.thread,
    )


def _evidence(event: Event) -> str:
    process = f" ({event.process})" if event.process else ""
    text = event.text if len(event.text) <= QUOTED else event.text[:QUOTED] + " …"
    return f"line {event.line}{process}: {text}"


def _as_dict(name: str, log: Log, found: list[Finding]) -> dict[str, Any]:
    return {"log": name, "lines": log.lines, "bytes": log.size, "findings": [finding.as_dict() for finding in found]}


def _text(name: str, log: Log, found: list[Finding]) -> str:
    head = f"{name}: {log.lines:,} lines, {log.size / 1e6:,.1f} MB"
    if not log.size:
        return f"{name}: empty; a process that dies before it writes says more by its exit code"
    return "\n".join([head, *map(_finding, found)] if found else [head, "  nothing in it tells of a failure"])


def _finding(finding: Finding) -> str:
    rows = {"evidence": finding.evidence, "way out": finding.way_out, "thread": finding.link}
    lines = [f"  {finding.severity:<6}  {finding.id}: {finding.message}"]
    return "\n".join([*lines, *(f"          {name + ':':<9} {text}" for name, text in rows.items() if text)])
