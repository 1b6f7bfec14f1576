"""An agent starts a server, is told where it answers, and ends it. The server is a few lines, and real."""

from __future__ import annotations

import json
import shlex
import sys
import urllib.request
from pathlib import Path

import pytest
from raw_client import Client

from tuneyard.control.workspace import Workspace

WORKER = """
import json, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from tuneyard.core import events
from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.worker import Worker, main

class Models(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"data": [{"id": "builtin:tiny"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

def run(job):
    server = HTTPServer(("127.0.0.1", job.spec.port), Models)
    url = f"http://127.0.0.1:{job.spec.port}/v1"
    job.emit(events.Ready, url=url, models=[job.spec.served_name], chat=True, key=False)
    server.serve_forever()

def schema():
    return {"keys": {"max_model_len": {"type": "int"}}, "versions": {"small": "1"}}

def arguments(spec):
    return {"arguments": {"port": spec.port}, "command": ["small", "serve"]}

main(Worker("serve", run=run, arguments=arguments, schema=schema, fingerprint=lambda m: None, check=lambda p, n: {}))
"""


@pytest.fixture
def serving(desk: Workspace) -> Workspace:
    """The workspace with a small worker for the environment `serve`."""
    package = desk.path / "sources" / "tuneyard" / "serve"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(WORKER)
    interpreter = desk.path / "prefix" / "bin" / "serving-python"
    sources = shlex.quote(str(desk.path / "sources"))
    interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={sources} exec {shlex.quote(sys.executable)} "$@"\n')
    interpreter.chmod(0o755)
    settings = json.loads(desk.settings_file.read_text())
    settings["environments"]["serve"] = {"interpreter": str(interpreter)}
    desk.settings_file.write_text(json.dumps(settings))
    return desk


def test_a_server_is_started_found_and_ended(serving: Workspace, client: Client) -> None:
    started = client.call("serve", model="builtin:tiny", port=0)
    (run,) = started["runs"]
    assert "wait_for" in started["next"][0]
    status = client.call("run_status", run_id=run["id"], wait_seconds=50, wait_for="ready")
    assert (status["state"], status["changed"]) == ("running", True)
    url = status["serves"]["url"]
    assert status["serves"]["models"] == ["builtin:tiny"]
    assert b"builtin:tiny" in urllib.request.urlopen(f"{url}/models", timeout=10).read()

    (contents,) = client.ask("resources/read", uri="tuneyard://servers")["contents"]
    assert json.loads(contents["text"]) == [
        {"id": run["id"], "state": "running", "url": url, "names": ["builtin:tiny"]}
    ]

    stopped = client.call("serve_stop", run_id=run["id"])
    assert "asked to end" in stopped["told"]
    assert client.wait(run["id"])["state"] == "cancelled"
    (contents,) = client.ask("resources/read", uri="tuneyard://servers")["contents"]
    assert json.loads(contents["text"]) == []


def test_a_dry_run_tells_the_command(serving: Workspace, client: Client) -> None:
    told = client.call("serve", model="builtin:tiny", port=0, dry_run=True, response_format="detailed")
    assert told["library"]["command"] == ["small", "serve"]
    assert told["spec"]["kind"] == "serve"
    assert not list(serving.runs.glob("serve-*"))


def test_what_is_wrong_is_refused(serving: Workspace, client: Client, ended, tmp_path: Path) -> None:
    assert "did you mean 'max_model_len'" in client.error(
        "serve", model="builtin:tiny", port=0, fields={"engine": {"max_model_lenn": 1}}
    )
    assert "TUNEYARD_API_KEY" in client.error("serve", model="builtin:tiny", port=0, fields={"host": "0.0.0.0"})
    assert "outside" in client.error("serve", model=str(tmp_path / "elsewhere"), port=0)
    assert "serves nothing" in client.error("serve_stop", run_id=ended().id)
