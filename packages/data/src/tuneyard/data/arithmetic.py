"""`builtin:arithmetic`: addition of two n-digit numbers worked digit by digit, a corpus that a tiny model can learn.

    358 + 467  ->  8+7+0=15,5+6+1=12,3+4+1=08 #### 825

Steps go from the ones upwards and read `digit+digit+carry=sum`, every sum in two digits, so that each column stands at
the same place in every response. Numbers have exactly n digits, the first of them not 0 (one-digit numbers include 0).
"""

import re
from collections.abc import Iterator
from hashlib import blake2b
from itertools import count, islice
from typing import Any, Literal

from tuneyard.core.errors import RequestError

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

MOST_DIGITS = 18
"""The order of the problems is made from 64-bit numbers."""

HELD_OUT = 5
"""One problem in this many is held out for the test."""

ANSWER = re.compile(r"#### ([0-9]+)\s*$")
"""Reads the final answer from a worked response, in its first group."""

ROUNDS = 6
MASK = 2**64 - 1


def problems(
    *,
    digits: int = 3,
    size: int = 20_000,
    seed: int = 0,
    split: Split = "train",
    shuffled_answers: bool = False,
) -> Iterator[dict[str, Any]]:
    """Stream `size` problems as dictionaries with id, prompt, response, target and metadata, in constant memory.

    Whether a problem belongs to the training or the test split depends on its two numbers alone, whatever their order,
    so that no seed or size moves one across. No problem comes twice before every other one of the split has come once.
    Then the training split starts over in another order; the test split ends, however large `size`, since counting a
    problem twice would make a score look more certain than it is.

    Args:
        digits: digits of each number, 1 to 18. With 1, held-out problems are entries of the addition table that
            training never shows and that do not follow from the others; from 2 on, it shows every entry.
        size: number of problems, 0 or more; in the test split, at most.
        seed: decides which problems come, and their order.
        split: `train`, or `test` for the fifth of all problems that is held out.
        shuffled_answers: every problem gets the worked answer and target of another problem with another sum, a
            control from which addition cannot be learned.

    Raises:
        RequestError: an argument is out of its range.
    """
    _check(digits, size, split)
    return _stream(digits, size, seed, split, shuffled_answers)


def score(response: str, target: str) -> float:
    """1.0 if the final answer that can be read from `response` is `target`, else 0.0."""
    answer = ANSWER.search(response)
    return float(answer is not None and answer[1] == target)


def prompt(a: int, b: int) -> str:
    """The problem as the model reads it."""
    return f"Add {a} and {b}."


def worked_answer(a: int, b: int) -> str:
    """The response: one step a digit, ones first, then the sum."""
    steps = []
    carry = 0
    for x, y in zip(reversed(str(a)), reversed(str(b)), strict=True):
        column = int(x) + int(y) + carry
        steps.append(f"{x}+{y}+{carry}={column:02d}")
        carry = column // 10
    return f"{','.join(steps)} #### {a + b}"


def _check(digits: int, size: int, split: str) -> None:
    if not 1 <= digits <= MOST_DIGITS:
        raise RequestError(f"digits is {digits}", where="arithmetic", way_out=f"take 1 to {MOST_DIGITS} digits")
    if size < 0:
        raise RequestError(f"size is {size}", where="arithmetic", way_out="take a size of 0 or more")
    if split not in SPLITS:
        raise RequestError(f"unknown split {split!r}", where="arithmetic", way_out="take 'train' or 'test'")


def _stream(digits: int, size: int, seed: int, split: Split, shuffled_answers: bool) -> Iterator[dict[str, Any]]:
    others = ((a, b) for _, a, b in _pairs(digits, f"answers-{seed}", split))
    for again, a, b in islice(_pairs(digits, f"problems-{seed}", split), size):
        if again and split == "test":
            return
        answered = next(other for other in others if sum(other) != a + b) if shuffled_answers else (a, b)
        yield {
            "id": f"{a}+{b}#{again}" if again else f"{a}+{b}",
            "prompt": prompt(a, b),
            "response": worked_answer(*answered),
            "target": str(sum(answered)),
            "metadata": {"digits": digits, "split": split, "a": a, "b": b},
        }


def _pairs(digits: int, key: str, split: Split) -> Iterator[tuple[int, int, int]]:
    """Every problem of the split, with 0, in an order that `key` decides; then all with 1, in another order; and on."""
    lowest = 10 ** (digits - 1) if digits > 1 else 0
    numbers = 10**digits - lowest
    for again in count():
        keys = _round_keys(f"{key}-{digits}-{again}")
        for index in range(numbers**2):
            x, y = _shuffle(index, numbers, keys)
            a, b = lowest + x, lowest + y
            if _split_of(a, b) == split:
                yield again, a, b


def _split_of(a: int, b: int) -> Split:
    text = f"{min(a, b)}+{max(a, b)}"
    chance = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
    return "test" if chance % HELD_OUT == 0 else "train"


def _round_keys(key: str) -> list[int]:
    digest = blake2b(key.encode(), digest_size=8 * ROUNDS).digest()
    return [int.from_bytes(digest[8 * i : 8 * i + 8]) for i in range(ROUNDS)]


def _shuffle(index: int, numbers: int, keys: list[int]) -> tuple[int, int]:
    """The pair at place `index` of a random order of all `numbers` x `numbers` pairs, without holding the order.

    A Feistel network on the two halves of the index: each round adds to one half a hash of the other, which can be
    undone, so that different places give different pairs.
    """
    left, right = divmod(index, numbers)
    for key in keys:
        left, right = right, (left + _mixed(right ^ key)) % numbers
    return left, right


def _mixed(number: int) -> int:
    """A 64-bit hash of a number: the finishing steps of SplitMix64."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & MASK
    return number ^ number >> 31
