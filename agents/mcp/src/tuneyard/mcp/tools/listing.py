"""Finding runs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tuneyard.control.index import Row
from tuneyard.control.run_list import Page
from tuneyard.control.summary import age
from tuneyard.core.run_folder import State
from tuneyard.mcp.answers import Answer, Arguments, call_text, clip, lines, size
from tuneyard.mcp.tool import Call, in_thread


class ListRunsArguments(Arguments):
    kind: Literal["train", "eval"] | None = None
    """Only runs of this kind. Default: all."""
    states: list[State] = Field(default_factory=list, max_length=9)
    """Only runs in one of these states. Default: in any."""
    text: str = Field(default="", max_length=100)
    """Only runs with this in their id, such as a name or a date (261121)."""
    limit: int = Field(default=20, ge=1, le=100)
    """At most so many; fewer where the answer would grow too long."""
    after: str | None = Field(default=None, max_length=200)
    """Continue behind this run: `after` of the page before."""


class ListedRun(BaseModel):
    """One run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    state: str
    seconds: float | None = None
    """How long it took."""
    headline: str | None = None
    """Its main metric, or why it failed."""


class ListRunsAnswer(Answer):
    runs: list[ListedRun]
    """The newest first."""
    total: int
    """How many runs fit the question, on all pages."""
    after: str | None = None
    """What to ask the next page with; absent on the last one."""

    next: str | None = None
    """The call that gives the next page."""

    def text(self) -> str:
        rows = [f"{run.id}  {run.state}  {age(run.id)}  {run.headline or ''}".rstrip() for run in self.runs]
        more = f"{len(self.runs)} of {self.total}; the next: {self.next}" if self.next else None
        return lines(*rows, more) or "no such runs"


async def list_runs(call: Call, asked: ListRunsArguments) -> ListRunsAnswer:
    """The runs of this workspace, the newest first: state, main metric or failure. Filters by kind, state and text;
    page by page.
    """
    page: Page = await in_thread(
        call.runs.page, kind=asked.kind, states=asked.states, text=asked.text, limit=asked.limit, after=asked.after
    )
    shown = _shown(page.rows, asked.room - 350, 60 if asked.detailed else 40)
    after = shown[-1].id if len(shown) < len(page.rows) else page.after
    given = {**asked.model_dump(exclude_defaults=True), "after": after}
    following = call_text("list_runs", **given) if after else None
    return ListRunsAnswer(runs=shown, total=page.total, after=after, next=following)


def _shown(rows: list[Row], room: int, headline: int) -> list[ListedRun]:
    """The first runs that fit, at least one."""
    shown: list[ListedRun] = []
    for name, _, state, _, seconds, text in rows:
        run = ListedRun(id=name, state=state, seconds=seconds, headline=clip(text, headline) if text else None)
        room -= size(run.model_dump(exclude_none=True)) + 2
        if room < 0 and shown:
            break
        shown.append(run)
    return shown
