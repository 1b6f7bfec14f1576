"""What a log gives away: the last exception, not the noise; the cause, not those who report it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tuneyard.core.signatures import SIGNATURES, explain, likely_cause
from tuneyard.core.signatures.reading import NEAR, SURVIVED_AFTER, WORK, WORK_MARKS

_PARTS = re.split(r"^=== (\S+)\n", (Path(__file__).parent / "threads.txt").read_text(), flags=re.MULTILINE)[1:]
THREADS = dict(zip(_PARTS[::2], _PARTS[1::2], strict=True))
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
STEPS = "".join(f" {n}%|{'█' * (n // 10)}| {n}/100 [00:{n:02}<00:30,  2.0it/s]\n" for n in range(SURVIVED_AFTER))


def cause(log: str) -> str | None:
    found = likely_cause(log)
    return found.id if found else None


def lines(log: str) -> list[tuple[int, str]]:
    return list(enumerate(log.splitlines(), 1))


@pytest.mark.parametrize("id", [s.id for s in SIGNATURES])
def test_a_signature_is_known_by_the_lines_of_its_thread(id: str) -> None:
    assert cause(THREADS[id]) == id


def test_every_signature_says_where_it_comes_from_and_what_to_do() -> None:
    assert len(SIGNATURES) == len({s.id for s in SIGNATURES}) == len({s.cause for s in SIGNATURES})
    for known in SIGNATURES:
        assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/\d+", known.thread), known.id
        assert known.cause and known.way_out and not known.cause.endswith(".")


def test_an_exception_that_nobody_knows_is_not_blamed_on_what_came_before() -> None:
    log = f"{OUT_OF_MEMORY}\nTraceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'gold'\n"
    assert cause(log) is None
    failure = explain(lines(log)).failure
    assert failure is not None and (failure.line, failure.text, failure.signature) == (4, "KeyError: 'gold'", None)


@pytest.mark.parametrize(
    "noise",
    [
        "WARNING 11-19 12:54:26 [core.py:9] Failed to import from vllm._C with ImportError('libcudart.so.12: cannot "
        "open shared object file: No such file or directory')",
        "/venv/torch/cuda/__init__.py:80: UserWarning: CUDA initialization: Error 802: system not yet initialized",
        "[INFO|2026-01-01 00:00:00] llamafactory.cli:143 >> retrying after OSError: [Errno 24] Too many open files",
        "01/01/2026 10:17:06 - WARNING - root - Error: No space left on device, kept in memory",
        "[rank0]:[W1126 11:17:52 ProcessGroupNCCL.cpp:1168] Warning: NCCL error in a destructor",
        "W0211 23:43:01.464994 140540 torch/run.py:779] failed (exitcode: -9)",
    ],
)
def test_a_warning_that_mentions_an_error_is_noise(noise: str) -> None:
    assert cause(noise) is None
    assert cause(f"{OUT_OF_MEMORY}\n{noise}\n") == "cuda-out-of-memory"


@pytest.mark.parametrize(
    "prefix",
    [
        "[rank3]: ",
        "2026-01-01T00:00:00.000Z stderr F ",
        "vllm-1  | ERROR 11-18 18:07:28 engine.py:366] ",
        "(EngineCore_DP0 pid=17) ERROR 10-25 13:08:43 [core.py:708] ",
        "  0%|          | 0/30 [00:00<?, ?it/s]",
        "\x1b[31m",
        "2026-11-21 12:08:26.497 | ERROR    | ",
        "E   ",
    ],
)
def test_an_exception_is_read_behind_what_loggers_and_bars_put_before_it(prefix: str) -> None:
    found = explain(lines(f"{prefix}KeyError: 'x'\x1b[0m")).failure
    assert found is not None and found.raised and found.text == "KeyError: 'x'"


@pytest.mark.parametrize(
    "link",
    [
        "The above exception was the direct cause of the following exception:",
        "During handling of the above exception, another exception occurred:",
    ],
)
def test_an_unknown_exception_is_explained_by_what_it_was_raised_from(link: str) -> None:
    chain = f"{OUT_OF_MEMORY}\n\n{link}\n\nTraceback (most recent call last):\nValueError: could not train\n"
    assert cause(chain) == "cuda-out-of-memory"
    assert cause(f"{chain}\nTraceback (most recent call last):\nKeyError: 'unrelated'\n") is None


def test_the_last_link_of_a_chain_is_the_cause_where_it_is_known() -> None:
    assert cause(THREADS["hub-unreachable"]) == "hub-unreachable"
    chain = f"ImportError: cannot import name 'x' from 'trl'\n\nDuring handling of the above exception\n{OUT_OF_MEMORY}"
    assert cause(chain) == "cuda-out-of-memory"


RANKS = """\
[rank1]: Traceback (most recent call last):
[rank0]: Traceback (most recent call last):
[rank1]:   File "train.py", line 9, in step
[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
[rank0]:   File "train.py", line 9, in step
[rank0]: ConnectionResetError: [Errno 104] Connection reset by peer
[rank2]:[E321 02:07:08.4 ProcessGroupNCCL.cpp:607] [Rank 2] Watchdog caught collective operation timeout: WorkNCCL()
[rank2]: torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:275
E0718 02:26:56.9 64126 torch/distributed/elastic/multiprocessing/api.py:874] failed (exitcode: 1) local_rank: 1 (pid: 2)
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: 
============================================================
Root Cause (first observed failure):
  rank      : 1 (local_rank: 1)
"""


def test_of_several_ranks_the_first_to_fail_is_the_cause_not_the_launchers_summary() -> None:
    found = explain(lines(RANKS)).failure
    assert found is not None and found.signature is not None
    assert (found.signature.id, found.process, found.line) == ("cuda-out-of-memory", "rank 1", 4)


def test_a_summary_alone_is_told_as_what_it_is() -> None:
    found = explain(lines("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ")).failure
    assert found is not None and found.reports and found.signature is None


def test_a_lost_connection_between_gpus_counts_only_where_nothing_else_failed() -> None:
    assert cause(THREADS["nccl"]) == "nccl"
    assert cause("ValueError: my reward is broken\n" + THREADS["nccl"]) is None


def test_what_the_run_survived_is_not_why_it_ended() -> None:
    known = f"Traceback (most recent call last):\n{OUT_OF_MEMORY}\n"
    found = explain(lines(known + STEPS))
    assert found.failure is None
    assert [e.text for e in found.survived] == [OUT_OF_MEMORY]
    assert cause(known + STEPS) is None
    assert cause(known + "***** train metrics *****\n") is None
    assert cause(known + STEPS + "E1 x] failed (exitcode: -9) local_rank: 0\n") == "killed"


def test_an_exception_in_a_destructor_is_not_the_cause() -> None:
    log = (
        f"{OUT_OF_MEMORY}\nException ignored in: <function x.__del__>\nTraceback (most recent call last):\nOSError: 9\n"
    )
    assert cause(log) == "cuda-out-of-memory"


def test_a_loss_that_became_nan_is_told_though_the_run_goes_on() -> None:
    assert cause("{'loss': nan, 'grad_norm': nan, 'epoch': 0.1}\n" + STEPS) == "not-a-number"
    assert cause("{'loss': 1.2, 'grad_norm': nan, 'epoch': 0.1}\n") is None, "fp16 skips such a step and goes on"


def test_every_line_of_work_has_one_of_its_marks() -> None:
    for line in (*STEPS.splitlines(), "{'loss': 1.2}", "{'eval_loss': '1'}", 'INFO: "POST /v1/chat HTTP/1.1" 200 OK'):
        assert WORK.search(line) and any(mark in line for mark in WORK_MARKS), line
    assert NEAR > 0
