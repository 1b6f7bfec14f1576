"""Datasets of the hub: which files a split is, once from a hub that answers, then from its cache, and without either.

The hub is a small server on this machine that gives the answers of the real one; its client is the real client.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

COMMIT = "a" * 40
CONVERTED = "c" * 40


def rows(*words: str) -> bytes:
    return "".join(json.dumps({"question": word, "answer": f"{word}!"}) + "\n" for word in words).encode()


def readme(*configs: dict[str, Any]) -> bytes:
    return f"---\nlicense: mit\nconfigs: {json.dumps(configs)}\n---\n# About\n".encode()


MAIN = [{"split": "train", "path": "main/tr*"}, {"split": "dev", "path": ["x.csv"]}]
REPOSITORIES: dict[str, dict[str, bytes]] = {
    "one/plain": {"README.md": b"# no header", "data/train.jsonl": rows("a", "b"), "data/test.jsonl": rows("t")},
    "one/described": {
        "README.md": readme(
            {"config_name": "main", "data_files": MAIN},
            {"config_name": "other", "data_files": "other/*.jsonl", "default": True},
            {"config_name": "placed", "data_dir": "placed"},
        ),
        "main/tr-1.jsonl": rows("m1"),
        "main/tr-2.jsonl": rows("m2"),
        "x.csv": b"question,answer\nx,x!\n",
        "other/o.jsonl": rows("o"),
        "placed/test.jsonl": rows("p"),
    },
    "one/undecided": {"README.md": readme({"config_name": "x"}, {"config_name": "y"}), "a.jsonl": rows("a")},
    "one/folders": {"main/train.jsonl": rows("m"), "extra/train.jsonl": rows("e")},
    "one/script": {"script.py": b"raise SystemExit"},
    "one/pictures": {"a.png": b"", "b.png": b""},
    "openai/gsm8k": {
        "README.md": readme({"config_name": "main", "data_files": [{"split": "train", "path": "main/train*"}]}),
        "main/train-00000-of-00001.jsonl": b'{"question": "1+1?", "answer": "<<1+1=2>>2\\n#### 2"}\n',
    },
}  # fmt: skip
CONVERTED_FILES = {"one/script": {"default/train/0000.jsonl": rows("converted")}}


class _Hub(BaseHTTPRequestHandler):
    """The few addresses that the hub's client asks for when it lists and downloads a dataset."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(unquote(self.path))  # type: ignore[attr-defined]
        parts = unquote(self.path.partition("?")[0]).strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            self._describe("/".join(parts[2:4]), "/".join(parts[5:]) or "main")
        elif parts[0] == "datasets" and parts[3] == "resolve":
            self._send_file("/".join(parts[1:3]), parts[4], "/".join(parts[5:]))
        else:
            self._answer(404, b"{}")

    def _files(self, name: str, revision: str) -> tuple[dict[str, bytes] | None, str]:
        if revision in ("refs/convert/parquet", CONVERTED):
            return CONVERTED_FILES.get(name), CONVERTED
        return (REPOSITORIES.get(name) if revision in ("main", COMMIT) else None), COMMIT

    def _describe(self, name: str, revision: str) -> None:
        files, commit = self._files(name, revision)
        if name == "one/gated":
            return self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if name not in REPOSITORIES:
            return self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        if files is None:
            return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        siblings = [{"rfilename": file} for file in files]
        return self._answer(200, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())

    def _send_file(self, name: str, revision: str, file: str) -> None:
        files, commit = self._files(name, revision)
        if files is None or file not in files:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        content = files[file]
        etag = hashlib.sha256(content).hexdigest()
        return self._answer(200, content, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def _answer(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Hub:
    """A hub and the cache of its client."""

    address: str
    home: Path
    asked: list[str] = field(default_factory=list)

    def read(self, *, offline: bool = False, address: str | None = None, **asked: Any) -> dict[str, Any]:
        """What a process of its own reads: {prompts, revision, files} or {error}; `seconds` it took to say so."""
        code = (
            "import json, sys, time\n"
            "from tuneyard.core.errors import TuneyardError\n"
            "from tuneyard.core.references import DatasetSource\n"
            "from tuneyard.data.sources import open_source\n"
            "start = time.perf_counter()\n"
            "try:\n"
            "    source = open_source(DatasetSource.model_validate(json.loads(sys.argv[1])))\n"
            "    said = {'prompts': [r.prompt for r in source.records()], 'revision': source.revision}\n"
            "except TuneyardError as error:\n"
            "    said = {'error': str(error), 'code': error.exit_code}\n"
            "print(json.dumps({**said, 'seconds': time.perf_counter() - start}))\n"
        )
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TUNEYARD_")) and "proxy" not in k.lower()
        }
        own = {"HF_ENDPOINT": address or self.address, "HF_HOME": str(self.home), "HF_HUB_DISABLE_XET": "1"}
        env = {**kept, **own, **({"HF_HUB_OFFLINE": "1"} if offline else {})}
        command = [sys.executable, "-c", code, json.dumps(asked)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Hub(f"http://127.0.0.1:{server.server_port}", tmp_path / "hf", server.asked)  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("asked", "prompts"),
    [
        ({"source": "one/plain"}, ["a", "b"]),
        ({"source": "one/plain", "split": "test"}, ["t"]),
        ({"source": "one/plain", "revision": COMMIT}, ["a", "b"]),
        ({"source": "one/described", "name": "main"}, ["m1", "m2"]),
        ({"source": "one/described", "name": "main", "split": "dev"}, ["x"]),
        ({"source": "one/described"}, ["o"]),
        ({"source": "one/described", "name": "placed", "split": "test"}, ["p"]),
        ({"source": "one/folders", "name": "extra"}, ["e"]),
        ({"source": "builtin:gsm8k"}, ["Question: 1+1?\nAnswer:"]),
    ],
)
def test_a_split_is_read_at_its_commit(hub: Hub, asked: dict[str, Any], prompts: list[str]) -> None:
    said = hub.read(**asked)
    assert (said.get("prompts"), said.get("revision")) == (prompts, COMMIT), said


def test_a_dataset_with_a_script_is_read_as_the_hub_converted_it(hub: Hub) -> None:
    said = hub.read(source="one/script")
    assert (said.get("prompts"), said.get("revision")) == (["converted"], CONVERTED), said


def test_an_entry_of_dataset_info_may_lie_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    entry = {"hf_hub_url": "one/described", "subset": "main", "columns": {"prompt": "question", "response": "answer"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"far": entry, "farther": {"ms_hub_url": "one/plain"}}))
    assert hub.read(source=str(tmp_path), name="far", limit=9)["prompts"] == ["m1", "m2"]
    assert "ms_hub_url" in hub.read(source=str(tmp_path), name="farther")["error"]


def test_what_was_read_once_is_read_again_without_network(hub: Hub) -> None:
    asked: dict[str, Any]
    for asked in ({"source": "one/described", "name": "main"}, {"source": "one/plain", "revision": COMMIT}):
        first = hub.read(**asked)
        hub.asked.clear()
        again = hub.read(offline=True, **asked)
        assert hub.asked == []
        assert (again["prompts"], again["revision"]) == (first["prompts"], COMMIT)
        assert hub.read(address="http://127.0.0.1:9", **asked)["prompts"] == first["prompts"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"source": "one/nothing"}, ["has no such dataset, or does not show it", "HF_TOKEN"]),
        ({"source": "one/gated"}, ["accepted its terms", "hf auth login"]),
        ({"source": "one/plain", "revision": "v2"}, ["no revision 'v2'"]),
        ({"source": "one/plain", "split": "dev"}, ["no split 'dev'", "test, train"]),
        ({"source": "one/described", "name": "mian"}, ["'mian'", "did you mean 'main'"]),
        ({"source": "one/described", "name": "main", "split": "test"}, ["unknown split 'test'", "dev, train"]),
        ({"source": "one/undecided"}, ["it has 2 configurations", "x, y"]),
        ({"source": "one/folders", "name": "mian"}, ["'mian'", "did you mean 'main'"]),
    ],
)
def test_what_is_not_on_the_hub(hub: Hub, asked: dict[str, Any], words: list[str]) -> None:
    said = hub.read(**asked)
    assert said.get("code") == 2, said
    for word in words:
        assert word in said["error"]


def test_a_dataset_without_data_files(hub: Hub) -> None:
    said = hub.read(source="one/pictures")
    assert "JSON, CSV or Parquet" in said["error"], said


@pytest.mark.parametrize("kind", ["offline", "refused", "no name", "silent"])
def test_without_a_hub_the_three_ways_out_are_told_within_ten_seconds(hub: Hub, kind: str) -> None:
    silent = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # accepts, and never answers
    addresses = {
        "refused": "http://127.0.0.1:9",
        "no name": "http://hub.invalid",
        "silent": f"http://127.0.0.1:{silent.server_port}",
    }
    start = time.perf_counter()
    said = hub.read(source="one/plain", offline=kind == "offline", address=addresses.get(kind))
    silent.server_close()
    assert said["code"] == 3
    for word in ("cannot be reached", "one/plain", "(1)", "(2)", "HF_HOME", "(3)", "HF_ENDPOINT"):
        assert word in said["error"]
    assert said["seconds"] < 10
    assert time.perf_counter() - start < 20
