"""The hub is asked once, answers or does not, and is not asked at all where nothing needs it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tuneyard.control.resolving.hub import PROBE_SECONDS, Hub, hub_of
from tuneyard.control.resolving.models import resolve_adapter
from tuneyard.control.resolving.resolve import resolve
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.references import ModelRef

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Small(BaseHTTPRequestHandler):
    """As much of the hub's interface as naming a commit takes."""

    asked: list[tuple[str, str | None]]
    answers: dict[str, tuple[int, Any]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        code, value = self.answers.get(self.path, (404, {"error": "Repository not found"}))
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Small]]:
    """A hub on this machine; the variables of this process name it."""
    handler = type("Handler", (Small,), {"asked": [], "answers": {"/api/models?limit=1": (200, [])}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    yield handler
    server.shutdown()
    server.server_close()


def hub(tmp_path: Path, **variables: str) -> Hub:
    endpoint = os.environ.get("HF_ENDPOINT", "http://127.0.0.1:9")
    return Hub({"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), **variables})


def cache(tmp_path: Path, name: str, commit: str = COMMIT) -> Path:
    """A repository in the hub's cache, as its client leaves it."""
    repository = tmp_path / "hf" / "hub" / name
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return snapshot


def test_a_name_is_frozen_to_its_commit(small: type[Small], tmp_path: Path) -> None:
    small.answers["/api/models/owner/name/revision/main"] = (200, {"sha": COMMIT})
    small.answers["/api/datasets/owner/name/revision/refs%2Fpr%2F1"] = (200, {"sha": COMMIT[::-1]})
    found = hub(tmp_path)
    assert found.freeze("models", "owner/name", None, "model") == COMMIT
    assert found.freeze("datasets", "owner/name", "refs/pr/1", "dataset") == COMMIT[::-1]
    assert [path for path, _ in small.asked].count("/api/models?limit=1") == 1


def test_the_token_is_sent_and_never_told(small: type[Small], tmp_path: Path) -> None:
    small.answers["/api/models/owner/gated/revision/main"] = (403, {"error": "gated"})
    with pytest.raises(RequestError) as refused:
        hub(tmp_path, HF_TOKEN="hf_secret").freeze("models", "owner/gated", None, "model")
    assert small.asked[-1][1] == "Bearer hf_secret"
    assert "HTTP 403" in str(refused.value) and "HF_TOKEN" in str(refused.value)
    assert "hf_secret" not in str(refused.value)


def test_the_token_that_was_logged_in_with_is_found(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("hf_from_file\n")
    assert hub(tmp_path).token == "hf_from_file"
    assert hub(tmp_path, HF_TOKEN="hf_from_variable").token == "hf_from_variable"


def test_a_name_that_does_not_exist_is_refused(small: type[Small], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no model 'owner/nmae'"):
        hub(tmp_path).freeze("models", "owner/nmae", None, "model")


def test_a_hub_in_trouble_leaves_the_cache(small: type[Small], tmp_path: Path) -> None:
    small.answers["/api/models/owner/name/revision/main"] = (503, {})
    cache(tmp_path, "models--owner--name")
    assert hub(tmp_path).freeze("models", "owner/name", None, "model") == COMMIT


@pytest.mark.parametrize("code", [407, 502, 504])
def test_a_proxy_that_answers_in_its_place_is_no_hub(small: type[Small], tmp_path: Path, code: int) -> None:
    small.answers["/api/models?limit=1"] = (code, {})
    assert not hub(tmp_path).reachable


def test_a_hub_that_asks_who_is_there_is_reachable(small: type[Small], tmp_path: Path) -> None:
    small.answers["/api/models?limit=1"] = (401, {})
    assert hub(tmp_path).reachable


def test_one_that_never_answers_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert not hub(tmp_path).reachable
        assert time.monotonic() - start < PROBE_SECONDS + 2


def test_without_a_hub_the_cache_tells_the_commit(tmp_path: Path) -> None:
    snapshot = cache(tmp_path, "datasets--owner--name")
    found = hub(tmp_path)
    assert found.freeze("datasets", "owner/name", None, "dataset") == COMMIT
    assert found.freeze("datasets", "owner/name", COMMIT, "dataset") == COMMIT
    assert found.cached("datasets", "owner/name") == snapshot
    assert found.cached("datasets", "owner/name", "v2") is None
    assert found.cached("models", "owner/name") is None


@pytest.mark.parametrize(
    ("variables", "why"), [({}, "no answer within 3 s"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE")]
)
def test_without_hub_and_cache_there_are_three_ways_out(tmp_path: Path, variables: dict[str, str], why: str) -> None:
    with pytest.raises(SetupError) as refused:
        hub(tmp_path, **variables).freeze("models", "owner/name", None, "model")
    said = str(refused.value)
    assert refused.value.exit_code == 3 and why in said and "owner/name is not in its cache" in said
    assert "(1) give a local folder" in said and "(2)" in said and "HF_HOME" in said and "(3) set HF_ENDPOINT" in said


def test_offline_by_choice_is_not_asked(small: type[Small], tmp_path: Path) -> None:
    assert not hub(tmp_path, HF_HUB_OFFLINE="1").reachable
    assert small.asked == []


def test_the_settings_of_the_workspace_name_the_hub(tmp_path: Path) -> None:
    (tmp_path / "tuneyard.yaml").write_text("hub: {endpoint: 'https://mirror.example/', cache: caches/hf}\n")
    found = hub_of(Workspace(tmp_path))
    assert found.endpoint == "https://mirror.example"
    assert found.cache == tmp_path / "caches" / "hf" / "hub"


def test_an_adapter_is_downloaded_at_its_commit_and_then_in_the_cache(small: type[Small], tmp_path: Path) -> None:
    files = {"adapter_config.json": b'{"base_model_name_or_path": "owner/base"}', "adapter_model.safetensors": b"x" * 9}
    siblings = [{"rfilename": name} for name in (*files, "training.log")]
    answer = {"id": "owner/adapter", "modelId": "owner/adapter", "sha": COMMIT, "siblings": siblings, "private": False}
    for revision in ("main", COMMIT):
        small.answers[f"/api/models/owner/adapter/revision/{revision}"] = (200, answer)
    tree = [{"type": "file", "path": entry["rfilename"], "size": 9, "oid": "0" * 40} for entry in siblings]
    small.answers[f"/api/models/owner/adapter/tree/{COMMIT}?recursive=true&expand=false"] = (200, tree)
    for name, content in files.items():
        small.answers[f"/owner/adapter/resolve/{COMMIT}/{name}"] = (200, content)
    base = ModelRef(reference="owner/base", revision="abc")
    found = resolve_adapter(ModelRef(reference="owner/adapter"), base, tmp_path, hub(tmp_path))
    assert found.path and sorted(p.name for p in Path(found.path).iterdir()) == sorted(files)
    assert found.revision == COMMIT
    offline = hub(tmp_path, HF_HUB_OFFLINE="1")
    assert offline.adapter("owner/adapter", COMMIT, "adapter") == Path(found.path)
    with pytest.raises(RequestError, match="is for another base"):
        resolve_adapter(found, ModelRef(reference="owner/other"), tmp_path, offline)


def test_a_repository_without_an_adapter_is_refused(small: type[Small], tmp_path: Path) -> None:
    cache(tmp_path, "models--owner--name")
    with pytest.raises(RequestError, match="holds no adapter"):
        hub(tmp_path, HF_HUB_OFFLINE="1").adapter("owner/name", COMMIT, "adapter")


def spec(**fields: Any) -> dict[str, Any]:
    return {"kind": "train", "model": "builtin:tiny", "dataset": "builtin:arithmetic", **fields}


def test_a_spec_that_needs_no_hub_does_not_ask_it(desk: Workspace, small: type[Small]) -> None:
    assert resolve(desk, spec(), desk.path).variables == {"HF_HUB_OFFLINE": "1"}
    assert small.asked == []


def test_a_hub_that_answers_is_left_to_the_worker(desk: Workspace, small: type[Small]) -> None:
    small.answers["/api/datasets/owner/rows/revision/main"] = (200, {"sha": COMMIT})
    found = resolve(desk, spec(dataset="owner/rows"), desk.path)
    assert found.variables == {}
    assert found.spec.model_dump()["dataset"][0]["revision"] == COMMIT


def test_an_entry_of_a_folder_may_be_on_the_hub(desk: Workspace, small: type[Small]) -> None:
    (desk.path / "dataset_info.json").write_text('{"rows": {"hf_hub_url": "owner/rows"}}')
    small.answers["/api/datasets/owner/rows/revision/main"] = (200, {"sha": COMMIT})
    found = resolve(desk, spec(dataset={"source": str(desk.path), "name": "rows"}), desk.path)
    assert found.variables == {}
    assert found.spec.model_dump()["dataset"][0]["revision"] == COMMIT


def test_code_of_the_users_may_need_the_hub(desk: Workspace, small: type[Small]) -> None:
    (desk.path / "stop.py").write_text("def stop(): ...\n")
    assert resolve(desk, spec(callbacks="stop.py:stop"), desk.path).variables == {}
    assert len(small.asked) == 1
