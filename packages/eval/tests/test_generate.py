"""Generation by a server and by transformers: every input once and in order, whatever happens to worker or server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from eval_runs import lines
from generations import free_port, generate_here, new_generation, served
from model_folders import write_adapter

from tuneyard.core.run_folder import RunFolder
from tuneyard.eval import generate_endpoint


def questions(count: int) -> list[dict[str, Any]]:
    return [{"id": f"id {n}", "prompt": f"question {n}", "target": str(n)} for n in range(count)]


def worker(run: RunFolder) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tuneyard.eval", "run", str(run.path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after(run: RunFolder, more: int) -> None:
    """Start the worker and kill it as soon as so many more rows are there."""
    size = rows_so_far(run)
    process = worker(run)
    try:
        for _ in range(6000):
            if rows_so_far(run) >= size + more:
                break
            assert process.poll() is None, "the worker ended before it was killed"
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run.new_attempt()


def rows_so_far(run: RunFolder) -> int:
    return run.responses_part.read_bytes().count(b"\n") if run.responses_part.exists() else 0


def test_2000_inputs_killed_ten_times_end_with_2000_rows_each_once(tmp_path: Path) -> None:
    log = tmp_path / "asked"
    with served(log=log) as url:
        run = new_generation(tmp_path / "runs", questions(2000), endpoint=url, batch_size=16)
        for _ in range(10):
            kill_after(run, 120)
        outcome, rows = generate_here(run)
    assert outcome.metrics["rows"]["value"] == 2000 and outcome.metrics["errors"]["value"] == 0
    assert [row["input"] for row in rows] == [*range(2000)]
    assert all(row["response"] == row["prompt"][::-1] and row["id"] == f"id {row['input']}" for row in rows)
    asked = [line["messages"][-1]["content"] for line in lines(log)]
    assert set(asked) == {f"question {n}" for n in range(2000)}
    assert len(asked) <= 2000 + 10 * 16  # but for what was under way when it was killed, nothing was asked twice
    assert not run.responses_part.exists()


def test_progress_and_samples_are_told_on_the_way(tmp_path: Path) -> None:
    with served(delay=0.05) as url:
        run = new_generation(tmp_path / "runs", questions(60), endpoint=url, batch_size=2)
        outcome, _ = generate_here(run)
    told = outcome.events("progress")
    assert len(told) >= 2 and told[-1]["step"] == told[-1]["total"] == 60
    assert told[0]["phase"] == "generating" and told[0]["eta"] > 0 and told[0]["prompts_per_second"] > 0
    assert outcome.events("sample")[0]["response"] == outcome.events("sample")[0]["prompt"][::-1]


def test_a_refused_input_is_a_row_with_its_error(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "refuse me"}, {"prompt": "b"}]
    with served() as url:
        outcome, found = generate_here(new_generation(tmp_path / "runs", rows, endpoint=url, n=2))
    assert [(r["input"], r["sample"], r["response"]) for r in found] == [
        (0, 0, "a"), (0, 1, "a"), (1, 0, None), (1, 1, None), (2, 0, "b"), (2, 1, "b"),
    ]  # fmt: skip
    assert found[2]["error"] == "this prompt is refused" and outcome.metrics["errors"]["value"] == 2


def test_a_run_of_which_nothing_is_answered_failed(tmp_path: Path) -> None:
    with served() as url:
        outcome, found = generate_here(new_generation(tmp_path / "runs", [{"prompt": "refuse me"}], endpoint=url))
    assert "every input failed; the first: this prompt is refused" in outcome.failure["message"]
    assert len(found) == 1


def test_a_server_killed_under_load_ends_the_run_and_resume_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate_endpoint, "PATIENCE", 2.0)
    port, log = free_port(), tmp_path / "asked"
    with served(port, log=log, die_after=50) as url:
        run = new_generation(tmp_path / "runs", questions(200), endpoint=url, batch_size=8)
        outcome, rows = generate_here(run)
    assert f"yard resume {run.id}" in outcome.failure["way_out"] and not rows
    kept = rows_so_far(run)
    assert 0 < kept <= 50
    run.new_attempt()
    with served(port, log=log):
        outcome, rows = generate_here(run)
    assert [row["input"] for row in rows] == [*range(200)] and outcome.metrics["errors"]["value"] == 0


def test_a_server_that_comes_back_in_time_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    with served(port, die_after=20) as url:
        run = new_generation(tmp_path / "runs", questions(60), endpoint=url, batch_size=4)
        process = worker(run)
        while rows_so_far(run) < 16:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1)
    with served(port):
        assert process.wait(120) == 0
    rows = lines(run.responses)
    assert [row["input"] for row in rows] == [*range(60)] and not any(row["error"] for row in rows)


@pytest.mark.parametrize(
    ("options", "spec", "kind", "words"),
    [
        ({"key": "secret"}, {}, "setup", "refuses the key"),
        ({"names": "a,b"}, {}, "request", "serves a, b, and none is named"),
        ({"names": "a,b"}, {"endpoint_model": "c"}, "request", "has no 'c'"),
        ({"names": "a,b"}, {"adapters": {"a": "run:x", "d": "run:y"}}, "request", "has no adapter 'd'"),
    ],
)
def test_a_server_that_cannot_be_asked_is_told_at_once(
    tmp_path: Path, options: dict[str, Any], spec: dict[str, Any], kind: str, words: str
) -> None:
    with served(**options) as url:
        outcome, _ = generate_here(new_generation(tmp_path / "runs", questions(2), endpoint=url, **spec))
    assert outcome.failure["kind"] == kind and words in outcome.failure["message"] and outcome.failure["way_out"]


def test_nothing_that_answers_is_told_at_once(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    outcome, _ = generate_here(new_generation(tmp_path / "runs", questions(2), endpoint=url))
    assert outcome.failure["kind"] == "setup" and "no server answers" in outcome.failure["message"]


def test_the_key_is_sent_and_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_API_KEY", "ty-secret-key-12345")
    with served(key="ty-secret-key-12345") as url:
        run = new_generation(tmp_path / "runs", questions(3), endpoint=url)
        _, rows = generate_here(run)
    assert len(rows) == 3
    assert not any(b"ty-secret" in file.read_bytes() for file in run.path.rglob("*") if file.is_file())


def test_adapters_are_asked_by_name_each_for_every_input(tmp_path: Path) -> None:
    log = tmp_path / "asked"
    with served(names="base,one,two", log=log) as url:
        adapters = {"one": "run:a", "two": "run:b"}
        _, rows = generate_here(new_generation(tmp_path / "runs", questions(3), endpoint=url, adapters=adapters))
    assert [(r["input"], r["adapter"]) for r in rows] == [(n, a) for n in range(3) for a in ("one", "two")]
    assert sorted(line["model"] for line in lines(log)) == ["one"] * 3 + ["two"] * 3


def test_a_server_that_ignores_the_form_of_answers_is_found_out(tmp_path: Path) -> None:
    with served() as url:
        choice = {"structured": {"choice": ["ba"]}}
        _, rows = generate_here(
            new_generation(tmp_path / "runs", [{"prompt": "ab"}, {"prompt": "xy"}], endpoint=url, **choice)
        )
    assert rows[0]["response"] == "ba" and "did not keep to the form" in rows[1]["error"]


def test_a_known_model_is_sent_ids_and_answers_as_in_process(tmp_path: Path, tiny: Path) -> None:
    model = {"reference": "builtin:tiny", "path": str(tiny)}
    rows, log = [{"prompt": f"Add {n} and 7."} for n in range(6)], tmp_path / "asked"
    long = {"prompt": "x" * 20_000}  # longer than tiny's own context, and than what the server says is its
    here, there = {"backend": "transformers", "batch_size": 4}, {"batch_size": 3}
    with served(model=tiny, context=256, log=log) as url:
        common = {"model": model, "max_tokens": 12}
        _, asked = generate_here(new_generation(tmp_path / "runs", [*rows, long], endpoint=url, **there, **common))
    outcome, computed = generate_here(new_generation(tmp_path / "runs", [*rows, long], **here, **common))
    assert [r["response"] for r in asked] == [r["response"] for r in computed]
    assert [r["prompt_tokens"] for r in asked] == [r["prompt_tokens"] for r in computed]
    assert all(isinstance(line["prompt"][0], int) for line in lines(log))
    assert "tokens, and the model's context is 256" in asked[-1]["error"] and "context is" in computed[-1]["error"]
    assert outcome.metrics["errors"]["value"] == 1


def test_transformers_answers_for_every_adapter_and_sample(tmp_path: Path, tiny: Path) -> None:
    adapter = write_adapter(tiny, tmp_path / "adapter")
    spec = {"model": {"reference": "builtin:tiny", "path": str(tiny)}, "backend": "transformers", "max_tokens": 8}
    rows = [{"prompt": f"Say {n}."} for n in range(3)]
    bare, alone = generate_here(new_generation(tmp_path / "runs", rows, **spec))
    adapters = {"mine": {"reference": str(adapter), "path": str(adapter)}}
    both = {"adapters": adapters, "n": 2, "temperature": 0.9}
    _, adapted = generate_here(new_generation(tmp_path / "runs", rows, **spec, adapters=adapters))
    _, sampled = generate_here(new_generation(tmp_path / "runs", rows, **spec, **both))
    _, again = generate_here(new_generation(tmp_path / "runs", rows, **spec, **both))
    assert bare.metrics["tokens_per_second"]["value"] > 0
    assert [r["response"] for r in alone] != [r["response"] for r in adapted]
    assert [(r["input"], r["sample"]) for r in sampled] == [(n, k) for n in range(3) for k in range(2)]
    assert [r["response"] for r in sampled] == [r["response"] for r in again]


def test_transformers_that_is_killed_goes_on_where_it_was(tmp_path: Path, tiny: Path) -> None:
    spec = {"model": {"reference": "builtin:tiny", "path": str(tiny)}, "backend": "transformers", "max_tokens": 24}
    rows = [{"prompt": f"Say {n}."} for n in range(40)]
    run = new_generation(tmp_path / "runs", rows, batch_size=2, **spec)
    kill_after(run, 4)
    kill_after(run, 4)
    kept = rows_so_far(run)
    _, found = generate_here(run)
    _, whole = generate_here(new_generation(tmp_path / "runs", rows, batch_size=2, **spec))
    assert kept >= 8 and [r["input"] for r in found] == [*range(40)]
    assert [r["response"] for r in found] == [r["response"] for r in whole]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"structured": {"choice": ["a"]}}, "cannot keep answers to a form"),
        ({"n": 2}, "would all be the same"),
        ({"engine": {"max_new_token": 3}}, "unknown key"),
    ],
)
def test_transformers_says_what_it_cannot_do(tmp_path: Path, tiny: Path, spec: dict[str, Any], words: str) -> None:
    model = {"reference": "builtin:tiny", "path": str(tiny)}
    run = new_generation(tmp_path / "runs", questions(2), model=model, backend="transformers", **spec)
    outcome, _ = generate_here(run)
    assert outcome.failure["kind"] == "request" and words in outcome.failure["message"]
