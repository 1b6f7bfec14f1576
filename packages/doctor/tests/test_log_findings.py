"""`yard doctor --log`: the cause is found in a long noisy log, of any size and make; a healthy log gives nothing."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneyard.core.errors import RequestError
from tuneyard.core.signatures import SIGNATURES, explain
from tuneyard.doctor import log_lines
from tuneyard.doctor.log_lines import Log, read_log
from tuneyard.doctor.logs import findings, main

HERE = Path(__file__).parent
_PARTS = re.split(r"^=== (\S+)\n", (HERE.parents[1] / "core/tests/threads.txt").read_text(), flags=re.MULTILINE)[1:]
THREADS = dict(zip(_PARTS[::2], _PARTS[1::2], strict=True))
OUT_OF_MEMORY = "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB.\n"

NOISE = [
    "[INFO|hub.py:364] 2026-11-21 10:08:26,521 >> Offline mode: forcing local_files_only=True\n",
    "[WARNING|2026-11-21 10:08:26] llamafactory.hparams.parser:149 >> We recommend enable mixed precision training.\n",
    "(EngineCore pid=14175) INFO 11-21 09:58:16 [core.py:402] init engine (profile, create kv cache) took 3.82 s\n",
    "(APIServer pid=12904) WARNING 11-21 09:57:47 [system_utils.py:255] Found ulimit of 20000 and failed to "
    "automatically increase. This can cause fd limit errors like `OSError: [Errno 24] Too many open files`\n",
    "WARNING 06-13 11:42:20 _custom_ops.py:11] Failed to import from vllm._C with ImportError('libcudart.so.12: cannot "
    "open shared object file: No such file or directory')\n",
    "/venv/lib/python3.11/site-packages/torch/cuda/__init__.py:80: UserWarning: CUDA initialization: The NVIDIA driver "
    "on your system is too old (found version 11040).\n",
    "2024-10-01:12:40:20,544 INFO     [evaluator.py:198] 0 errors, retried after HTTPError: 429 Client Error\n",
    "[rank0]:[W1126 11:17:52.4 ProcessGroupNCCL.cpp:1168] Warning: process group was NOT destroyed, NCCL error next\n",
    "[2025-09-10 20:17:22,925] [INFO] [utils.py:781:see_memory_usage] CUDA out of memory is not near: MA 0.0 GB\n",
    "training example:\ninputs:\n<|user|>What is 3 + 4?<|end|><|assistant|>7<|end|>\n",
    "Loading weights:  50%|█████     | 1/2 [00:03<00:03,  3.00s/it]\rLoading weights: 100%|██████████| 2/2\n",
]
"""What stands in logs of runs that have nothing wrong."""


def noise(lines: int, seed: int) -> str:
    """A long log of a run at work, progress bars and warnings that mention errors."""
    chance = random.Random(seed)
    made = []
    for step in range(lines):
        if chance.random() < 0.3:
            made.append(chance.choice(NOISE))
        elif chance.random() < 0.5:
            made.append(f" {step * 100 // lines}%|███       | {step}/{lines} [10:{step % 60:02}<12:00,  2.1it/s]\r")
        else:
            made.append(f"{{'loss': {chance.random():.4f}, 'grad_norm': 0.53, 'epoch': 0.1}}\n")
    return "".join(made)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], str]:
    def written(content: str | bytes) -> str:
        path = tmp_path / 'a log, "ünï".txt'
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return written


def found(place: str) -> list[tuple[str, str]]:
    return [(finding.severity, finding.id) for finding in findings(read_log(place))]


@pytest.mark.parametrize("id", [s.id for s in SIGNATURES])
def test_every_signature_is_found_in_a_long_noisy_log(id: str, write: Callable[[str], str]) -> None:
    ending = "".join(NOISE) if id != "nccl" else ""
    place = write(noise(4000, seed=1) + "\n" + THREADS[id] + ending)
    known = next(s for s in SIGNATURES if s.id == id)
    severity = {"warns": "risky"}.get(known.effect, "broken")
    assert found(place) == [(severity, id)]
    [finding] = findings(read_log(place))
    assert finding.link == known.thread and finding.way_out == known.way_out
    assert re.match(r"line \d{4}", finding.evidence or "")


@pytest.mark.parametrize("log", sorted(path.name for path in (HERE / "logs").iterdir()))
def test_a_healthy_log_of_a_real_run_gives_no_finding(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log", str(HERE / "logs" / log)]) == 0
    assert "nothing in it tells of a failure" in capsys.readouterr().out


@pytest.mark.parametrize("log", sorted(path.name for path in (HERE / "failed_logs").iterdir()))
def test_a_log_of_a_real_failure_gives_its_cause(log: str) -> None:
    assert found(str(HERE / "failed_logs" / log)) == [("broken", log.removesuffix(".log"))]


def test_noise_alone_gives_no_finding(write: Callable[[str], str]) -> None:
    assert found(write(noise(5000, seed=2))) == []
    assert found(write("".join(NOISE))) == []


def test_an_unknown_exception_is_told_plainly(write: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    place = write(OUT_OF_MEMORY.replace("torch.", "old ") + "Traceback (most recent call last):\nKeyError: 'gold'\n")
    assert main(["--log", place]) == 1
    told = capsys.readouterr().out
    assert "no signature knows" in told and "line 4: KeyError: 'gold'" in told


def test_what_was_survived_is_a_note_and_breaks_nothing(write: Callable[[str], str]) -> None:
    place = write(OUT_OF_MEMORY + noise(200, seed=3))
    assert found(place) == [("note", "cuda-out-of-memory")]
    assert main(["--log", place]) == 0


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: gzip.compress(text.encode("utf-16")),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: b"\0" * 100_000 + text.encode(),
        lambda text: re.sub(r"(?m)^", "\x1b[31m\x1b[1m", text).encode(),
        lambda text: text.encode() + bytes(range(128, 256)) * 50,
    ],
    ids=["16-le", "16-be", "16-le-unmarked", "16-be-unmarked", "8", "gz", "gz-16", "crlf", "hole", "colours", "bytes"],
)
def test_a_log_is_read_whatever_it_was_written_with(
    encode: Callable[[str], bytes], write: Callable[[bytes], str]
) -> None:
    text = noise(300, seed=4) + "\n" + OUT_OF_MEMORY
    [finding] = findings(read_log(write(encode(text))))
    assert finding.id == "cuda-out-of-memory"
    assert f"line {text.count(chr(10))}: torch.OutOfMemoryError" in (finding.evidence or "")


def test_lines_are_counted(write: Callable[[str], str]) -> None:
    log = read_log(write("a\nb\r 1%\r 2%\nc"))
    assert (log.lines, log.size) == (3, 13)


@pytest.mark.parametrize("block", [64, 1000, 100_000])
def test_what_is_read_in_blocks_is_the_same(
    block: int, write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write(noise(500, seed=5) + "\n" + THREADS["hub-unreachable"])
    whole = read_log(place)
    monkeypatch.setattr(log_lines, "BLOCK", block)
    assert read_log(place) == whole


def test_a_line_of_many_megabytes_costs_little_and_hides_nothing(write: Callable[[str], str]) -> None:
    long = "x" * 5_000_000
    place = write(f"{long}\n{long} {OUT_OF_MEMORY}{long}")
    assert found(place) == [("broken", "cuda-out-of-memory")]
    assert sum(len(text) for _, text in read_log(place).kept) < 200_000


def test_a_compressed_log_that_is_cut_off_is_read_as_far_as_it_goes(write: Callable[[bytes], str]) -> None:
    packed = gzip.compress((OUT_OF_MEMORY + "".join(random.Random(1).choices("abcdef\n", k=50_000))).encode())
    assert found(write(packed[:-200])) == [("broken", "cuda-out-of-memory"), ("note", "log-cut")]


@pytest.mark.parametrize(
    "content", [random.Random(0).randbytes(100_000), b"\x7fELF\x02\x01\x01" + bytes(range(1, 32)) * 99]
)
def test_what_is_no_text_is_refused(content: bytes, write: Callable[[bytes], str]) -> None:
    with pytest.raises(RequestError, match="is no text"):
        main(["--log", write(content)])


def test_an_archive_is_refused_with_the_way_to_its_log(write: Callable[[bytes], str]) -> None:
    with pytest.raises(RequestError, match="inspect log dump"):
        main(["--log", write(b"PK\x03\x04 and so on")])


def test_a_request_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        main(["--log", str(tmp_path / "none.log")])
    with pytest.raises(RequestError, match="- for stdin"):
        main(["--log", str(tmp_path)])
    with pytest.raises(RequestError, match="expected one argument"):
        main(["--log"])
    with pytest.raises(RequestError, match="unrecognized"):
        main(["--log", "x", "train"])


def test_an_empty_log_is_told_as_such(write: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log", write("")]) == 0
    assert "empty" in capsys.readouterr().out


def test_stdin_is_read_and_json_answered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(OUT_OF_MEMORY.encode()))))
    assert main(["--log", "-", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["log"], told["lines"]) == ("stdin", 2)
    assert told["findings"][0]["id"] == "cuda-out-of-memory"
    assert told["findings"][0]["link"].startswith("https://github.com/")


def test_a_secret_in_the_line_is_masked(write: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    token = "hf_" + "aB3" * 12
    main(["--log", write(f"ValueError: the hub refused {token}\n")])
    assert token not in capsys.readouterr().out


LINES = st.sampled_from(
    [
        *NOISE,
        *(line + "\n" for thread in THREADS.values() for line in thread.split("\n")),
        " 12%|███       | 12/100 [10:12<12:00,  2.1it/s]\r",
        "{'loss': 1.2, 'grad_norm': 0.53}\n",
        "***** train metrics *****\n",
        "plain\n",
        "\n",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(LINES, st.integers(1, 25)), max_size=60))
def test_what_is_left_out_of_a_log_changes_no_explanation(parts: list[tuple[str, int]]) -> None:
    text = "".join(line * times for line, times in parts)
    log = Log()
    log_lines._Scan(log).read(text.encode())
    every, number = [], 1
    for piece in re.split(r"(\r|\n)", text):
        if piece == "\n":
            number += 1
        elif piece != "\r":
            every.append((number, piece))
    assert explain(log.kept) == explain(every)
