"""What is decided of a server before it starts, and asking one that runs: a small one of the standard library."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tuneyard.control.endpoints import KEY_VARIABLE, check_address, find_endpoint, is_loopback, served_url
from tuneyard.control.resolving.hub import Hub
from tuneyard.control.resolving.model_files import beyond_text
from tuneyard.control.resolving.vllm import TOWERS, rank_of, resolve_adapters, serving_devices
from tuneyard.control.servers import Served, check_rank, check_towers, known, running
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, RunError
from tuneyard.core.files import append_line, write_json
from tuneyard.core.references import ModelRef
from tuneyard.core.run_folder import Attempt, RunFolder, create_run


class Small(BaseHTTPRequestHandler):
    """Answers as vLLM does, as far as it is asked here."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.server.key}":  # type: ignore[attr-defined]
            self._say(401, {"error": {"message": "no"}})
        elif self.path == "/v1/models":
            self._say(200, {"data": [{"id": name} for name in self.server.names]})  # type: ignore[attr-defined]
        else:
            self._say(404, "nothing here")

    def do_POST(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        names: list[str] = self.server.names  # type: ignore[attr-defined]
        if self.path == "/v1/load_lora_adapter":
            names.append(data["lora_name"])
            self._say(200, "Success")
        elif self.path == "/v1/unload_lora_adapter":
            names.remove(data["lora_name"])
            self._say(200, "Success")
        elif self.path == "/tokenize":
            self._say(200, {"tokens": [1, 2, 3] if "prompt" in data else [4, 5]})
        else:
            self._say(400, {"error": {"message": "a prompt that is too long"}})

    def _say(self, status: int, answer: Any) -> None:
        body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Small)
    server.names = ["base"]  # type: ignore[attr-defined]
    server.key = "none"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that serves a folder's model, and takes adapters of rank 16 at most."""
    run = create_run(tmp_path / "runs", "serve", "small")
    model = {"reference": "owner/base"}
    engine = {"enable_lora": True, "max_lora_rank": 16}
    write_json(run.spec, {"kind": "serve", "model": model, "served_name": "base", "adapters": {}, "engine": engine})
    return run


@pytest.fixture
def server(small: ThreadingHTTPServer, run: RunFolder) -> Served:
    return Served(run, f"http://127.0.0.1:{small.server_address[1]}/v1")


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub({"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")})


def adapter(folder: Path, weights: Sequence[str] = (), **config: Any) -> Path:
    """An adapter's folder whose weights are the names of some alone."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 8, "base_model_name_or_path": "owner/base", **config})
    )
    tensors = {name: {"dtype": "F32", "shape": [8, 8], "data_offsets": [0, 0]} for name in weights}
    header = json.dumps({"__metadata__": {}, **tensors}).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


# Before it starts


@pytest.mark.parametrize(
    ("config", "rank"),
    [({"r": 1}, 1), ({"r": 24}, 24), ({"r": 8, "rank_pattern": {"q_proj": 40}}, 40), ({"r": 512}, 512)],
)
def test_the_rank_of_an_adapter_is_its_highest(tmp_path: Path, config: dict[str, Any], rank: int) -> None:
    assert rank_of(adapter(tmp_path / "a", **config), "adapters.a") == rank


@pytest.mark.parametrize(
    ("config", "said"),
    [({"r": 1024}, "1024"), ({"r": 0}, "0"), ({"use_dora": True}, "DoRA"), ({"peft_type": "IA3"}, "IA3")],
)
def test_adapters_that_would_end_the_server_are_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        rank_of(adapter(tmp_path / "a", **config), "adapters.a")
    assert refused.value.where == "adapters.a"


LANGUAGE = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
TOWER = "base_model.model.model.visual.blocks.0.attn.qkv.lora_A.weight"


def test_vllm_is_told_of_adapters_that_reach_beyond_the_language_model(tmp_path: Path, hub: Hub) -> None:
    text = adapter(tmp_path / "text", [LANGUAGE], r=24)
    whole = adapter(tmp_path / "whole", [LANGUAGE, TOWER])
    model = ModelRef(reference="owner/base")
    asked = {"text": ModelRef(reference=str(text)), "whole": ModelRef(reference=str(whole))}
    _, room = resolve_adapters({"text": asked["text"]}, model, tmp_path, hub)
    assert room == {"enable_lora": True, "max_lora_rank": 32, "max_loras": 1}
    _, room = resolve_adapters(asked, model, tmp_path, hub)
    assert room == {"enable_lora": True, "max_lora_rank": 32, "max_loras": 2, TOWERS: True}
    assert resolve_adapters({}, model, tmp_path, hub) == ({}, {})


@pytest.mark.parametrize(
    ("module", "beyond"),
    [
        ("model.layers.0.self_attn.q_proj", False),
        ("model.layers.0.self_attn.vision_expert_query_key_value", False),
        ("language_model.model.layers.0.mlp.down_proj", False),
        ("model.visual.merger.mlp.0", True),
        ("vision_tower.vision_model.encoder.layers.0.self_attn.k_proj", True),
        ("multi_modal_projector.linear_1", True),
        ("thinker.audio_tower.layers.0.fc1", True),
        ("model.connector.modality_projection.proj", True),
    ],
)
def test_what_lies_beyond_the_language_model_is_known_by_its_name(tmp_path: Path, module: str, beyond: bool) -> None:
    folder = adapter(tmp_path / "a", [f"base_model.model.{module}.lora_A.weight"])
    assert beyond_text(folder) == (module if beyond else None)


def test_parallel_sizes_multiply_to_the_devices() -> None:
    sizes = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "data_parallel_size": 2}
    assert serving_devices(sizes, None) == 8
    assert serving_devices({"tensor_parallel_size": 2}, 0) == 0  # without a GPU they are processes
    assert serving_devices({}, None) is None
    with pytest.raises(RequestError, match="takes 4"):
        serving_devices({"tensor_parallel_size": 2, "data_parallel_size": 2}, 1)


def test_a_port_in_use_is_refused_and_a_free_one_found() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(RequestError, match="cannot be listened on"):
            check_address("127.0.0.1", other.getsockname()[1])
    assert check_address("127.0.0.1", 0) > 0


def test_an_open_address_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(RequestError, match="no API key"):
        check_address("0.0.0.0", 0)
    monkeypatch.setenv(KEY_VARIABLE, "x")
    assert check_address("0.0.0.0", 0) > 0
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("text", ["127.0.0.1:8000", "ftp://x", "http://", "http://user:pass@x/v1", "http://x/v1?key=1"])
def test_what_is_no_address_of_a_server_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        find_endpoint(text, tmp_path)


def test_an_address_gets_its_v1(tmp_path: Path) -> None:
    assert (
        find_endpoint("http://x:1/", tmp_path).url == find_endpoint("http://x:1/v1/", tmp_path).url == "http://x:1/v1"
    )


def test_a_run_is_an_address_once_it_is_ready(run: RunFolder) -> None:
    attempt = run.new_attempt()
    with pytest.raises(RequestError, match="not ready yet"):
        served_url(run)
    tell_ready(attempt, "http://127.0.0.1:1/v1")
    with supervised(attempt):
        assert served_url(run) == "http://127.0.0.1:1/v1"
        assert find_endpoint(f"run:{run.id}", run.path.parent).run == run.id


# Asking one that runs


def test_names_come_from_the_server_itself(server: Served) -> None:
    assert server.names() == ["base"]


def test_an_adapter_is_added_and_removed(server: Served, hub: Hub, tmp_path: Path) -> None:
    reference = ModelRef(reference=str(adapter(tmp_path / "mine")))
    assert server.add_adapter(reference, hub) == "mine"
    assert server.names() == ["base", "mine"]
    with pytest.raises(RequestError, match="already answers"):
        server.add_adapter(reference, hub)
    server.remove_adapter("mine")
    assert server.names() == ["base"]
    for name in ("mine", "base"):
        with pytest.raises(RequestError):
            server.remove_adapter(name)


def test_an_adapter_trained_on_other_tokens_is_refused(server: Served, hub: Hub) -> None:
    trained = trained_run(server.run.path.parent, text_ids=[1, 2, 9])
    reference = ModelRef(reference=f"run:{trained.id}")
    with pytest.raises(RequestError, match="the first difference is token 2"):
        server.add_adapter(reference, hub)
    assert server.add_adapter(reference, hub, allow_token_mismatch=True) == trained.id


def test_an_adapter_trained_on_the_same_tokens_is_taken(server: Served, hub: Hub) -> None:
    trained = trained_run(server.run.path.parent, text_ids=[1, 2, 3])
    assert server.add_adapter(ModelRef(reference=f"run:{trained.id}"), hub) == trained.id


def trained_run(runs: Path, text_ids: list[int]) -> RunFolder:
    """A training that left an adapter, and the fingerprint of its tokens."""
    run = create_run(runs, "train", "a")
    write_json(run.spec, {"kind": "train"})
    adapter(run.adapter)
    found = {"worker": "train", "tokenizer_class": "T", "vocabulary_size": 9, "text_ids": text_ids}
    write_json(run.fingerprint, {**found, "conversation_ids": [4, 5], "chat": True})
    attempt = run.new_attempt()
    times = {"started": "2026-11-21T00:00:00Z", "ended": "2026-11-21T00:00:01Z", "seconds": 1.0}
    write_json(attempt.result, {"run": run.id, "attempt": attempt.number, "status": "succeeded", **times})
    return run


def test_a_rank_that_the_server_was_not_started_for_is_refused_with_the_settings_that_take_it() -> None:
    check_rank({"enable_lora": True, "max_lora_rank": 32}, 24, "run")
    with pytest.raises(RequestError) as refused:
        check_rank({"enable_lora": True}, 24, "run")
    assert "engine.max_lora_rank=32" in str(refused.value.way_out)
    with pytest.raises(RequestError, match="without adapters"):
        check_rank({}, 8, "run")


def test_a_running_server_takes_no_adapter_of_which_it_would_leave_out_a_part(
    server: Served, hub: Hub, tmp_path: Path
) -> None:
    whole, text = adapter(tmp_path / "whole", [LANGUAGE, TOWER]), adapter(tmp_path / "text", [LANGUAGE])
    check_towers({}, text, "run")
    check_towers({TOWERS: True}, whole, "run")
    with pytest.raises(RequestError, match="qkv too, and run takes") as refused:
        check_towers({}, whole, "run")
    assert TOWERS in str(refused.value.way_out)
    with pytest.raises(RequestError, match="qkv too, and"):
        server.add_adapter(ModelRef(reference=str(whole)), hub)
    assert server.names() == ["base"]


def test_what_the_server_refuses_is_told_in_its_words(server: Served) -> None:
    with pytest.raises(RequestError, match="a prompt that is too long"):
        server.ask("/completions", {})
    with pytest.raises(RequestError, match="nothing here"):
        server.ask("/nothing")


def test_a_server_that_does_not_answer_is_no_wrong_request(run: RunFolder) -> None:
    with pytest.raises(RunError, match="does not answer"):
        Served(run, "http://127.0.0.1:9/v1").names()


def test_its_key_comes_from_the_variable(
    server: Served, small: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.key = "secret"  # type: ignore[attr-defined]
    with pytest.raises(RequestError, match=KEY_VARIABLE):
        server.names()
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    assert Served(server.run, server.url).names() == ["base"]


def test_no_proxy_stands_between(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert server.names() == ["base"]


def test_servers_are_listed_with_their_names_while_they_run(
    server: Served, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    workspace = Workspace(tmp_path)
    attempt = run.new_attempt()
    with supervised(attempt):
        assert known(workspace) == [{"id": run.id, "state": "running", "url": None}]
        tell_ready(attempt, server.url)
        assert running(workspace) == [{"id": run.id, "state": "running", "url": server.url, "names": ["base"]}]
    assert known(workspace) == []


def test_the_fingerprint_is_what_the_server_answers(server: Served) -> None:
    found = server.fingerprint()
    assert (found.text_ids, found.conversation_ids) == ([1, 2, 3], [4, 5])


def tell_ready(attempt: Attempt, url: str) -> None:
    append_line(attempt.events, json.dumps({"time": "2026-11-21T00:00:00Z", "event": "ready", "url": url}))


class supervised:
    """Holds an attempt as its supervisor does, inside a `with` block."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt

    def __enter__(self) -> None:
        from tuneyard.control.record import claim

        self.record = claim(self.attempt)
        assert self.record is not None
        self.record.phase("running")

    def __exit__(self, *_: object) -> None:
        assert self.record is not None
        self.record.close()
