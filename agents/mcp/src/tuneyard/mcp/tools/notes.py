"""AGENTS.md."""

from __future__ import annotations

from pydantic import Field

from tuneyard.control.agents_md.notes import LONGEST, NOTES, OLDER_NOTES, record_change, set_tasks
from tuneyard.control.agents_md.unrecorded import draft, unrecorded
from tuneyard.mcp.answers import Answer, Arguments, lines
from tuneyard.mcp.tool import Call, in_thread


class RecordArguments(Arguments):
    summary: str | None = Field(default=None, max_length=10 * LONGEST)
    """What was changed and why, in a line; at most 1,000 characters. Default: write nothing, and offer a draft made
    from what git says has changed since the newest entry."""
    files: list[str] = Field(default_factory=list, max_length=1000)
    """Files that it speaks of, inside the workspace."""
    run_ids: list[str] = Field(default_factory=list, max_length=50)
    """Runs that it speaks of."""


class RecordAnswer(Answer):
    entry: str | None = None
    """As it stands in AGENTS.md."""
    added: bool
    """False where the very same entry stood there already, and for a draft."""
    moved: list[str] = Field(default_factory=list)
    """Older entries that went to docs/changes.md for it."""
    draft: str | None = None
    """A summary of what changed since the newest entry: packages, files, lines. Empty where nothing did."""
    changed: list[str] | None = None
    """The files that the draft speaks of."""

    def text(self) -> str:
        if self.draft is not None:
            return f"nothing was written; a draft: {self.draft or 'nothing has changed since the newest entry'}"
        told = f"{NOTES}: {self.entry}" if self.added else f"{NOTES} has this entry already: {self.entry}"
        return lines(told, *(f"moved to {OLDER_NOTES}: {entry}" for entry in self.moved))


class TasksArguments(Arguments):
    tasks: list[str] = Field(max_length=30)
    """All current tasks, one line each; an empty list writes N/A."""


class TasksAnswer(Answer):
    tasks: list[str]
    """What stands there now."""
    replaced: list[str]
    """What stood there before."""

    def text(self) -> str:
        now = "\n".join(f"- {task}" for task in self.tasks) or "N/A"
        return lines(f"{NOTES}, current tasks:", now, f"before: {'; '.join(self.replaced) or 'N/A'}")


async def record_recent_changes(call: Call, asked: RecordArguments) -> RecordAnswer:
    """Put an entry, dated today, on top of "Recent changes" in AGENTS.md. Five stay there, older ones move to
    docs/changes.md; nothing else in the file is touched. Call it when you have changed code. The same entry twice is
    written once. Without a summary it offers a draft.
    """
    if asked.summary is None:
        changes = await in_thread(unrecorded, call.workspace)
        most = 200 if asked.detailed else 15
        return RecordAnswer(added=False, draft=draft(changes), changed=[change.path for change in changes[:most]])
    done = await in_thread(record_change, call.workspace, asked.summary, files=asked.files, run_ids=asked.run_ids)
    return RecordAnswer(entry=done.entry, added=done.added, moved=done.moved)


async def set_current_tasks(call: Call, asked: TasksArguments) -> TasksAnswer:
    """Replace "Current tasks" in AGENTS.md by this list; an empty list writes N/A, which says that all are done. Tells
    what stood there before.
    """
    replaced = await in_thread(set_tasks, call.workspace, asked.tasks)
    return TasksAnswer(tasks=asked.tasks, replaced=replaced)
