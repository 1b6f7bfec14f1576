"""A run of kind serve: starts the process that serves, tells when it has answered, and ends it when asked to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, NoReturn

from tuneyard.core import events
from tuneyard.core.errors import RequestError, RunError, SetupError, TuneyardError
from tuneyard.core.specs import ServeSpec
from tuneyard.core.worker import Job
from tuneyard.serve.arguments import computes_on_cpu, refuse_without_gpu
from tuneyard.serve.asking import Asked
from tuneyard.serve.explain import explain
from tuneyard.serve.variables import KEY_VARIABLE, of_server, sockets

POLL_SECONDS = 0.1

LAST_WORDS_SECONDS = 10.0

FIRST_ANSWER_SECONDS = 600.0
"""How long the first real request may take: on a GPU it can compile kernels."""


def run(job: Job) -> NoReturn:
    """Serve until the run is asked to end, which is the only good ending.

    A request to end raises `worker.Stopped` wherever this stands, which ends the server on its way out.

    Raises:
        RequestError, SetupError: refused before the model was loaded.
        RunError: the server ended by itself.
    """
    spec: ServeSpec = job.spec
    on_cpu = computes_on_cpu()
    refuse_without_gpu(spec, on_cpu, "CONDA_OVERRIDE_CUDA= ./pixiw install -e serve builds it for CPUs")
    asked = Asked(spec.host, spec.port, os.environ.get(KEY_VARIABLE) or None, bool(spec.engine.get("ssl_certfile")))
    with job.timed("start"), _started(job, on_cpu) as (server, line):
        word = _first_word(job, server, line)
        _tell(job, word)
        _wait_until_it_answers(job, server, asked)
        names = [spec.served_name, *spec.adapters]
        job.emit(events.Ready, url=asked.base, models=names, chat=word["chat"], key=asked.key is not None)
        print(f"ready: {asked.base}", file=sys.stderr, flush=True)
        while True:
            _pause(job, server)


@contextmanager
def _started(job: Job, on_cpu: bool) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process that serves, and where its first word comes from; at the end of the block it has ended."""
    reading, writing = os.pipe()
    command = [sys.executable, "-P", "-m", "tuneyard.serve.server", str(job.folder.path), str(writing)]
    with sockets(os.environ) as folder:
        server = subprocess.Popen(command, env=of_server(job.spec, on_cpu, os.environ) | folder, pass_fds=(writing,))
        os.close(writing)
        try:
            yield server, reading
        finally:
            os.close(reading)
            _end(server, job.spec.cancel_grace)


def _end(server: subprocess.Popen[bytes], grace: float) -> None:
    """TERM, and KILL after most of the time that a cancelled run has; what it leaves behind is the supervisor's."""
    server.terminate()
    try:
        server.wait(timeout=0.8 * grace)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _first_word(job: Job, server: subprocess.Popen[bytes], line: int) -> dict[str, Any]:
    with open(line, "rb", closefd=False) as file:
        said = file.readline()
    if not said.endswith(b"\n"):
        server.wait()
        raise explain(job.attempt, server.returncode, computes_on_cpu())
    return json.loads(said)


def _tell(job: Job, word: dict[str, Any]) -> None:
    if error := word.get("error"):
        kinds: dict[str, type[TuneyardError]] = {c.kind: c for c in (RequestError, SetupError)}
        raise kinds.get(error["kind"], RunError)(error["message"], where=error["where"], way_out=error["way_out"])
    for note in word["notes"]:
        print(f"note: {note}", file=sys.stderr, flush=True)
    for warning in word["warnings"]:
        job.warn(warning)


def _wait_until_it_answers(job: Job, server: subprocess.Popen[bytes], asked: Asked) -> None:
    """Wait for /health and then for a real answer: a server can be up and its engine unable to compute."""
    while not asked.listens():
        _pause(job, server)
    request = {"model": job.spec.served_name, "prompt": "1", "max_tokens": 1}
    try:
        status, text = asked.ask("/v1/completions", request, FIRST_ANSWER_SECONDS)
    except (OSError, HTTPException) as error:
        status, text = HTTPStatus.SERVICE_UNAVAILABLE, str(error)
    if status == HTTPStatus.NOT_FOUND:
        job.warn("this model completes no text (/v1/completions is not there); it was not asked anything")
    elif status != HTTPStatus.OK:
        with suppress(subprocess.TimeoutExpired):  # a server whose engine is dead ends by itself
            server.wait(LAST_WORDS_SECONDS)
        _pause(job, server)
        raise RunError(f"the server is up and refuses a first request ({status}): {text[:500]}")


def _pause(job: Job, server: subprocess.Popen[bytes]) -> None:
    """Wait a moment; raises where the server has ended by itself."""
    time.sleep(POLL_SECONDS)
    if server.poll() is not None:
        raise explain(job.attempt, server.returncode, computes_on_cpu())
