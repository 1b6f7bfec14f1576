"""What an evaluation leaves besides its metrics: one row per document, and what makes two scores comparable."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tuneyard.core.documents import SCHEMA_VERSION, Document


class Sample(Document):
    """One row of artifacts/samples.jsonl: one document of one task."""

    task: str
    """Name of the task."""
    id: str
    """The document's number or id within the task."""
    document_sha256: str
    """Hash of the document, so that two evaluations can be paired."""
    prompt: str
    """The text the model was given, chat template included where it was applied."""
    response: str
    """The text it answered, before any filter. For multiple choice: the log-likelihoods, as JSON."""
    target: str
    """What was expected."""
    answers: dict[str, str] = Field(default_factory=dict)
    """Filter -> the answer it read from the response. `none` where the task has no filter."""
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Filter -> metric -> score."""


class EvaluatedTask(Document):
    """What a task's score depends on. Two scores compare only if these agree."""

    task: str
    """Name of the task."""
    documents_sha256: str
    """Hash over the hashes of the documents, in order."""
    prompts_sha256: str
    """Hash over the prompts, in order."""
    n: int
    """Documents scored."""
    num_fewshot: int | None = None
    """Worked examples in the prompt."""
    limit: int | None = None
    """Documents asked for; null: all."""
    chat_template: bool = False
    """Whether prompts went through the chat template."""
    filters: list[str] = Field(default_factory=list)
    """Names of the filters."""
    generation: dict[str, Any] = Field(default_factory=dict)
    """Settings of generation, such as max_gen_toks, until and temperature."""
    version: str | None = None
    """The task's own version."""


class Evaluation(Document):
    """artifacts/evaluation.json."""

    schema_version: int = SCHEMA_VERSION
    """Version of this document's form."""
    framework: Literal["lm-eval", "inspect"]
    """Which library scored."""
    framework_version: str
    """Its version."""
    model: str
    """The model as it was asked for."""
    tasks: list[EvaluatedTask]
    """One entry per task."""
    notes: list[str] = Field(default_factory=list)
    """What a reader of the score must know, such as a token mismatch that was allowed."""
