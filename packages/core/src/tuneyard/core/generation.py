"""Batch generation, whatever computes it: inputs in, rows out, each once, however often the run is killed.

data/inputs.jsonl               `tuneyard.data prepare`: one `Input` a line, numbered from 0
artifacts/responses.part.jsonl  rows as they come, in no order; gone at the end
artifacts/responses.jsonl       every row, in the order of inputs, then adapters, then samples

A worker brings a backend, which is given what is still to be answered and tells each answer as it comes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tuneyard.core import events
from tuneyard.core.chat import in_template
from tuneyard.core.errors import RunError
from tuneyard.core.files import read_json_lines
from tuneyard.core.responses import Responses
from tuneyard.core.specs import GenerateSpec
from tuneyard.core.worker import Job

SECONDS_BETWEEN = 1.0
"""Progress is told at most this often."""

SHOWN = 3
"""How many responses are told as events while the run goes on."""


IMAGE = "<image>"
"""Stands in the text of an input where an image belongs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What is put to a model: a line of data/inputs.jsonl. Exactly one of `prompt` and `messages` is set."""

    number: int
    """Place in the dataset, from 0."""
    id: str | None = None
    """The record's own name."""
    prompt: str | None = None
    """What is asked, where it is one text."""
    messages: list[dict[str, Any]] | None = None
    """A conversation without its system turn, that ends where the model is to answer."""
    system: str | None = None
    """The system prompt."""
    tools: list[dict[str, Any]] = field(default_factory=list)
    """Tools that may be called, as JSON schemas."""
    images: list[str] = field(default_factory=list)
    """Absolute paths of images, in the order of their places in the text."""
    target: str | None = None
    """The answer that the dataset has; it is not shown to the model."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Whatever else the record says."""

    def line(self) -> str:
        """The input as a line of JSON, without what is empty."""
        filled = {name: value for name, value in asdict(self).items() if value not in (None, [], {})}
        return json.dumps(filled, ensure_ascii=False, default=str)

    def turns(self) -> list[dict[str, Any]]:
        """The conversation with its system turn, as chat templates take it."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *(self.messages or [{"role": "user", "content": self.prompt or ""}])]

    def turns_with_images(self) -> list[dict[str, Any]]:
        """The conversation with the text of turns in parts: {type: text, text} and {type: image, image: path}.

        The system turn stays as it is: the mark of an image that stands there is only spoken of.
        """
        images = iter(self.images)
        return [
            turn if turn["role"] == "system" else {**turn, "content": _parts(str(turn["content"]), images)}
            for turn in self.turns()
        ]

    def plain_text(self) -> str:
        """The text for a model without a chat template.

        Raises:
            ValueError: it is a conversation, which only a template makes one text.
        """
        turns = self.turns()
        if len(turns) > 1 or self.tools:
            raise ValueError("a conversation with several turns, a system prompt or tools needs a chat template")
        return str(turns[0]["content"])


def _parts(text: str, images: Iterator[str]) -> str | list[dict[str, str]]:
    if IMAGE not in text:
        return text
    first, *rest = text.split(IMAGE)
    parts = [{"type": "text", "text": first}]
    for after in rest:
        parts += [{"type": "image", "image": next(images)}, {"type": "text", "text": after}]
    return [part for part in parts if part.get("text") != ""]


@dataclass(frozen=True, slots=True)
class Work:
    """One input for one model."""

    input: Input
    adapter: str | None
    """Name of the adapter; None for the model alone."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample of an answer."""

    text: str
    tokens: int
    """Tokens generated."""
    finish_reason: str | None
    """`stop` or `length`, as the engine says it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one piece of work: as many completions as were asked for, or an error."""

    work: Work
    completions: list[Completion] = field(default_factory=list)
    prompt_tokens: int | None = None
    error: str | None = None


class Backend(Protocol):
    """What computes."""

    def answer(self, work: Iterator[Work], told: Callable[[Answer], None]) -> None:
        """Take pieces of work as they can be begun and tell the answer of each, in any order."""
        ...


def read_inputs(file: Path) -> Iterator[Input]:
    """The inputs in data/inputs.jsonl."""
    return (Input(**row) for row, _ in read_json_lines(file))


def token_ids(tokenizer: Any, asked: Input, chat: bool, add_bos_token: bool | None = None) -> list[int]:
    """The ids of an input, encoded as evaluations encode their prompts.

    Args:
        tokenizer: of transformers, whose ids were compared with training's.
        asked: without images.
        chat: put it into the tokenizer's chat template.
        add_bos_token: False where no BOS token is put before the template's text; None: as the tokenizer has it.

    Raises:
        ValueError: a conversation without a chat template.
        jinja2.TemplateError: the template refuses the conversation.
    """
    text = chat_text(tokenizer, asked) if chat else asked.plain_text()
    # Text that begins with the BOS token gets no second one.
    bos = getattr(tokenizer, "bos_token", None)
    bare = add_bos_token is False or bool(bos and text.startswith(bos))
    return [int(i) for i in tokenizer.encode(text, **({"add_special_tokens": False} if bare else {}))]


def chat_text(tokenizer: Any, asked: Input) -> str:
    """The input, without images, in the tokenizer's chat template, up to where the answer begins."""
    tools = {"tools": asked.tools} if asked.tools else {}
    return in_template(tokenizer, asked.turns(), **tools)


def generate(job: Job, backend: Callable[[], Backend]) -> None:
    """Answer every input of a run that is not answered yet; leave the rows in order, and the numbers in the result.

    Args:
        job: the run.
        backend: makes what computes; called only if something is left to do.

    Raises:
        RunError: every input failed.
    """
    spec: GenerateSpec = job.spec
    adapters: list[str | None] = [*spec.adapters] or [None]
    inputs = sum(1 for _ in read_inputs(job.folder.inputs))
    with Responses(job.folder.responses_part, job.folder.responses, spec.n) as rows:
        if rows.taken_over:
            print(f"{rows.taken_over} rows of earlier attempts are kept", flush=True)
        tally = _Tally(job, total=inputs * len(adapters), done=rows.groups)
        if rows.groups < tally.total:
            with job.timed("load"):
                computing = backend()
            tally.begin()
            with job.timed("generate"):
                computing.answer(_left(job, adapters, rows), lambda answer: tally.add(answer, rows))
            tally.tell()
        tally.leave(rows)
        with job.timed("save"):
            rows.finish(adapters)
    job.artifact("responses", job.folder.responses)
    if rows.errors == rows.rows:
        raise RunError(
            f"every input failed; the first: {rows.first_error}",
            where=str(job.folder.responses),
            way_out="put right what the message says, and start a new run",
        )


def _left(job: Job, adapters: list[str | None], rows: Responses) -> Iterator[Work]:
    """What is not answered yet: one adapter after the other, so that an engine changes between them seldom."""
    for adapter in adapters:
        for asked in read_inputs(job.folder.inputs):
            if (asked.number, adapter) not in rows:
                yield Work(asked, adapter)


class _Tally:
    """Counts what is answered, and tells it."""

    def __init__(self, job: Job, total: int, done: int) -> None:
        self.job, self.total, self.done = job, total, done
        self.new = self.tokens = self.shown = 0
        self.told = self.started = time.monotonic()

    def begin(self) -> None:
        """The model is loaded: from here on, speed is measured."""
        self.told = self.started = time.monotonic()

    def add(self, answer: Answer, rows: Responses) -> None:
        rows.add(rows_of(answer, self.job.spec.n))
        self.done, self.new = self.done + 1, self.new + 1
        self.tokens += sum(completion.tokens for completion in answer.completions)
        if answer.completions and self.shown < SHOWN:
            self.shown += 1
            last = answer.work.input.turns()[-1]
            self.job.emit(events.SampleEvent, prompt=str(last["content"]), response=answer.completions[0].text)
        if time.monotonic() - self.told >= SECONDS_BETWEEN:
            self.tell()

    def tell(self) -> None:
        self.told = time.monotonic()
        seconds = max(self.told - self.started, 1e-6)
        left = (self.total - self.done) * seconds / self.new if self.new else None
        self.job.emit(
            events.Progress,
            step=self.done,
            total=self.total,
            phase="generating",
            elapsed=round(seconds, 3),
            eta=None if left is None else round(left, 3),
            tokens_per_second=round(self.tokens / seconds, 1),
            prompts_per_second=round(self.new / seconds, 2),
        )

    def leave(self, rows: Responses) -> None:
        """Put the numbers into the result. Speeds are those of this attempt."""
        self.job.metric("rows", rows.rows)
        self.job.metric("errors", rows.errors)
        self.job.metric("generated_tokens", rows.tokens)
        seconds = self.job.timing.get("generate")
        if seconds:
            self.job.metric("prompts_per_second", round(self.new / seconds, 3))
            self.job.metric("tokens_per_second", round(self.tokens / seconds, 3))


def rows_of(answer: Answer, samples: int) -> list[dict[str, Any]]:
    """The rows of one piece of work: one for each sample, in order; of a failed one each says the error."""
    asked = answer.work.input
    came = len(answer.completions)
    error = answer.error or (None if came == samples else f"{came} answers came where {samples} were asked for")
    given: list[Completion | None] = list(answer.completions) if error is None else [None] * samples
    return [
        {
            "input": asked.number,
            "id": asked.id,
            "adapter": answer.work.adapter,
            "sample": number,
            **_question(asked, completion.text if completion else None),
            "response": completion.text if completion else None,
            "finish_reason": completion.finish_reason if completion else None,
            "prompt_tokens": answer.prompt_tokens,
            "tokens": completion.tokens if completion else 0,
            "target": asked.target,
            "metadata": asked.metadata,
            "error": error,
        }
        for number, completion in enumerate(given)
    ]


def _question(asked: Input, response: str | None) -> dict[str, Any]:
    """What was asked, so that rows can be read as a dataset: a prompt, or a conversation that ends with the answer."""
    images = {"images": asked.images} if asked.images else {}
    if asked.messages is None:
        return {"prompt": asked.prompt, **({"system": asked.system} if asked.system else {}), **images}
    answer = [] if response is None else [{"role": "assistant", "content": response}]
    return {"messages": [*asked.turns(), *answer], **images}
