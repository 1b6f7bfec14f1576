"""Studies: what an experiment file would run, running it, and its report."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.mcp.answers import Answer, Arguments, call_text, clip, lines
from tuneyard.mcp.tool import Call, in_thread
from tuneyard.study.checks import check
from tuneyard.study.detach import log_of, start_detached
from tuneyard.study.generate import ensure_generated
from tuneyard.study.inside import open_inside
from tuneyard.study.plan import matrix, plan_of
from tuneyard.study.report.collect import collect
from tuneyard.study.report.content import Content, content_of
from tuneyard.study.report.write import write_report
from tuneyard.study.warnings import ASK, warnings_of

ROWS = 100
"""Runs of a matrix that a detailed answer has."""


class StudyArguments(Arguments):
    experiment: str = Field(min_length=1, max_length=4096)
    """Path of experiment.yaml inside the workspace, or of the folder it stands in."""


class PlanStudyArguments(StudyArguments):
    pass


class RunStudyArguments(StudyArguments):
    again: bool = False
    """Also try again what failed or was cancelled."""
    yes: bool = False
    """Run it although it has 10,000 runs or more."""


class StudyReportArguments(StudyArguments):
    pass


class StudyRun(BaseModel):
    """One run of a study."""

    id: str
    params: dict[str, Any]


class PlanStudyAnswer(Answer):
    model_config = ConfigDict(use_attribute_docstrings=True)

    study: str
    trainings: int
    evaluations: int
    device_hours: float | None
    """Hours of GPUs (CPU slots without GPUs); null where no run was measured and experiment.yaml gives no rate."""
    gigabytes: float | None
    """Disk."""
    warnings: list[str]
    """What is doubtful about the design."""
    runs: list[StudyRun] = Field(default_factory=list)
    """The first runs."""
    next: list[str] = Field(default_factory=list)

    def text(self) -> str:
        hours = "unknown" if self.device_hours is None else f"{self.device_hours:.2f} device hours"
        return lines(
            f"{self.study}: {self.trainings} trainings, {self.evaluations} evaluations, cost {hours}",
            *(f"{run.id}: {json.dumps(run.params)}" for run in self.runs),
            *(f"warning: {warning}" for warning in self.warnings),
            f"next: {'; '.join(self.next)}" if self.next else None,
        )


class RunStudyAnswer(Answer):
    study: str
    pid: int
    log: str
    warnings: list[str]
    next: list[str]

    def text(self) -> str:
        return lines(
            f"{self.study}: process {self.pid} runs it, log {self.log}",
            *(f"warning: {warning}" for warning in self.warnings),
            f"next: {'; '.join(self.next)}",
        )


class StudyReportAnswer(Answer):
    model_config = ConfigDict(use_attribute_docstrings=True)

    study: str
    counts: dict[str, int]
    """State -> jobs (trainings and evaluations)."""
    findings: list[str]
    """What the data carry, worded no stronger than they do. Repeat the caution with the finding."""
    cautions: list[str]
    failures: list[str]
    tables: list[str] = Field(default_factory=list)
    """Detailed: the scores of each task as CSV."""
    files: list[str]
    next: list[str] = Field(default_factory=list)

    def text(self) -> str:
        told = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        return lines(
            f"{self.study}: {told}",
            *self.findings,
            *(f"caution: {caution}" for caution in self.cautions),
            *(f"failed: {failure}" for failure in self.failures),
            *self.tables,
            f"report: {self.files[0]}",
            f"next: {'; '.join(self.next)}" if self.next else None,
        )


async def plan_study(call: Call, asked: PlanStudyArguments) -> PlanStudyAnswer:
    """What a study would run: the matrix of its runs, cost and disk, and what is doubtful about the design (confounded
    variables, one seed, too many). Every value and every task file is tried. Nothing is started or written.
    """
    return await in_thread(_plan, call.workspace, asked)


async def run_study(call: Call, asked: RunStudyArguments) -> RunStudyAnswer:
    """Train and evaluate all that is not done yet of a study, in a process of its own, then write its report; returns
    at once. Identical runs are not run twice, and what was killed goes on from its checkpoint. list_runs shows the
    runs; study_report tells how far it is.
    """
    return await in_thread(_run, call.workspace, asked)


async def study_report(call: Call, asked: StudyReportArguments) -> StudyReportAnswer:
    """How far a study is and what its data carry so far: findings with their cautions, failures; writes report.html,
    report.md and results.csv anew. A detailed answer has the table of scores with intervals and corrected p values.
    """
    return await in_thread(_report, call.workspace, asked)


def _plan(workspace: Workspace, asked: PlanStudyArguments) -> PlanStudyAnswer:
    study = open_inside(asked.experiment, workspace)
    check(study)
    plan = plan_of(study)
    runs = matrix(study, ROWS if asked.detailed else 5)
    return PlanStudyAnswer(
        study=plan.name,
        trainings=plan.trainings,
        evaluations=plan.evaluations,
        device_hours=plan.device_hours,
        gigabytes=plan.gigabytes,
        warnings=plan.warnings,
        runs=[StudyRun(id=point.id, params=point.params) for point in runs],
        next=[call_text("run_study", experiment=asked.experiment)],
    )


def _run(workspace: Workspace, asked: RunStudyArguments) -> RunStudyAnswer:
    study = open_inside(asked.experiment, workspace)
    if len(study) >= ASK and not asked.yes:
        raise RequestError(f"{len(study):,} runs", where=asked.experiment, way_out="yes=true if they are meant")
    check(study)
    ensure_generated(study)
    pid = start_detached(study, again=asked.again, yes=asked.yes)
    following = [call_text("study_report", experiment=asked.experiment)]
    return RunStudyAnswer(
        study=study.name, pid=pid, log=str(log_of(study)), warnings=warnings_of(study), next=following
    )


def _report(workspace: Workspace, asked: StudyReportArguments) -> StudyReportAnswer:
    study = open_inside(asked.experiment, workspace)
    collected = collect(study)
    content = content_of(study, collected)
    written = write_report(study, collected, content)
    counts = Counter(each.state for each in collected.jobs)
    unfinished = any(state in counts for state in ("planned", "running", "waiting", "queued", "preparing"))
    failed = [f"{row[0]} ({row[1]}): {row[3]}" for row in content.failures[1]]
    return StudyReportAnswer(
        study=study.name,
        counts=dict(counts),
        findings=content.findings if asked.detailed else [clip(each, 300) for each in content.findings[:6]],
        cautions=content.cautions if asked.detailed else [clip(each, 200) for each in content.cautions[:3]],
        failures=failed[: 50 if asked.detailed else 3],
        tables=_tables(content) if asked.detailed else [],
        files=[str(path) for path in written],
        next=[call_text("run_study", experiment=asked.experiment)] if unfinished else [],
    )


def _tables(content: Content) -> list[str]:
    return [
        "\n".join([title, ",".join(head), *(",".join(row) for row in rows)])
        for title, head, rows in content.score_tables
    ]
