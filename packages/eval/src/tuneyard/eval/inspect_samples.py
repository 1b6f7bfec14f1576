"""Inspect's logs as rows of samples.jsonl and as metrics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tuneyard.core.evaluation import Sample
from tuneyard.eval.samples import plain

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.model import Model
    from inspect_ai.scorer import Score

AVERAGES = ("accuracy", "mean")
"""Metrics whose standard error a scorer's `stderr` is."""


def task_of(log: EvalLog) -> str:
    """The task's name as it was asked for, without the path of its file."""
    return log.eval.task


def rows(log: EvalLog, model: Model) -> Iterator[Sample]:
    """One row per sample, and per epoch where there are several, in the order of the dataset."""
    several = (log.eval.config.epochs or 1) > 1
    names = _metric_names(log)
    for sample in log.samples or []:
        yield Sample(
            task=task_of(log),
            id=f"{sample.id}@{sample.epoch}" if several else str(sample.id),
            document_sha256=_sha256(sample),
            prompt=prompt_of(sample, model),
            response=sample.output.completion if sample.output.choices else "",
            target=sample.target if isinstance(sample.target, str) else json.dumps(sample.target, ensure_ascii=False),
            answers={name: _answer(score) for name, score in (sample.scores or {}).items()},
            scores={name: _numbers(score, names.get(name, "value")) for name, score in (sample.scores or {}).items()},
        )


def _metric_names(log: EvalLog) -> dict[str, str]:
    """Scorer -> the metric that averages its scores, by which a sample's score is named too."""
    found = {}
    for score in log.results.scores if log.results else []:
        averages = [name for name in score.metrics if name in AVERAGES]
        if averages:
            found.setdefault(score.scorer, averages[0])
            found.setdefault(score.name, averages[0])
    return found


def _sha256(sample: EvalSample) -> str:
    document = {"input": text_of(sample.input), "choices": sample.choices, "target": plain(sample.target)}
    return hashlib.sha256(json.dumps(document, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def prompt_of(sample: EvalSample, model: Model) -> str:
    """What the model was given last: as the chat template writes it; a server's model, the messages."""
    calls = [event for event in sample.events if event.event == "model"]
    if not calls:
        return text_of(sample.input)
    last = calls[-1]
    api: Any = model.api
    return api.hf_chat(last.input, last.tools) if hasattr(api, "hf_chat") else text_of(last.input)


def text_of(messages: Any) -> str:
    """A prompt as text: itself, or messages with their roles."""
    if isinstance(messages, str):
        return messages
    return "\n".join(f"{message.role}: {message.text}" for message in messages)


def _answer(score: Score) -> str:
    return score.answer if score.answer is not None else str(plain(score.value))


def _numbers(score: Score, name: str) -> dict[str, float]:
    """The score as numbers: Inspect's C, P, I and N are 1, 0.5, 0 and 0; of a dictionary every entry is one."""
    values = score.value if isinstance(score.value, dict) else {name: score.value}
    numbers = {key: _number(value) for key, value in values.items()}
    return {key: number for key, number in numbers.items() if number is not None}


def _number(value: Any) -> float | None:
    from inspect_ai.scorer import value_to_float

    if isinstance(value, list | dict | None):
        return None
    if isinstance(value, str) and value not in ("C", "P", "I", "N") and value.lower() not in _WORDS:
        try:
            return float(value)
        except ValueError:
            return None
    return float(value_to_float()(value))


_WORDS = ("yes", "no", "true", "false")


def metrics_of(log: EvalLog) -> Iterator[tuple[str, float, float | None, int | None]]:
    """Every metric as `task/metric,scorer`, with its standard error and the number of samples it was taken on."""
    for score in log.results.scores if log.results else []:
        error = score.metrics["stderr"].value if "stderr" in score.metrics else None
        n = score.scored_samples if score.scored_samples is not None else log.results and log.results.completed_samples
        for name, metric in score.metrics.items():
            if name != "stderr":
                yield f"{task_of(log)}/{name},{score.name}", metric.value, error if name in AVERAGES else None, n
