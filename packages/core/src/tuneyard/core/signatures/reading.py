"""How a log is read: which of its lines speak of trouble, and which of those is the cause.

The last exception wins over noise. What only reports another failure (torchrun's summary, vLLM's "see root cause
above") is passed over for what came before it, and of several ranks the one that failed first is believed. What the
run survived, because work went on after it, is not why it ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tuneyard.core.signatures.signature import Signature

MARKS = (
    "rror",
    "RROR",
    "xception",
    "ailed",
    "annot ",
    "No space left",
    "No solution found",
    "illed",
    "Interrupt",
    "Segmentation fault",
    "multiple versions",
    "vllm==0.",
    "context length",
    "chat template",
    "Watchdog",
    ": nan",
    ": 'nan",
)
"""A line without any of these is read only where it stands right after one that has: most of a large log is not.

Their first letters are rare ones where there was a choice, which makes the search for them faster.
"""

SILENT_MARKS = (
    "dependency resolver",
    "multiple versions",
    "vllm==0.",
    "context length",
    "chat template",
    ": nan",
    ": 'nan",
)
"""Those of the marks that count in a warning too."""

NEAR = 8
"""So many lines after a marked one, warnings aside, are read as well: messages go on over several lines."""

WORK_MARKS = (
    "%|",
    "'loss': ",
    "'eval_loss': ",
    '" 200 ',
    "Avg prompt",
    "***** ",
    "'train_samples",
    "|Version|",
    "Application startup",
)
"""Every line of WORK has one of these."""

WORK = re.compile(
    r"\d%\|.*\[\d+:\d\d|[{, ]'(?:eval_)?loss': '?\d|\"POST [^\"]*\" 200 |Avg prompt throughput|"
    r"\*{5} \w+ metrics \*{5}|'train_samples_per_second'|\|Version\||Application startup complete"
)
"""Lines that a run at work prints."""

SURVIVED_AFTER = 20
"""After so many of them, whatever stood before did not end the run."""

_FINISHED = re.compile(r"\*{5} \w+ metrics \*{5}|'train_samples_per_second'|\|Version\||Application startup complete")
_MARKED = re.compile("|".join(map(re.escape, MARKS)))
_SILENT = re.compile("|".join(map(re.escape, SILENT_MARKS)))
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")

# What loggers, launchers and progress bars put before the text of a line.
_PREFIX = re.compile(
    r"(?:\s+|\d+%\|[^\[]{0,200}\[[^\]]{0,60}\]|\[[^\[\]]{0,80}\]:?|\([^()]{0,60}\bpid=\d+[^()]{0,60}\)|"
    r"\d{4}-\d\d-\d\d[:T ][\d:.,]+\S*|\d\d[/-]\d\d(?:/\d{4})? \d\d:\d\d:\d\d|\d\d:\d\d:\d\d[.,]?\d*|"
    r"[WIEF]\d{4} [^\]]{0,120}\]|[\w.]+\.py:\d+\]|"
    r"(?:ERROR|CRITICAL|FATAL|WARN(?:ING)?|INFO|DEBUG|NOTICE)\b|[\w.-]{1,40} +\||[-|>:│]+|std(?:err|out)\b|[EF]\s)*"
)
_LEVEL = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL)\b|(?P<quiet>\b(?:WARN(?:ING)?|INFO|DEBUG|NOTICE)\b|\[[WID](?=\d|\s)|\b[WI]\d{4} )"
)
_WARNED = re.compile(r"^[^'\"]{0,200}\b\w*Warning: ")
_PROCESS = re.compile(r"\[(?:rank|default)?(?P<rank>\d{1,4})\]:|\((?P<pid>[^()]{0,60}\bpid=\d+)[^()]{0,60}\)")
_EXCEPTION = re.compile(
    r"(?:[A-Za-z_]\w*\.)*(?:[A-Z]\w*)?(?:Error|Exception|Interrupt|Exit|TooDeep|Impossible|IsEnabled)(?:\(\w+\))?(?::\s|:?$)"
)
_REPORT = re.compile(
    r"ChildFailedError|CalledProcessError|Engine(?:Dead|Generate)Error|AsyncEngineDeadError|"
    r"Engine core initialization failed|Engine process failed to start|EngineCore encountered an issue|"
    r"WorkerProc initialization failed|Worker failed with error|DataLoader worker \(pid\(s\)|BrokenProcessPool|"
    r"ProcessExitedException|ProcessRaisedException|RayTaskError|InductorError|BackendCompilerFailed|"
    r"RuntimeError: cancelled$|abruptly died during map|because of the following error|"
    r"Are this object's requirements defined"
)
_CHAINED = re.compile(r"The above exception was the direct cause|During handling of the above exception")
_IGNORED = re.compile(r"^Exception ignored in|Error in atexit\._run_exitfuncs")


@dataclass(frozen=True)
class Event:
    """A line that speaks of a failure."""

    line: int
    """Its number in the log."""
    text: str
    """What it says, without colours and without what loggers put before it."""
    signature: Signature | None
    """The signature it bears; None: an exception, or a report of one, that no signature knows."""
    process: str = ""
    """The rank or process that printed it, where the line says so."""
    reports: bool = False
    """It only says that something else failed."""
    raised: bool = False
    """It is an exception's own line."""
    before: Event | None = None
    """The exception that was being handled, or caused this one."""


@dataclass(frozen=True)
class Explanation:
    """Why a log ends as it does."""

    failure: Event | None
    """What ended the run; None where nothing did. An event without signature: nobody knows it."""
    spoilt: tuple[Event, ...] = ()
    """What did not end the run but makes its result doubtful: the first event of each signature."""
    survived: tuple[Event, ...] = ()
    """Known exceptions after which work went on: the last event of each signature."""


class _Reader:
    """The state while lines are read one after the other."""

    def __init__(self, signatures: Sequence[Signature]) -> None:
        self.loud = [s for s in signatures if s.effect in ("ends", "follows")]
        self.silent = [s for s in signatures if s.effect in ("spoils", "warns")]
        self.events: list[Event] = []
        self.survived: dict[str, Event] = {}
        self.spoilt: dict[str, Event] = {}
        self.work = 0
        self.near = 0
        self.last: dict[str, Event] = {}
        self.chained: set[str] = set()
        self.ignoring = False

    def read(self, number: int, raw: str) -> None:
        """Take in one line."""
        line = _plain(raw)
        if WORK.search(line):
            self._worked(line)
        marked, near = _MARKED.search(line) is not None, self.near > 0
        self.near -= near
        if not (marked or near):
            return
        head, text = _parted(line)
        if marked and _SILENT.search(line):
            self._silent(Event(number, text or line.strip(), None), line)
        if not _quiet(head, text):
            self.near = NEAR if marked else self.near
            self._spoken(number, head, text, line)

    def _worked(self, line: str) -> None:
        self.work += SURVIVED_AFTER if _FINISHED.search(line) else 1
        if self.work >= SURVIVED_AFTER and self.events:
            known = [e for e in self.events if e.raised and e.signature and e.signature.effect == "ends"]
            self.survived.update({e.signature.id: e for e in known if e.signature})
            self.events.clear()
            self.last.clear()

    def _silent(self, event: Event, line: str) -> None:
        for known in self.silent:
            if known.id not in self.spoilt and known.pattern.search(line):
                self.spoilt[known.id] = replace(event, signature=known)

    def _spoken(self, number: int, head: str, text: str, line: str) -> None:
        process = _process(head)
        if _CHAINED.match(text):
            self.chained.add(process)
            return
        if _IGNORED.match(text):
            self.ignoring = True
            return
        raised = _EXCEPTION.match(text) is not None
        if raised and self.ignoring:
            self.ignoring = False
            return
        known = next((s for s in self.loud if s.pattern.search(line)), None)
        reports = known is None and _REPORT.search(text) is not None
        if known or raised or reports:
            before = self.last.get(process) if process in self.chained else None
            self._add(Event(number, text or line.strip(), known, process, reports, raised, before if raised else None))

    def _add(self, event: Event) -> None:
        if event.raised:
            self.chained.discard(event.process)
            self.last[event.process] = event
        self.events.append(event)
        self.work = 0


def matters(line: str) -> tuple[bool, bool]:
    """Of a line that has one of MARKS: whether it can matter, and whether the lines NEAR it can."""
    loud = not _quiet(*_parted(_plain(line)))
    return loud or _SILENT.search(line) is not None, loud


def _plain(line: str) -> str:
    return _ANSI.sub("", line) if "\x1b" in line else line


def _parted(line: str) -> tuple[str, str]:
    """What stands before the text of a line, and the text."""
    prefix = _PREFIX.match(line)
    place = prefix.end() if prefix else 0
    return line[:place], line[place:].rstrip()


def _quiet(head: str, text: str) -> bool:
    """Whether the line is a warning or less: what it mentions did not happen, or did no harm."""
    level = _LEVEL.search(head)
    return bool(level and level["quiet"]) or _WARNED.match(text) is not None


def _process(head: str) -> str:
    found = _PROCESS.search(head)
    return "" if found is None else f"rank {found['rank']}" if found["rank"] else found["pid"]


def _weak(event: Event) -> bool:
    return event.reports or (event.signature is not None and event.signature.effect == "follows")


def _failure(events: list[Event]) -> Event | None:
    """The event that is the cause, of those that the run did not survive."""
    strong = [e for e in events if not _weak(e)]
    if not strong:
        known = [e for e in events if e.signature]
        return (known or events or [None])[-1]
    return _root(_of_first_rank(strong))


def _of_first_rank(events: list[Event]) -> Event:
    """The last event; where ranks of one job failed, the last of the rank whose last event came first."""
    last = {e.process: e for e in events}
    ranks = [e for process, e in last.items() if re.match(r"rank |.*[Ww]orker", process)]
    return min(ranks, key=lambda e: e.line) if len(ranks) > 1 else events[-1]


def _root(event: Event) -> Event:
    """The event, or what it was raised from, where only that is known."""
    step: Event | None = event
    while step is not None:
        if step.signature and not _weak(step):
            return step
        step = step.before
    return event


def explain_lines(lines: Iterable[tuple[int, str]], signatures: Sequence[Signature]) -> Explanation:
    """Why a log ends as it does.

    Args:
        lines: numbers and texts, in order. May be left out: lines without MARKS that do not stand NEAR one, and what is
            no WORK; of WORK whatever comes after SURVIVED_AFTER lines of it.
        signatures: what is known; where several stand in a line, the first is taken.
    """
    reader = _Reader(signatures)
    for number, line in lines:
        reader.read(number, line)
    return Explanation(_failure(reader.events), tuple(reader.spoilt.values()), tuple(reader.survived.values()))
