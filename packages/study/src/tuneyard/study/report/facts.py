"""What a report says beside the scores: cost, failures, the environment the runs were made in."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tuneyard.control.summary import duration
from tuneyard.study.jobs import TRAIN
from tuneyard.study.report.collect import Collected, Ran
from tuneyard.study.report.wording import NONE
from tuneyard.study.state import JobState

WELL = ("succeeded", "planned")


@dataclass(frozen=True)
class Failed:
    """A job that gave nothing."""

    job: str
    params: dict[str, Any]
    state: str
    message: str
    way_out: str | None
    run: str | None


def counts(collected: Collected) -> str:
    """`12 trainings: 11 succeeded, 1 failed; 24 evaluations: 24 succeeded`."""
    parts = []
    for name, of_training in (("training", True), ("evaluation", False)):
        states = Counter(each.state for each in collected.jobs if (each.job.stage == TRAIN) == of_training)
        if states:
            told = ", ".join(f"{count} {state}" for state, count in states.most_common())
            parts.append(f"{states.total()} {name}{'s' if states.total() != 1 else ''}: {told}")
    return "; ".join(parts)


def cost_rows(collected: Collected) -> list[tuple[str, str, str, str]]:
    """What was used: kind, runs, wall time in all, hours of devices. Each run counts once, whoever shares it."""
    rows = []
    for name, stages in (("training", {True}), ("evaluation", {False}), ("together", {True, False})):
        ran = _distinct(collected, stages)
        seconds = [each.seconds or 0.0 for each in ran]
        gpu = sum((each.seconds or 0.0) * each.devices for each in ran) / 3600
        cpu = sum(each.seconds or 0.0 for each in ran if not each.devices) / 3600
        told = [f"{hours:.2f} {unit}" for hours, unit in ((gpu, "GPU hours"), (cpu, "CPU-slot hours")) if hours]
        rows.append((name, str(len(ran)), duration(sum(seconds)), ", ".join(told) or NONE))
    return rows


def _distinct(collected: Collected, stages: set[bool]) -> list[Ran]:
    ids = {each.run.id for each in collected.jobs if each.run is not None and (each.job.stage == TRAIN) in stages}
    return [collected.ran[name] for name in sorted(ids)]


def failures(collected: Collected) -> list[Failed]:
    """Every job that did not come to its end."""
    return [_failed(each, collected.of(each)) for each in collected.jobs if each.state not in WELL]


def _failed(each: JobState, ran: Ran | None) -> Failed:
    failure = (ran.failure if ran else None) or {}
    message = failure.get("message") or each.reason or f"it is {each.state}"
    params = each.job.point.params if each.job.point else {}
    way_out = failure.get("way_out")
    return Failed(each.job.key, params, each.state, message.splitlines()[0], way_out, ran.id if ran else None)


def retried(collected: Collected) -> list[str]:
    """Jobs that needed more than one run or attempt, in words."""
    found = []
    for each in collected.jobs:
        ran = collected.of(each)
        if each.tries > 1:
            found.append(f"{each.job.key}: run {each.tries} times, the last with half the batch per device")
        elif ran is not None and ran.attempts > 1:
            found.append(f"{each.job.key}: {ran.attempts} attempts, each going on from the last checkpoint")
    return found


def environments(collected: Collected) -> list[tuple[str, list[tuple[str, str]]]]:
    """Title and facts of each different environment that runs were made in."""
    seen: dict[str, tuple[list[str], list[tuple[str, str]]]] = {}
    for ran in collected.ran.values():
        facts = _facts(ran)
        if facts:
            seen.setdefault(json.dumps(facts), ([], facts))[0].append(ran.id)
    return [(f"{_kinds(ids)} ({len(ids)} run{'s' if len(ids) > 1 else ''})", facts) for ids, facts in seen.values()]


def _kinds(ids: list[str]) -> str:
    names = {"train": "Training", "eval": "Evaluation"}
    return " and ".join(sorted({names.get(name.partition("-")[0], name) for name in ids}))


def _facts(ran: Ran) -> list[tuple[str, str]]:
    known = ran.environment
    facts = [("Python", str(known.get("python", ""))), ("platform", str(known.get("platform", "")))]
    facts += sorted(ran.versions.items())
    torch = known.get("torch")
    if isinstance(torch, dict):
        facts += [(f"torch: {key}", _plain(value)) for key, value in torch.items() if value and key != "version"]
    git = known.get("git")
    if isinstance(git, dict):
        changed = " with uncommitted changes (environment.json has the patch)" if git.get("patch") else ""
        facts.append(("git commit", f"{git.get('commit', '')}{changed}"))
    return [(name, value) for name, value in facts if value]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_plain(entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items())
    return str(value)
