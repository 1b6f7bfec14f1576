"""`yard study status`: how far a study is."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tuneyard.control.summary import last_event, progress_text, table
from tuneyard.study.commands.opening import parser, study_of
from tuneyard.study.generate import params_text
from tuneyard.study.state import JobState, states_of
from tuneyard.study.study import Study

QUIET = ("planned", "succeeded")
MOST = 30


def main(command: str, arguments: list[str]) -> int:
    made = parser(command, "Show how far a study is: counts, what runs now, what failed.")
    made.add_argument("--all", action="store_true", help="every job, not only those that run or failed")
    options = made.parse_args(arguments)
    study = study_of(options)
    counts: dict[str, Counter[str]] = {}
    shown: list[JobState] = []
    for each in states_of(study):
        counts.setdefault(_stage(each), Counter())[each.state] += 1
        if options.all or (each.state not in QUIET and len(shown) < 1000):
            shown.append(each)
    if options.json:
        print(json.dumps({"study": study.name, "counts": counts, "jobs": [as_json(each) for each in shown]}, indent=2))
    else:
        print(_text(study, counts, shown, options.all))
    return 0


def _stage(each: JobState) -> str:
    return "training" if each.job.stage == "train" else "evaluation"


def as_json(each: JobState) -> dict[str, Any]:
    """A job's state as plain values."""
    params = each.job.point.params if each.job.point else {}
    run = each.run.id if each.run else None
    return {"job": each.job.key, "state": each.state, "run": run, "params": params, "reason": each.reason}


def _text(study: Study, counts: dict[str, Counter[str]], shown: list[JobState], everything: bool) -> str:
    lines = [(f"{stage}s", ", ".join(f"{n} {state}" for state, n in count.items())) for stage, count in counts.items()]
    text = f"{study.name}\n{table(lines)}"
    most = len(shown) if everything else MOST
    if shown:
        text += "\n\n" + "\n".join(_line(each) for each in shown[:most])
    if len(shown) > most:
        text += f"\n… {len(shown) - most} more; --all shows every one"
    return text


def _line(each: JobState) -> str:
    params = params_text(each.job.point.params) if each.job.point else ""
    told = each.reason or ""
    if each.state == "running" and each.run is not None and (latest := each.run.latest()) is not None:
        told = progress_text(last_event(latest, "progress")) or told
    run = each.run.id if each.run else ""
    return f"  {each.job.key:<16} {each.state:<10} {params}  {run}  {told.splitlines()[0] if told else ''}".rstrip()
