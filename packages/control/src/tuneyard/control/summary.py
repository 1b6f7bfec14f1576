"""What a run's files tell, put together for people and programs: without pydantic, so that looking costs nothing."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from tuneyard.control.index import metric_text, run_ids
from tuneyard.core.run_folder import Attempt, RunFolder, RunStatus

_TAIL_BYTES = 64 * 1024


def describe(run: RunFolder) -> dict[str, Any]:
    """Everything that `yard show --json` prints.

    A run whose spec.json is missing or of another version is described all the same, as it is.
    """
    status = run.status()
    attempt = run.attempt(status.attempt) if status.attempt else None
    result = attempt.read_result() if attempt else None
    spec = _spec(run)
    return {
        "id": run.id,
        "kind": run.kind,
        "state": status.state,
        "reason": status.reason or None,
        "attempt": status.attempt,
        "path": str(run.path),
        "spec": spec,
        "waiting_for": waiting_for(attempt) if attempt and status.state == "waiting" else None,
        "progress": last_event(attempt, "progress") if attempt else None,
        "serves": last_event(attempt, "ready") if attempt and not status.ended else None,
        "result": result,
        "artifacts": {a["name"]: str(run.path / a["path"]) for a in (result or {}).get("artifacts", [])},
        "logs": {"stdout": str(attempt.stdout), "stderr": str(attempt.stderr)} if attempt else None,
        "next": next_commands(run, status, spec),
    }


def _spec(run: RunFolder) -> dict[str, Any]:
    try:
        return run.read_spec()
    except (OSError, ValueError):
        return {}


def waiting_for(attempt: Attempt) -> str | None:
    """What an attempt without a device waits for, such as `GPU 0, held by train-…`."""
    return (attempt.read_supervisor() or {}).get("waiting_for")


def last_event(attempt: Attempt, kind: str) -> dict[str, Any] | None:
    """The last event of a kind, or None; reads the end of events.jsonl only."""
    try:
        with open(attempt.events, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    mark = f'"event":"{kind}"'.encode()
    for line in reversed(lines):
        if mark in line:
            try:
                return json.loads(line)
            except ValueError:
                continue  # half of a line, at either end
    return None


def next_commands(run: RunFolder, status: RunStatus, spec: dict[str, Any]) -> list[str]:
    """The commands that a person would type next."""
    if status.state == "succeeded" and run.kind == "train":
        return [_measure(run, spec)] if _gives_text(spec) else []
    if status.state == "succeeded":
        other = _earlier_like(run)
        return [f"{YARD} compare {other} {run.id}"] if other else []
    if status.ended:
        return [f"{YARD} logs {run.id}", f"{YARD} resume {run.id}"]
    if status.state == "unknown":
        return [f"{YARD} logs {run.id}"]
    return [f"{YARD} logs {run.id} -f", f"{YARD} {'serve stop' if run.kind == 'serve' else 'cancel'} {run.id}"]


def _gives_text(spec: dict[str, Any]) -> bool:
    return spec.get("engine", {}).get("stage", "sft") != "rm"


def _measure(run: RunFolder, spec: dict[str, Any]) -> str:
    """The evaluation that belongs to what a model was trained on."""
    sources = [d.get("source") for d in spec.get("dataset", []) if isinstance(d, dict)]
    if "builtin:arithmetic" in sources:
        return f"{PIXI} -e eval arithmetic model=run:{run.id}"
    if "builtin:gsm8k" in sources:
        return f"{PIXI} -e eval gsm8k model=run:{run.id}"
    return f"{PIXI} -e eval eval tasks=TASK model=run:{run.id}"


def _earlier_like(run: RunFolder) -> str | None:
    """The evaluation of the same name before this one."""
    name = run.id[:-15]
    same = [other for other in run_ids(run.path.parent, run.kind) if other[:-15] == name]
    place = same.index(run.id) + 1 if run.id in same else len(same)
    return same[place] if place < len(same) else None


def _launcher() -> str:
    return "pixi run" if "PIXI_EXE" in os.environ else "./pixiw run"


PIXI = _launcher()
"""How a task is started on this machine."""

YARD = f"{PIXI} yard" if "PIXI_PROJECT_ROOT" in os.environ and "PIXI_IN_SHELL" not in os.environ else "yard"
"""How this command is called: as it was called now."""


def progress_text(event: dict[str, Any] | None) -> str | None:
    """An event of progress in a line: step, loss, learning rate, time to go."""
    if event is None:
        return None
    total = event.get("total")
    parts = [f"{event['step']}/{total}" if total else str(event["step"])]
    if event.get("phase"):
        parts.insert(0, event["phase"])
    if event.get("loss") is not None:
        parts.append(f"loss {event['loss']:.4g}")
    if event.get("learning_rate") is not None:
        parts.append(f"learning rate {event['learning_rate']:.2e}")
    if event.get("prompts_per_second") is not None:
        parts.append(f"{event['prompts_per_second']:.1f} prompts/s")
    if event.get("tokens_per_second") is not None:
        parts.append(f"{event['tokens_per_second']:.0f} tokens/s")
    if event.get("eta") is not None:
        parts.append(f"{duration(event['eta'])} to go")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds for people: `8.3 s`, `4 min 12 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def age(run_id: str) -> str:
    """How long ago a run was made, from its id, in one unit: `3 min`, `5 h`, `12 d`."""
    import calendar

    try:
        made = calendar.timegm(time.strptime(run_id[-15:-4], "%y%m%d-%H%M"))
    except ValueError:
        return "?"
    return " ".join(duration(max(60.0, time.time() - made)).split()[:2])


def metric_lines(result: dict[str, Any], most: int = 12) -> list[tuple[str, str]]:
    """Metrics by name, with their standard error and n."""
    lines = []
    for name, metric in (result.get("metrics") or {}).items():
        n = f"  (n = {metric['n']})" if metric.get("n") is not None else ""
        lines.append((name, metric_text(metric) + n))
    more = len(lines) - most
    return [*lines[:most], *([("…", f"{more} more: `yard show RUN --json`")] if more > 0 else [])]


def failure_lines(failure: dict[str, Any]) -> list[str]:
    """Why a run did not succeed, where, the likely cause, the way out, and the end of its log."""
    place = f"{failure['where']}: " if failure.get("where") else ""
    lines = [f"{failure['kind']}: {place}{failure['message']}"]
    if failure.get("cause"):
        lines.append(f"likely cause: {failure['cause']}")
    if failure.get("way_out"):
        lines.append(f"way out: {failure['way_out']}")
    if failure.get("log_tail"):
        lines += ["the end of its stderr:", *(f"  {line}" for line in failure["log_tail"][-15:])]
    return lines


def state_line(seen: dict[str, Any]) -> str:
    """The run of `describe` and its state in a line: how long it took, why it is lost."""
    attempt = f" (attempt {seen['attempt']})" if seen["attempt"] > 1 else ""
    took = f" after {duration(seen['result']['seconds'])}" if seen["result"] else ""
    reason = f": {seen['reason']}" if seen["reason"] else ""
    return f"{seen['id']}: {seen['state']}{attempt}{took}{reason}"


def ending_parts(seen: dict[str, Any]) -> list[str]:
    """What the run of `describe` came to: failure, metrics, artifacts; and what to type next."""
    result = seen["result"] or {}
    parts = []
    if result.get("failure"):
        parts.append("\n".join(failure_lines(result["failure"])))
    if metrics := metric_lines(result):
        parts.append("metrics\n" + table(metrics))
    if seen["artifacts"]:
        parts.append("artifacts\n" + table(list(seen["artifacts"].items())))
    if seen["next"]:
        parts.append("next:\n" + "\n".join(f"  {command}" for command in seen["next"]))
    return parts


def spec_lines(kind: str, spec: dict[str, Any]) -> list[tuple[str, str]]:
    """The main points of a spec."""
    lines = []
    for key in ("model", "adapter"):
        reference = spec.get(key)
        if isinstance(reference, dict):
            lines.append((key, reference.get("run") or reference.get("reference", "?")))
    if kind == "train":
        names = [_dataset_text(d) for d in spec.get("dataset", [])]
        lines.append(("dataset", ", ".join(names)))
        engine = spec.get("engine", {})
        lines.append(("method", f"{engine.get('stage', 'sft')}, {engine.get('finetuning_type', 'lora')}"))
    elif kind == "eval":
        lines.append(("tasks", ", ".join(t.get("task", "?") for t in spec.get("tasks", []))))
    elif kind == "generate":
        lines.append(("dataset", _dataset_text(spec.get("dataset") or {})))
        lines.append(("answered by", spec.get("endpoint") or spec.get("backend") or "vllm"))
    if spec.get("adapters"):
        lines.append(("adapters", ", ".join(spec["adapters"])))
    if spec.get("gpus") is not None:
        lines.append(("gpus", str(spec["gpus"])))
    return lines


def _dataset_text(source: dict[str, Any]) -> str:
    text = source.get("source", "?")
    return f"{text} ({source['name']})" if source.get("name") else text


def table(lines: list[tuple[str, str]], indent: str = "  ") -> str:
    """Names and values in two columns."""
    width = max((len(name) for name, _ in lines), default=0)
    return "\n".join(f"{indent}{name:<{width}}  {value}" for name, value in lines)


def say(text: str) -> None:
    """Tell a person something beside the answer."""
    print(text, file=sys.stderr, flush=True)
