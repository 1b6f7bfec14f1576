"""lm-eval's samples, one row per document and filter with numpy's numbers in them, as one row per document."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from tuneyard.core.evaluation import EvaluatedTask, Sample
from tuneyard.core.files import explain_os_error


def plain(value: Any) -> Any:
    """`value` as JSON holds it: numpy's scalars and arrays, sets, tuples and whatever else taken apart."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(v) for v in value), key=str)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def as_number(value: Any) -> float | None:
    """A score as a number; None for what is not one, such as the pair that a corpus-wide metric keeps."""
    value = plain(value)
    return float(value) if isinstance(value, int | float) else None


def rows(task: str, logged: list[dict[str, Any]]) -> Iterator[Sample]:
    """One sample per document of a task, in the order of its documents."""
    ordered = sorted(logged, key=lambda row: row["doc_id"])
    for _, same in groupby(ordered, key=lambda row: row["doc_id"]):
        yield _sample(task, list(same))


def _sample(task: str, logged: list[dict[str, Any]]) -> Sample:
    first = logged[0]
    return Sample(
        task=task,
        id=str(first["doc_id"]),
        document_sha256=first["doc_hash"],
        prompt=prompt_text(first["arguments"][0][0]),
        response=response_of(first),
        target=_text(first["target"]),
        answers={row["filter"]: _text(_alone(row["filtered_resps"])) for row in logged},
        scores={row["filter"]: scores_of(row) for row in logged},
    )


def prompt_text(argument: Any) -> str:
    """What the model was given; a conversation for a server, which lm-eval wraps in a tuple of one, as its JSON."""
    return str(argument[0] if isinstance(argument, tuple) else argument)


def response_of(row: dict[str, Any]) -> str:
    """The text that was generated; as JSON where it was asked for several times, or log-likelihoods were asked for."""
    responses = plain(row["resps"])
    if isinstance(responses[0][0], str):
        return _text(_alone(responses[0]))
    asked = [arguments[-1] if len(arguments) > 1 else None for arguments in row["arguments"]]
    told = [_log_likelihood(text, answers[0]) for text, answers in zip(asked, responses, strict=True)]
    return json.dumps(told, ensure_ascii=False)


def _log_likelihood(continuation: str | None, answer: Any) -> dict[str, Any]:
    if isinstance(answer, list):
        return {"continuation": continuation, "log_likelihood": answer[0], "greedy": answer[1]}
    return {"log_likelihood": answer}


def scores_of(row: dict[str, Any]) -> dict[str, float]:
    """The metrics of a document that are finite numbers: JSON knows no others."""
    numbers = {name: as_number(row[name]) for name in row["metrics"]}
    return {name: number for name, number in numbers.items() if number is not None and math.isfinite(number)}


def _alone(values: Any) -> Any:
    values = plain(values)
    return values[0] if isinstance(values, list) and len(values) == 1 else values


def _text(value: Any) -> str:
    value = plain(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def sha256_over(parts: Iterable[str]) -> str:
    """Hash over parts in their order; no two lists of parts run into one another."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def write(path: Path, samples: Iterable[Sample]) -> dict[str, list[tuple[str, str]]]:
    """Write samples as JSONL, a row at a time. Returns task -> (hash of the document, prompt) in their order.

    Raises:
        SetupError: the disk is full.
    """
    seen: dict[str, list[tuple[str, str]]] = {}
    try:
        with open(path, "w", encoding="utf-8") as file:
            for sample in samples:
                file.write(sample.model_dump_json() + "\n")
                seen.setdefault(sample.task, []).append((sample.document_sha256, sample.prompt))
    except OSError as error:
        raise explain_os_error(error, path) from error
    return seen


def evaluated(task: str, seen: list[tuple[str, str]], **fields: Any) -> EvaluatedTask:
    """What the score of a task depends on, from what `write` returned and what the library says of it."""
    return EvaluatedTask(
        task=task,
        documents_sha256=sha256_over(document for document, _ in seen),
        prompts_sha256=sha256_over(prompt for _, prompt in seen),
        n=len(seen),
        **fields,
    )
