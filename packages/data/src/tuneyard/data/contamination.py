"""Whether training rows hold documents of an evaluation, as they stand or within a longer text.

A document is found in a row whose question is the same but for case, white space and the last punctuation, and, if it
is long enough, in any row that shares a run of `RUN` words with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tuneyard.core.errors import RequestError
from tuneyard.data.contents import normalised
from tuneyard.data.records import Record, problem_of

RUN = 13
"""Words that a row and a document must share in a row. Shorter runs are found in texts that have nothing in common."""

_words = re.compile(r"\w+").findall


class Evaluation:
    """The documents of an evaluation, as rows are compared with them."""

    def __init__(self, records: Iterable[Record], name: str) -> None:
        """
        Args:
            records: the documents. The texts that are compared are what is asked and, where `metadata` has a bare
                `question`, that.
            name: what the evaluation is called in messages.

        Raises:
            RequestError: there is no document, or none with a question.
        """
        self.name = name
        self.documents = 0
        self._whole: dict[str, int] = {}
        self._runs: dict[int, int] = {}
        self._names: list[str] = []
        for record in records:
            self._add(record)
        if not self._whole:
            raise RequestError("the evaluation has no document to compare with", where=name)

    def _add(self, record: Record) -> None:
        number = self.documents
        self.documents += 1
        self._names.append(record.id or f"document {number + 1}")
        for text in _questions(record):
            self._whole.setdefault(_even(text), number)
            for run in _word_runs(text):
                self._runs.setdefault(run, number)

    def find(self, asked: str, text: str) -> int | None:
        """The number of a document that a row holds; None where it holds none.

        Args:
            asked: the row's question.
            text: all of the row.
        """
        number = self._whole.get(_even(asked))
        if number is None and self._runs:
            number = next((self._runs[run] for run in _word_runs(text) if run in self._runs), None)
        return number

    def name_of(self, number: int) -> str:
        """The document's id, or its place."""
        return self._names[number]


def asked_of(record: Record) -> str:
    """What a row asks: the problem, by which `split_of` goes too."""
    return problem_of(record)


def _questions(record: Record) -> Iterator[str]:
    if problem := problem_of(record):
        yield problem
    if isinstance(question := record.metadata.get("question"), str) and question:
        yield question


def _even(text: str) -> str:
    return normalised(text).rstrip(" .?!:")


def _word_runs(text: str) -> Iterator[int]:
    words = _words(text.casefold())
    return (hash(tuple(words[start : start + RUN])) for start in range(len(words) - RUN + 1))
