"""What is wrong with the environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from tuneyard.control.paths import inside
from tuneyard.core.references import kind_of
from tuneyard.mcp.answers import Answer, Arguments, call_text, clip, lines, size
from tuneyard.mcp.tool import Call, in_thread

if TYPE_CHECKING:  # it is imported when it is asked: starting the server must not pay for it
    from tuneyard.doctor.examination import Asked, Examination

IMPORT_SECONDS = 40.0
"""How long one import may take here: clients give up on a call after a minute."""

ROOM = 1050
"""Characters that the findings of a concise answer have, as data; the environments have the rest."""

DETAILED_FINDINGS = 40


class DiagnoseArguments(Arguments):
    environment: str | None = Field(default=None, max_length=100)
    """train, eval or serve. Default: all of them."""
    model: str | None = Field(default=None, max_length=500)
    """Also compare the tokens of this model in every environment: a folder in the workspace, a hub id, run:ID or
    builtin:tiny."""
    since: str | None = Field(default=None, max_length=100)
    """Also tell what changed in the environment of this run since it ran."""


class Found(BaseModel):
    """Something that is not as it must be, or that one should know."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Stable name, for programs."""
    severity: str
    """broken, risky or note."""
    message: str
    environment: str | None = None
    """Null: the machine, or several environments together."""
    evidence: str | None = None
    """What was measured."""
    way_out: str | None = None
    """The command that mends it."""


class Environment(BaseModel):
    """One environment."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    status: str
    """ready, broken, not_built or unprobed."""
    made_by: str | None = None
    """pixi, pixiw, or settings: an interpreter named in tuneyard.yaml."""
    prefix: str | None = None
    python: str | None = None
    engines: dict[str, str] | None = None
    """Engine -> version."""
    libraries: dict[str, str] | None = None
    """Versions of the libraries that decide a result, in a detailed answer."""


class DiagnoseAnswer(Answer):
    environments: list[Environment]
    findings: list[Found]
    """What breaks first."""
    tokens: dict[str, int] | None = None
    """Environment -> tokens of a fixed text, with the model that was named."""
    changes: list[Found] | None = None
    """What changed since the run that was named."""
    left_out: int | None = None
    """How many findings are not told here."""
    more: str | None = None
    """The call that tells more."""

    def text(self) -> str:
        told = [
            f"{e.name}: {e.status}" + (f" ({', '.join(f'{n} {v}' for n, v in e.engines.items())})" if e.engines else "")
            for e in self.environments
        ]
        told += [f"tokens: {', '.join(f'{name} {n}' for name, n in self.tokens.items())}"] if self.tokens else []
        told += [_line(each) for each in self.findings] or ["no problem was found"]
        told += [f"changed: {each.message}" for each in self.changes or []]
        rest = f"{self.left_out} more" if self.left_out else None
        return lines(*told, rest, f"more: {self.more}" if self.more else None)


def _line(found: Found) -> str:
    evidence = f" ({found.evidence})" if found.evidence else ""
    mend = f"; way out: {found.way_out}" if found.way_out else ""
    return f"{found.environment or 'machine'}, {found.severity}, {found.id}: {found.message}{evidence}{mend}"


async def env_diagnose(call: Call, asked: DiagnoseArguments) -> DiagnoseAnswer:
    """What is wrong with the environments (train, eval, serve) and the machine, and the command that mends it: each is
    probed by its own Python (versions, real imports, torch against the driver, disks, limits, the hub), and two
    are compared. Takes as long as importing the engines, some ten seconds.
    """
    await call.report(0, None, "importing the engines in their environments")
    return _answer(await in_thread(_examined, call, asked), asked)


def _examined(call: Call, asked: DiagnoseArguments) -> Examination:
    from tuneyard.doctor.examination import Asked, examine

    if asked.model is not None and kind_of(asked.model) == "folder":
        inside(call.workspace, str(call.workspace.path / asked.model))
    names = [asked.environment] if asked.environment else []
    question: Asked = Asked(
        names, model=asked.model, since=asked.since, time_limit=IMPORT_SECONDS, folder=call.workspace.path
    )
    return examine(call.workspace, question)


def _answer(found: Examination, asked: DiagnoseArguments) -> DiagnoseAnswer:
    told = found.as_dict()
    all_findings, changes = told["findings"], told.get("changes")
    shown = _findings(all_findings, asked.detailed)
    brief = set() if asked.detailed else {"libraries", "prefix", "made_by"}
    environments = [_without(each, {*brief, "imports"}) for each in told["environments"]]
    return DiagnoseAnswer(
        environments=[Environment.model_validate(each) for each in environments],
        findings=shown,
        tokens=told["tokens"]["counts"] if "tokens" in told else None,
        changes=_findings(changes, asked.detailed) if changes is not None else None,
        left_out=len(all_findings) - len(shown) or None,
        more=None if asked.detailed else call_text("env_diagnose", response_format="detailed"),
    )


def _findings(told: list[dict[str, Any]], detailed: bool) -> list[Found]:
    """The findings that fit; in a concise answer what breaks alone has its evidence."""
    if detailed:
        return [Found.model_validate(each) for each in told[:DETAILED_FINDINGS]]
    shown: list[dict[str, Any]] = []
    for each in told:
        short = _without(each, BRIEF[each["severity"]])
        short = {key: clip(value, 230) if isinstance(value, str) else value for key, value in short.items()}
        if shown and size([*shown, short]) > ROOM:
            break
        shown.append(short)
    return [Found.model_validate(each) for each in shown]


BRIEF: dict[str, set[str]] = {"broken": set(), "risky": {"evidence"}, "note": {"evidence"}}
"""Severity -> what a concise answer leaves out of such a finding."""


def _without(told: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    """Without what is empty and what a concise answer leaves out."""
    return {key: value for key, value in told.items() if key not in keys and value}
