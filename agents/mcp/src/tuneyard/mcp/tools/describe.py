"""What can be asked for, so that nobody has to guess."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tuneyard.control import catalogue
from tuneyard.control.catalogue import Setting
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import unknown
from tuneyard.mcp.answers import Answer, Arguments, call_text, clip, lines, size
from tuneyard.mcp.tool import Call, in_thread

Topic = Literal["train", "eval", "dataset", "train.engine", "eval.engine", "examples", "tasks", "models", "datasets"]

TOPICS: dict[Topic, str] = {
    "train": "fields of a training spec",
    "eval": "fields of an evaluation spec",
    "dataset": "fields of a dataset in a spec",
    "train.engine": "LLaMA-Factory's settings, which go under `engine` of a training",
    "eval.engine": "lm-eval's settings, which go under `engine` of an evaluation",
    "examples": "ready specs of this workspace; with a name as query the whole file",
    "tasks": "what a model can be evaluated on",
    "models": "models at hand: built in, trained here, in the hub's cache",
    "datasets": "datasets at hand",
}


class DescribeArguments(Arguments):
    topic: Topic | None = None
    """What to tell of. Default: which topics there are."""
    query: str = Field(default="", max_length=100)
    """Only what has this in its name or its explanation; the name of an example shows its file."""
    after: str | None = Field(default=None, max_length=200)
    """Continue behind this name: `after` of the page before."""


class Entry(BaseModel):
    """One thing that can be named."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    type: str | None = None
    """Type, or the choices."""
    default: str | None = None
    """As JSON."""
    required: bool | None = None
    help: str | None = None
    """What it is."""


class DescribeAnswer(Answer):
    entries: list[Entry]
    total: int
    """How many there are, on all pages."""
    after: str | None = None
    """What to ask the next page with; absent on the last one."""
    next: str | None = None
    """The call that gives the next page."""

    def text(self) -> str:
        rest = f"{len(self.entries)} of {self.total}; the next: {self.next}" if self.next else None
        return lines(*(_line(entry) for entry in self.entries), rest) or "nothing of that name"


def _line(entry: Entry) -> str:
    kind = f" ({entry.type}{', required' if entry.required else ''})" if entry.type else ""
    default = f" = {entry.default}" if entry.default is not None else ""
    return f"{entry.name}{kind}{default}" + (f": {entry.help}" if entry.help else "")


async def describe(call: Call, asked: DescribeArguments) -> DescribeAnswer:
    """What can be asked for: fields of specs, the library's settings, examples, tasks, models and datasets. Without a
    topic it lists the topics. Ask before you write a spec, so that nothing has to be guessed.
    """
    return await in_thread(_answer, call.workspace, asked)


def _answer(workspace: Workspace, asked: DescribeArguments) -> DescribeAnswer:
    found = _found(workspace, asked)
    names = [entry.name for entry in found]
    if asked.after is not None and asked.after not in names:
        raise unknown("name to continue behind", asked.after, names)
    rest = found[names.index(asked.after) + 1 :] if asked.after is not None else found
    shown = _shown(rest, asked)
    if len(shown) == len(rest):
        return DescribeAnswer(entries=shown, total=len(found))
    same = {k: v for k, v in asked.model_dump(exclude_defaults=True).items() if k != "after"}
    after = shown[-1].name
    return DescribeAnswer(entries=shown, total=len(found), after=after, next=call_text("describe", **same, after=after))


def _found(workspace: Workspace, asked: DescribeArguments) -> list[Entry]:
    """Everything that fits the question."""
    if asked.topic is None:
        return _matching([Entry(name=name, help=text) for name, text in TOPICS.items()], asked.query)
    if asked.topic in ("train.engine", "eval.engine"):
        kind = asked.topic.partition(".")[0]
        return _settings(catalogue.engine_settings(workspace, kind, asked.query))
    if asked.topic == "examples":
        return _examples(workspace, asked)
    return _matching(_LISTS[asked.topic](workspace), asked.query)


def _settings(settings: list[Setting]) -> list[Entry]:
    return [
        Entry(name=s.name, type=s.type, default=_as_json(s.default), required=s.required or None, help=s.help or None)
        for s in settings
    ]


def _as_json(default: Any) -> str | None:
    return None if default is None else clip(json.dumps(default, ensure_ascii=False), 200)


def _named(known: dict[str, str]) -> list[Entry]:
    return [Entry(name=name, help=text) for name, text in known.items()]


_LISTS: dict[str, Callable[[Workspace], list[Entry]]] = {
    "train": lambda _: _settings(catalogue.spec_fields("train")),
    "eval": lambda _: _settings(catalogue.spec_fields("eval")),
    "dataset": lambda _: _settings(catalogue.dataset_fields()),
    "tasks": lambda workspace: _named(catalogue.tasks(workspace)),
    "models": lambda workspace: _named(catalogue.models(workspace)),
    "datasets": lambda workspace: _named(catalogue.datasets(workspace)),
}


def _matching(entries: list[Entry], query: str) -> list[Entry]:
    wanted = query.lower()
    return [entry for entry in entries if wanted in f"{entry.name} {entry.help or ''}".lower()]


def _examples(workspace: Workspace, asked: DescribeArguments) -> list[Entry]:
    known = catalogue.examples(workspace)
    same = [example for example in known if example.name == asked.query]
    if same:
        return [Entry(name=e.name, type=e.kind, help=e.path.read_text(encoding="utf-8-sig")) for e in same]
    return _matching([Entry(name=e.name, type=e.kind, help=e.purpose) for e in known], asked.query)


def _shown(entries: list[Entry], asked: DescribeArguments) -> list[Entry]:
    """The first that fit, at least one; a long list's explanations are cut, those of a few are not."""
    few = len(entries) <= 3
    longest = (asked.room - 400) // max(1, len(entries)) if few else (400 if asked.detailed else 90)
    room = asked.room - 300
    shown: list[Entry] = []
    for entry in entries:
        short = entry.model_copy(update={"help": clip(entry.help, longest)}) if entry.help else entry
        room -= size(short.model_dump(exclude_none=True)) + 2
        if room < 0 and shown:
            break
        shown.append(short)
    return shown
