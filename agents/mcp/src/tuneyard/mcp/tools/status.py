"""How one run goes."""

from __future__ import annotations

import time
from typing import Any, Literal

import anyio
from pydantic import BaseModel, ConfigDict, Field

from tuneyard.control.summary import describe, duration, last_event, metric_text, progress_text
from tuneyard.core.run_folder import RunFolder, RunStatus, find_run
from tuneyard.mcp.answers import Answer, Arguments, call_text, clip, lines
from tuneyard.mcp.tool import Call, in_thread

LONGEST_WAIT = 300.0
"""Seconds that one call waits at most; many clients give up after 60 unless they are told of progress."""

POLL_SECONDS = 0.25
NOTICE_SECONDS = 1.0


class RunStatusArguments(Arguments):
    run_id: str = Field(min_length=1, max_length=200)
    """Id of the run, or a beginning that no other run has."""
    wait_seconds: float = Field(default=0, ge=0, le=LONGEST_WAIT)
    """Wait up to so many seconds for a change, telling of progress meanwhile. Default: answer at once."""
    wait_for: Literal["change", "ready", "end"] = "change"
    """What ends the wait: another state or attempt, a server's first answer, or the end of the run."""


class Plain(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Measured(Plain):
    """One value."""

    value: float
    standard_error: float | None = None
    n: int | None = None
    """Documents or steps that it was measured on."""


class Trouble(Plain):
    """Why a run did not succeed."""

    kind: str
    """request, setup, failed, out_of_memory, signal, exit_code, time_limit, cancelled or lost."""
    message: str
    where: str | None = None
    cause: str | None = None
    """The likely cause, where the log gives it away."""
    way_out: str | None = None
    log_tail: list[str] | None = None
    """The last lines of its stderr."""


class Serves(Plain):
    """A server that answers."""

    url: str
    """Base URL of its OpenAI-style interface."""
    models: list[str]
    """Names under which requests ask for the model and its adapters."""
    key: bool
    """Whether requests must carry the API key that it was started with."""


class RunStatusAnswer(Answer):
    id: str
    state: str
    """queued, preparing, waiting, running, succeeded, failed, cancelled, lost, or unknown (a run of another host)."""
    changed: bool | None = None
    """Whether what was waited for came about."""
    reason: str | None = None
    """Why, where the state does not say: for lost and unknown."""
    attempt: int
    """0 before the first."""
    waiting_for: str | None = None
    """Who has the device that it waits for."""
    progress: dict[str, Any] | None = None
    """step, total, phase, loss, learning_rate, epoch, eta (seconds still to go), tokens_per_second: what is known."""
    serves: Serves | None = None
    """Where a server answers, once it does."""
    metrics: dict[str, Measured] = Field(default_factory=dict)
    """Of the result; while the run goes on, what was measured last."""
    seconds: float | None = None
    """How long the attempt took."""
    failure: Trouble | None = None
    artifacts: dict[str, str] | None = None
    """Name -> path of what it left."""
    spec: dict[str, Any] | None = None
    """The resolved spec."""
    path: str | None = None
    """The run folder."""
    next: list[str] = Field(default_factory=list)
    """Calls that come next."""

    def text(self) -> str:
        first = f"{self.id}: {self.state}"
        first += f" (attempt {self.attempt})" if self.attempt > 1 else ""
        first += f" after {duration(self.seconds)}" if self.seconds is not None else ""
        first += f": {self.reason}" if self.reason else ""
        return lines(
            first,
            f"waiting for {self.waiting_for}" if self.waiting_for else None,
            f"progress: {progress_text(self.progress)}" if self.progress else None,
            f"serves {', '.join(self.serves.models)} at {self.serves.url}" if self.serves else None,
            *(f"{name} = {metric_text(m.model_dump())}" for name, m in self.metrics.items()),
            _failure_text(self.failure),
            f"artifacts: {', '.join(self.artifacts)}" if self.artifacts else None,
            f"next: {'; '.join(self.next)}" if self.next else None,
        )


async def run_status(call: Call, asked: RunStatusArguments) -> RunStatusAnswer:
    """How one run goes: state, progress, last metrics, time to go; why it failed and the way out. With wait_seconds it
    answers when something changes, so that nobody has to ask again and again. Everything is read from the run's files:
    a run is never called running when its supervisor is gone, but lost.
    """
    run = await in_thread(find_run, call.workspace.runs, asked.run_id)
    changed = await _wait(call, run, asked) if asked.wait_seconds else None
    return await in_thread(answer, run, asked, changed)


async def _wait(call: Call, run: RunFolder, asked: RunStatusArguments) -> bool:
    """Wait for what was asked; whether it came about."""
    deadline = time.monotonic() + asked.wait_seconds
    begin = status = await in_thread(run.status)
    told = 0.0
    while not await in_thread(_over, run, begin, status, asked.wait_for):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if time.monotonic() - told >= NOTICE_SECONDS:
            await _tell(call, run, status)
            told = time.monotonic()
        await anyio.sleep(min(POLL_SECONDS, left))
        status = await in_thread(run.status)
    return True


def _over(run: RunFolder, begin: RunStatus, status: RunStatus, wait_for: str) -> bool:
    if wait_for == "ready":
        return status.ended or last_event(run.attempt(status.attempt), "ready") is not None
    changed = (status.state, status.attempt) != (begin.state, begin.attempt)
    return status.ended or (wait_for == "change" and changed)


async def _tell(call: Call, run: RunFolder, status: RunStatus) -> None:
    latest = run.attempt(status.attempt) if status.attempt else None
    event = await in_thread(last_event, latest, "progress") if latest else None
    text = f"{status.state}: {progress_text(event)}" if event else status.state
    await call.report(event["step"] if event else 0, event.get("total") if event else None, text)


def answer(run: RunFolder, asked: RunStatusArguments, changed: bool | None) -> RunStatusAnswer:
    """How a run goes, read from its files now."""
    seen = describe(run)
    result = seen["result"] or {}
    detailed = asked.detailed
    return RunStatusAnswer(
        id=seen["id"],
        state=seen["state"],
        changed=changed,
        reason=seen["reason"],
        attempt=seen["attempt"],
        waiting_for=seen["waiting_for"],
        progress=None if seen["result"] else _progress(seen["progress"]),
        serves=_serves(seen["serves"]),
        metrics=_metrics(run, seen, 50 if detailed else 5),
        seconds=result.get("seconds"),
        failure=_trouble(result.get("failure"), detailed),
        artifacts=seen["artifacts"] if detailed else dict(list(seen["artifacts"].items())[:4]) or None,
        spec=seen["spec"] if detailed else None,
        path=seen["path"] if detailed else None,
        next=next_calls(seen),
    )


def _progress(event: dict[str, Any] | None) -> dict[str, Any] | None:
    return {k: v for k, v in event.items() if k != "event"} if event else None


def _serves(event: dict[str, Any] | None) -> Serves | None:
    return Serves(url=event["url"], models=event.get("models") or [], key=bool(event.get("key"))) if event else None


def _metrics(run: RunFolder, seen: dict[str, Any], most: int) -> dict[str, Measured]:
    metrics = (seen["result"] or {}).get("metrics") or {}
    if not seen["result"] and seen["attempt"]:
        event = last_event(run.attempt(seen["attempt"]), "metric")
        metrics = {event["name"]: {"value": event["value"]}} if event else {}
    first = sorted(metrics, key=lambda name: name not in ("eval_loss", "train_loss"))  # what a person looks for
    return {name: Measured(**metrics[name]) for name in first[:most]}


def _trouble(failure: dict[str, Any] | None, detailed: bool) -> Trouble | None:
    if failure is None:
        return None
    room = 2000 if detailed else 300
    told = {key: clip(failure[key], room) for key in ("message", "where", "cause", "way_out") if failure.get(key)}
    tail = failure.get("log_tail") or []
    return Trouble(kind=failure["kind"], log_tail=tail[-20:] if detailed else None, **told)


def _failure_text(failure: Trouble | None) -> str | None:
    if failure is None:
        return None
    place = f"{failure.where}: " if failure.where else ""
    return lines(
        f"{failure.kind}: {place}{failure.message}",
        f"likely cause: {failure.cause}" if failure.cause else None,
        f"way out: {failure.way_out}" if failure.way_out else None,
        "the end of its stderr:\n  " + "\n  ".join(failure.log_tail) if failure.log_tail else None,
    )


def next_calls(seen: dict[str, Any]) -> list[str]:
    """The calls that come next for a run as `describe` saw it."""
    name, state = seen["id"], seen["state"]
    if state == "succeeded":
        return [call_text("evaluate", models=[name], tasks=["arithmetic"])] if _is_language_model(seen) else []
    if state in ("failed", "lost"):
        return [call_text("run_logs", run_id=name), call_text("run_resume", run_id=name)]
    if state == "cancelled":
        return [call_text("run_resume", run_id=name)]
    return [call_text("run_status", run_id=name, wait_seconds=50)]


def _is_language_model(seen: dict[str, Any]) -> bool:
    return seen["kind"] == "train" and seen["spec"].get("engine", {}).get("stage", "sft") != "rm"
