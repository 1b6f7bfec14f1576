"""Two evaluations, document by document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tuneyard.control.compare import Comparison, Difference, compare
from tuneyard.mcp.answers import Answer, Arguments, call_text, clip, lines
from tuneyard.mcp.tool import Call, in_thread


class CompareRunsArguments(Arguments):
    a: str = Field(min_length=1, max_length=200)
    """Id of an evaluation, or its beginning."""
    b: str = Field(min_length=1, max_length=200)
    """The one that it is compared with; differences are B minus A."""
    documents: int = Field(default=5, ge=0, le=50)
    """Changed documents to show of each difference, in a detailed answer."""


class ChangedDocument(BaseModel):
    """A document on which the two differ."""

    id: str
    prompt: str
    target: str
    answers: list[str]
    scores: list[float]


class MeasuredDifference(BaseModel):
    """One metric of one task under one filter."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    task: str
    filter: str
    metric: str
    n: int
    """Documents that both have."""
    a: float
    b: float
    difference: float
    """B minus A."""
    interval: list[float]
    """Its 95 % interval, by a paired bootstrap over the documents."""
    improved: int
    worsened: int
    p: float | None = None
    """McNemar's exact two-sided p, where scores are 0 or 1."""
    changed: list[ChangedDocument] | None = None
    """Documents that differ, in a detailed answer."""


class CompareRunsAnswer(Answer):
    a: str
    b: str
    models: list[str]
    """What A and B evaluated."""
    comparable: bool
    """False where the caveats say how the two are not alike."""
    caveats: list[str]
    differences: list[MeasuredDifference]
    more: str | None = None
    """The call that tells more."""

    def text(self) -> str:
        return lines(
            f"A {self.a} ({self.models[0]})",
            f"B {self.b} ({self.models[1]})",
            "not alike, take the difference with care: " + "; ".join(self.caveats) if self.caveats else None,
            *(_line(difference) for difference in self.differences),
            f"more: {self.more}" if self.more else None,
        )


def _line(found: MeasuredDifference) -> str:
    low, high = found.interval
    filter_ = f",{found.filter}" if found.filter != "none" else ""
    p = f", McNemar p = {found.p:.3g}" if found.p is not None else ""
    return (
        f"{found.task}/{found.metric}{filter_}, n = {found.n}: A {found.a:.4f}, B {found.b:.4f}, B - A "
        f"{found.difference:+.4f}, 95 % interval [{low:+.4f}, {high:+.4f}]; "
        f"better in B: {found.improved}, worse: {found.worsened}{p}"
    )


async def compare_runs(call: Call, asked: CompareRunsArguments) -> CompareRunsAnswer:
    """Compare two evaluations on the documents that both have: difference, paired bootstrap interval, McNemar p, and,
    in a detailed answer, the documents that changed. Says so where documents, prompts or settings are not alike.
    """
    found = await in_thread(compare, call.workspace.runs, asked.a, asked.b, documents=asked.documents)
    return _answer(found, asked)


def _answer(found: Comparison, asked: CompareRunsArguments) -> CompareRunsAnswer:
    most = 20 if asked.detailed else 2
    caveats = found.caveats if asked.detailed else [clip(c, 150) for c in found.caveats[:3]]
    partial = not asked.detailed or len(found.differences) > most
    return CompareRunsAnswer(
        a=found.a,
        b=found.b,
        models=[clip(model, 60) for model in found.models],
        comparable=found.comparable,
        caveats=caveats,
        differences=[_difference(d, asked.detailed) for d in found.differences[:most]],
        more=call_text("compare_runs", a=found.a, b=found.b, response_format="detailed") if partial else None,
    )


def _difference(found: Difference, detailed: bool) -> MeasuredDifference:
    told: dict[str, Any] = {**asdict(found), "interval": list(found.interval)}
    told["changed"] = [_document(d) for d in told["changed"]] if detailed else None
    return MeasuredDifference.model_validate(told)


def _document(changed: dict[str, Any]) -> dict[str, Any]:
    short = {key: clip(changed[key], 300) for key in ("prompt", "target")}
    answers = [clip(answer, 300) for answer in changed["answers"]]
    return {**changed, **short, "answers": answers, "scores": list(changed["scores"])}
