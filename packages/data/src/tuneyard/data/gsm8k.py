"""`builtin:gsm8k`: grade-school maths word problems, in the form in which lm-eval's `gsm8k` asks for them.

The prompt is lm-eval's own (`Question: …`, newline, `Answer:`) and the response the worked answer without its
calculator marks, ending `#### 72`, which lm-eval's strict filter reads. In a chat template, which is how a fine-tune
trains by default and how its evaluation then asks, the prompt is the user's turn and the two agree to the character.
Without a template lm-eval separates prompt and answer by a space, which a training without template does not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneyard.data.records import Record
from tuneyard.data.turns import BadRow

HUB_ID = "openai/gsm8k"
CONFIGURATION = "main"
VARIABLE = "TUNEYARD_GSM8K"
"""Names the folder of GSM8K's JSONL files."""

MARK = re.compile(r"<<[^<>]*>>")
"""A calculator mark: `<<48/2=24>>`."""

ANSWER = re.compile(r"#### (-?[0-9.,]+)")
"""Reads the final answer, as lm-eval's strict filter does."""


def prompt(question: str) -> str:
    """The problem as lm-eval's `gsm8k` puts it."""
    return f"Question: {question}\nAnswer:"


def without_marks(answer: str) -> str:
    """A worked answer without its calculator marks."""
    return MARK.sub("", answer)


def final_answer(text: str) -> str | None:
    """The number behind `####`, without thousands separators; None where there is none."""
    match = ANSWER.search(text)
    return match[1].replace(",", "").rstrip(".") if match else None


def score(response: str, target: str) -> float:
    """1.0 if the response ends in the target, as lm-eval's strict filter sees it, else 0.0."""
    return float(final_answer(response) == target)


def record(number: int, row: dict[str, Any], split: str) -> Record:
    """A row of GSM8K as a record.

    Raises:
        BadRow: no question, no answer, or no `####` with a number behind it.
    """
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise BadRow("a row of GSM8K has the texts `question` and `answer`")
    target = final_answer(answer)
    if target is None:
        raise BadRow("the answer does not end with `#### NUMBER`")
    return Record(
        id=f"gsm8k-{split}-{number}",
        prompt=prompt(question),
        response=without_marks(answer),
        target=target,
        metadata={"question": question},
    )


def folder_of(path: str | None) -> Path | None:
    """The folder of GSM8K's own files: the one given, else the one in TUNEYARD_GSM8K, else None for the hub."""
    named = path or os.environ.get(VARIABLE)
    return Path(named).expanduser().absolute() if named else None


def records(rows: Iterator[tuple[int, dict[str, Any]]], split: str) -> Iterator[Record]:
    """Rows as records."""
    return (record(number, row, split) for number, row in rows)
