"""How servers end: asked to, refused before the start, killed, and without room for what they need."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from desk import READY_SECONDS, Desk, failure_of, left_of, told, until

from tuneyard.core.files import read_json_lines
from tuneyard.core.run_folder import find_run

pytestmark = pytest.mark.slow

KEY = "a-key-for-tests-0123456789"


@pytest.fixture
def templateless(tiny: Path, tmp_path: Path) -> Path:
    """A model without a chat template."""
    folder = Path(shutil.copytree(tiny, tmp_path / "plain, model=x"))
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_key_is_asked_for_everywhere_and_nothing_is_left_when_it_is_stopped(
    desk: Desk, templateless: Path, scratch: Path
) -> None:
    spec = desk.path / "plain.yaml"
    spec.write_text(json.dumps({"kind": "serve", "model": str(templateless), "served_name": "plain", "port": 0}))
    server = desk.serve(str(spec), "engine.max_model_len=256", env={"TUNEYARD_API_KEY": KEY, "TMPDIR": str(scratch)})
    assert [path for path in scratch.rglob("*") if path.is_socket()]

    # the key
    ready = told(server.run, "ready")[0]
    assert (ready["key"], ready["chat"]) == (True, False)
    stranger = openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    for path in ("/../metrics", "/../tokenize", "/../invocations"):
        with pytest.raises(Exception, match="wants an API key"):
            type(server)(server.run, key="wrong").ask(path)
    assert type(server)(server.run, key="wrong").ask("/../health") == ""
    assert KEY not in "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in processes(server.run))
    assert not [file for file in server.run.path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]
    refused = desk.yard("serve", "list", env={"TUNEYARD_API_KEY": "wrong"})
    assert "wants an API key" in refused.out

    # no chat template
    client = openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0)
    assert client.completions.create(model="plain", prompt="1", max_tokens=2).choices
    with pytest.raises(openai.BadRequestError, match="chat template"):
        client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "1"}])
    assert "no chat template" in told(server.run, "warning")[0]["message"]

    # adapters were not asked for
    nothing = desk.yard("serve", "add-adapter", server.run.id, templateless, env={"TUNEYARD_API_KEY": KEY})
    assert nothing.code == 2

    # the end, while somebody who never reads is being answered
    address = urlsplit(server.url)
    body = json.dumps({"model": "plain", "prompt": "1", "max_tokens": 200, "ignore_eos": True, "stream": True, "n": 8})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json"
    with socket.create_connection((address.hostname, address.port)) as deaf:
        deaf.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        assert desk.yard("serve", "stop", server.run.id).code == 0
    assert server.run.status().state == "cancelled"
    assert not [path for path in scratch.rglob("*") if path.is_socket()]
    assert left_of(server.run) == []
    with pytest.raises(OSError):
        socket.create_connection((address.hostname, address.port), timeout=1)


def processes(run) -> list[int]:
    from tuneyard.core.processes import processes_of

    found = processes_of(run.id)
    assert len(found) >= 4  # the worker, the server, the engine and its worker
    return found


def test_a_server_killed_under_load_ends_with_the_reason_and_a_generation_goes_on_at_the_next(
    desk: Desk, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"prompt": f"{n} + 1 ="}) + "\n" for n in range(ASKED)))
    served = ("model=builtin:tiny", "engine.max_model_len=256")
    server = desk.serve(*served, "port=0")
    asking = (f"dataset={questions}", f"endpoint=run:{server.run.id}", "max_tokens=16", "batch_size=8")
    started = desk.yard("run", "--kind", "generate", "--detach", "--json", *asking).json
    generation = find_run(desk.path / "runs", started["id"])
    assert until(lambda: rows_in(generation.responses_part) > 20, 120)

    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=60)
    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask_until_it_fails, client) for _ in range(8)]
        (engine,) = [p for p in processes(server.run) if b"VLLM::Worker" in Path(f"/proc/{p}/cmdline").read_bytes()]
        os.kill(engine, signal.SIGKILL)
        assert all(isinstance(one.result(), openai.InternalServerError | openai.APIConnectionError) for one in clients)
    assert until(lambda: server.run.status().ended, READY_SECONDS)
    assert server.run.status().state == "failed"
    assert "died" in failure_of(server.run)["message"]
    assert left_of(server.run) == []

    again = desk.serve(*served, f"port={urlsplit(server.url).port}")
    assert until(lambda: generation.status().ended, 240)
    if generation.status().state != "succeeded":  # this machine took longer than a generation waits for a server
        assert desk.yard("resume", generation.id).code == 0
    rows = [row for row, _ in read_json_lines(generation.responses)]
    assert [row["input"] for row in rows] == [*range(ASKED)]
    assert not any(row["error"] for row in rows)
    assert desk.yard("serve", "stop", again.run.id).code == 0


ASKED = 1500
"""Inputs of a generation: more than are answered by the time that its server is killed."""


def rows_in(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def ask_until_it_fails(client: openai.OpenAI) -> Exception:
    """What a client is told that asks on and on."""
    while True:
        try:
            client.completions.create(model="builtin:tiny", prompt="1", max_tokens=64)
        except openai.APIError as error:
            return error


def test_a_worker_that_is_killed_leaves_nothing(desk: Desk) -> None:
    run = desk.start("model=builtin:tiny", "port=0")
    assert until(lambda: len(told(run, "started")) == 1, 60)
    assert until(lambda: any(b"VLLM::" in _cmdline(p) for p in _all_of(run)), 120)
    os.kill(told(run, "started")[0]["pid"], signal.SIGKILL)
    assert until(lambda: run.status().ended, READY_SECONDS)
    assert left_of(run) == []


def _all_of(run) -> list[int]:
    from tuneyard.core.processes import processes_of

    return processes_of(run.id)


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_no_room_for_the_cache_is_told_with_the_settings_that_need_less(desk: Desk) -> None:
    run = desk.start("model=builtin:tiny", "port=0", "engine.kv_cache_memory_bytes=4096")
    assert until(lambda: run.status().ended, READY_SECONDS)
    failure = failure_of(run)
    assert "cache" in failure["message"]
    assert "VLLM_CPU_KVCACHE_SPACE" in failure["way_out"]
    assert "max_model_len" in failure["way_out"]
    assert left_of(run) == []


def test_what_vllms_own_parser_refuses_ends_the_run_before_the_model_is_loaded(desk: Desk) -> None:
    run = desk.start("model=builtin:tiny", "port=0", "engine.max_model_len=many")
    assert until(lambda: run.status().ended, READY_SECONDS)
    failure = failure_of(run)
    assert failure["kind"] == "request"
    assert "--max-model-len" in failure["message"]
    assert "Loading" not in run.attempt(1).stderr.read_text()


def test_a_model_that_lets_a_part_of_an_adapter_lie_is_refused_before_it_is_loaded(desk: Desk, low: str) -> None:
    towers = "engine.enable_tower_connector_lora=true"
    run = desk.start("model=builtin:tiny", f"adapters=[run:{low}]", "port=0", towers)
    assert until(lambda: run.status().ended, READY_SECONDS)
    failure = failure_of(run)
    assert failure["kind"] == "request"
    assert "language model alone" in failure["message"] and "merge=true" in failure["way_out"]
    assert "Loading" not in run.attempt(1).stderr.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model=no/where",), "hub"),
        (("engine.max_model_lenn=3",), "max_model_len"),
        (("engine.dtype=half4",), "half"),
        (("engine.api_key=x",), "must not stand in a spec"),
        (("engine.port=1",), "use port"),
        (("host=0.0.0.0",), "TUNEYARD_API_KEY"),
        (("port=70000",), "65535"),
        (("engine.tensor_parallel_size=2", "gpus=1"), "takes 2"),
        (("adapters=[builtin:tiny]",), "adapter"),
    ],
)
def test_bad_requests_are_refused_before_anything_starts(desk: Desk, words: tuple[str, ...], said: str) -> None:
    given = words if words[0].startswith("model=") else ("model=builtin:tiny", *words)
    before = len(list((desk.path / "runs").glob("serve-*")))
    done = desk.yard("run", "--kind", "serve", "port=0" if "port" not in words[0] else given[0], *given)
    assert done.code in (2, 3)
    assert said in done.err
    assert len(list((desk.path / "runs").glob("serve-*"))) == before


def test_without_a_spec_the_newest_trained_model_is_served(desk: Desk, low: str, high: str) -> None:
    done = desk.yard("run", "--kind", "serve", "port=0", "--dry-run", "--json")
    assert done.code == 0, done.err
    spec = done.json["spec"]
    assert spec["model"]["reference"] == "builtin:tiny" or spec["model"]["path"]
    assert next(iter(spec["adapters"])) in (low, high)
    assert "--lora-modules" in done.json["library"]["command"]
