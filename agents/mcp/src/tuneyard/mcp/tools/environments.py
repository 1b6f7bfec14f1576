"""What is wrong with the environments."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import BaseModel, ConfigDict, Field

from tuneyard.control.diagnose import diagnose
from tuneyard.mcp.answers import Answer, Arguments, call_text, lines
from tuneyard.mcp.tool import Call, in_thread


class DiagnoseArguments(Arguments):
    environment: str | None = Field(default=None, max_length=100)
    """train, eval or serve. Default: all of them."""


class FoundProblem(BaseModel):
    """Something that is not as it must be."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Stable name, for programs."""
    environment: str
    message: str
    evidence: str | None = None
    way_out: str | None = None
    """The command that mends it."""


class Environment(BaseModel):
    """One environment."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    status: str
    """ready, not_built or broken."""
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
    problems: list[FoundProblem]
    more: str | None = None
    """The call that tells more."""

    def text(self) -> str:
        told = [
            f"{e.name}: {e.status}" + (f" ({', '.join(f'{n} {v}' for n, v in e.engines.items())})" if e.engines else "")
            for e in self.environments
        ]
        wrong = [f"{p.environment}, {p.id}: {p.message}; way out: {p.way_out}" for p in self.problems]
        return lines(*told, *(wrong or ["no problem was found"]), f"more: {self.more}" if self.more else None)


async def env_diagnose(call: Call, asked: DiagnoseArguments) -> DiagnoseAnswer:
    """What is wrong with the environments (train, eval, serve), one or all, and the command that mends it: whether they
    are built, what is missing or of another version than tuneyard was made for, and where two disagree.
    """
    reports = await in_thread(diagnose, call.workspace, asked.environment)
    kept = None if asked.detailed else {"libraries"}
    problems = [FoundProblem(**asdict(p)) for report in reports for p in report.problems]
    most = 50 if asked.detailed else 4
    narrower = call_text("env_diagnose", response_format="detailed")
    return DiagnoseAnswer(
        environments=[Environment.model_validate(_without(asdict(r), kept)) for r in reports],
        problems=problems[:most],
        more=None if asked.detailed else narrower,
    )


def _without(report: dict[str, object], keys: set[str] | None) -> dict[str, object]:
    """A report without its problems, which stand beside it, and without what a concise answer leaves out."""
    return {key: value for key, value in report.items() if key != "problems" and key not in (keys or ()) and value}
