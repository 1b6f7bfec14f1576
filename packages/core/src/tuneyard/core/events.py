"""Events: what a worker tells while it works, one JSON object a line in events.jsonl, appended by rank 0 alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tuneyard.core.documents import Document


class _Event(Document):
    time: str
    """UTC, ISO 8601 with milliseconds."""


class Started(_Event):
    """The library is imported and the work begins."""

    event: Literal["started"] = "started"
    worker: str
    """Name of the worker: train or eval."""
    pid: int
    """Process id on the host in supervisor.json."""


class Progress(_Event):
    """How far the work is."""

    event: Literal["progress"] = "progress"
    step: int
    """Steps (training), documents (evaluation) done."""
    total: int | None = None
    """Steps or documents in all; null when unknown."""
    phase: str | None = None
    """What is being counted, such as `training` or `generating`."""
    loss: float | None = None
    """Training loss, mean over the steps since the last event."""
    learning_rate: float | None = None
    """Learning rate of the step."""
    epoch: float | None = None
    """Passes over the data so far."""
    elapsed: float | None = None
    """Seconds since the first step."""
    eta: float | None = None
    """Seconds still to go, as estimated."""
    tokens_per_second: float | None = None
    """Tokens seen (training) or generated per second, padding not counted; null when not measured."""
    prompts_per_second: float | None = None
    """Inputs answered per second (generation); null when not measured."""


class MetricEvent(_Event):
    """A value measured on the way, such as eval_loss."""

    event: Literal["metric"] = "metric"
    name: str
    """Name in the library's words."""
    value: float
    """The value."""
    step: int | None = None
    """Step at which it was measured."""


class Checkpoint(_Event):
    """A checkpoint was written completely."""

    event: Literal["checkpoint"] = "checkpoint"
    step: int
    """Step it belongs to."""
    path: str
    """Folder, relative to the run folder."""


class SampleEvent(_Event):
    """One output, to look at while the run goes on."""

    event: Literal["sample"] = "sample"
    prompt: str
    """What the model was given."""
    response: str
    """What it answered."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Anything else worth showing."""


class Ready(_Event):
    """A server answers."""

    event: Literal["ready"] = "ready"
    url: str
    """Base URL of the API."""
    models: list[str] = Field(default_factory=list)
    """Names under which requests ask for the model and its adapters."""
    chat: bool = True
    """Whether the model has a chat template; without one only /completions answers."""
    key: bool = False
    """Whether requests must carry the API key (variable TUNEYARD_API_KEY)."""


class Warned(_Event):
    """Something a person should know, although the run goes on."""

    event: Literal["warning"] = "warning"
    message: str
    """One sentence."""


Event = Annotated[
    Started | Progress | MetricEvent | Checkpoint | SampleEvent | Ready | Warned, Field(discriminator="event")
]
