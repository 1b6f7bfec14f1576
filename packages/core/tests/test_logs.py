"""What is shown of a log: its end, without secrets, with the likely cause."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import RequestError
from tuneyard.core.failures import failure_from_exception, failure_from_exit, log_tail
from tuneyard.core.masking import MASK, mask_secrets
from tuneyard.core.run_folder import Attempt
from tuneyard.core.signatures import SIGNATURES, likely_cause

TOKEN = "hf_" + "aB3" * 12


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    folder = tmp_path / "attempts" / "1"
    folder.mkdir(parents=True)
    return Attempt(folder)


@pytest.mark.parametrize(
    "line",
    [
        f"using {TOKEN} for the hub",
        "OPENAI_API_KEY=sk-proj-abcdefghijklmnop1234",
        "Authorization: Bearer abcdefgh12345678",
        '{"hf_token": "s3cr3ts3cr3t"}',
        "password: correct-horse-battery",
    ],
)
def test_a_secret_is_masked(line: str) -> None:
    masked = mask_secrets(line, {})
    assert MASK in masked
    for secret in (TOKEN, "sk-proj-abc", "abcdefgh12345678", "s3cr3ts3cr3t", "correct-horse"):
        assert secret not in masked


@pytest.mark.parametrize(
    "line", ["loss: 0.1234", "tokens: 12345678", "eos_token: <|im_end|>", "num_input_tokens_seen: 123456789"]
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert mask_secrets(line, {}) == line


@given(st.text(), st.text(alphabet="abcdefgh0123", min_size=8), st.text())
def test_the_value_of_a_secret_variable_never_gets_through(before: str, secret: str, after: str) -> None:
    assert secret not in mask_secrets(f"{before}{secret}{after}", {"MY_TOKEN": secret}).replace(MASK, "")


def test_the_tail_of_a_log_has_no_colours_no_rewritten_bars_and_no_secrets(attempt: Attempt) -> None:
    attempt.stderr.write_text(f"first\n\x1b[31mred\x1b[0m {TOKEN}\n 1%|\r 50%|\r100%|\nlast\n\n")
    assert log_tail(attempt.stderr) == ["first", f"red {MASK}", "100%|", "last"]


def test_a_secret_is_masked_behind_a_colour_and_where_the_tail_begins(attempt: Attempt) -> None:
    attempt.stderr.write_text(f"\x1b[31m{TOKEN}\x1b[0m\n")
    assert log_tail(attempt.stderr) == [MASK]
    for kept in range(8, len(TOKEN)):
        attempt.stderr.write_text(f"token {TOKEN} " + "x" * (64 * 1024 - kept - 1))
        [line] = log_tail(attempt.stderr)
        assert TOKEN[-kept:] not in line
        assert line.endswith("xxx")


def test_the_tail_of_a_huge_binary_line_is_short(attempt: Attempt) -> None:
    attempt.stderr.write_bytes(b"\xff\x00" * 5_000_000 + b"\nthe end")
    tail = log_tail(attempt.stderr)
    assert tail[-1] == "the end"
    assert sum(map(len, tail)) < 5_000


def test_the_last_error_wins_over_the_noise_before_it() -> None:
    log = "No module named 'flash_attn'\n" * 3 + "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB"
    found = likely_cause(log)
    assert found is not None and found.id == "cuda-out-of-memory"
    assert likely_cause("{'loss': 2.31, 'learning_rate': 1e-4}\nall is well") is None


def test_every_signature_has_a_name_of_its_own_and_a_way_out() -> None:
    assert len({s.id for s in SIGNATURES}) == len(SIGNATURES)
    assert all(s.cause and s.way_out for s in SIGNATURES)


def test_a_failure_carries_the_reason_the_log_and_the_way_out(attempt: Attempt) -> None:
    attempt.stderr.write_text("OSError: [Errno 28] No space left on device\n")
    failure = failure_from_exit(1, attempt)
    assert (failure.kind, failure.exit_code, failure.cause) == ("exit_code", 1, "a disk is full")
    assert failure.log_tail == ["OSError: [Errno 28] No space left on device"]
    assert failure.logs == ["attempts/1/stdout.log", "attempts/1/stderr.log"]
    assert "yard rm" in (failure.way_out or "")


def test_a_signal_is_named_and_the_kernels_kill_for_memory_told_apart(attempt: Attempt) -> None:
    assert failure_from_exit(-9, attempt).signal == "SIGKILL"
    assert failure_from_exit(-9, attempt, out_of_memory=True).kind == "out_of_memory"


def test_an_error_of_ours_keeps_its_way_out(attempt: Attempt) -> None:
    failure = failure_from_exception(RequestError("no such file", where="x.py", way_out="make it"), attempt)
    assert (failure.kind, failure.where, failure.way_out) == ("request", "x.py", "make it")
