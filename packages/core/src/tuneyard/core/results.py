"""Results: what came of a run. Written last, at once, as attempts/N/result.json."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tuneyard.core.documents import SCHEMA_VERSION, Document

Ending = Literal["succeeded", "failed", "cancelled"]


class Metric(Document):
    """One measured value."""

    value: float
    """The value; a rate lies between 0 and 1."""
    standard_error: float | None = None
    """Standard error of the value; null when the library gives none."""
    n: int | None = None
    """Documents or steps it was measured on."""


class Artifact(Document):
    """Something the run left for others."""

    name: str
    """What it is: model, adapter, samples, loss_plot, llamafactory_yaml …"""
    path: str
    """File or folder, relative to the run folder."""
    sha256: str
    """Of the file; of a folder: of the sorted list of its files' names and hashes."""
    size: int
    """Bytes."""


class Failure(Document):
    """Why a run did not succeed."""

    kind: str
    """request, setup, failed, out_of_memory, signal, exit_code, time_limit, cancelled or lost."""
    message: str
    """What happened, one sentence."""
    where: str | None = None
    """File, key or object it happened in."""
    way_out: str | None = None
    """What to do; a command where there is one."""
    cause: str | None = None
    """The likely cause, where a known signature stands in the log."""
    exit_code: int | None = None
    """Exit code of the worker; null when a signal ended it."""
    signal: str | None = None
    """Name of the signal that ended the worker, such as SIGKILL."""
    log_tail: list[str] = Field(default_factory=list)
    """The last lines of stderr, at most 40, secrets masked."""
    logs: list[str] = Field(default_factory=list)
    """Paths of stdout.log and stderr.log, relative to the run folder."""


class Result(Document):
    """What came of one attempt."""

    schema_version: int = SCHEMA_VERSION
    """Version of this document's form."""
    run: str
    """Id of the run."""
    attempt: int
    """Number of the attempt, from 1."""
    status: Ending
    """How it ended."""
    metrics: dict[str, Metric] = Field(default_factory=dict)
    """Name -> value. An evaluation's names are `task/metric` or `task/metric,filter`."""
    artifacts: list[Artifact] = Field(default_factory=list)
    """What it left."""
    failure: Failure | None = None
    """Why it did not succeed; null when it did."""
    started: str
    """When the worker (or the supervisor, where no worker started) began; UTC, ISO 8601."""
    ended: str
    """When it ended; UTC, ISO 8601."""
    seconds: float
    """Wall time between the two."""
    timing: dict[str, float] = Field(default_factory=dict)
    """Seconds of each part, such as import, load, train and save."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that decide a result."""
    details: dict[str, Any] = Field(default_factory=dict)
    """What else the worker tells, in the library's words."""
