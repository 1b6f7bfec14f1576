"""Generations made by hand, and small servers in processes of their own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from eval_runs import Outcome, lines, run_here

from tuneyard.core.run_folder import RunFolder, create_run
from tuneyard.core.specs import GenerateSpec
from tuneyard.data.prepare import prepare

SERVER = Path(__file__).with_name("small_server.py")


def new_generation(root: Path, rows: list[dict[str, Any]], **spec: Any) -> RunFolder:
    """A generation with its inputs and one attempt, as control and the data step would leave it for the worker."""
    root.mkdir(parents=True, exist_ok=True)
    data = root / f"rows-{time.monotonic_ns()}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = create_run(root, "generate", "test")
    document = {"kind": "generate", "dataset": str(data), "gpus": 0, **spec}
    run.spec.write_text(GenerateSpec.model_validate(document).model_dump_json())
    prepare(run.path)
    run.new_attempt()
    return run


def generate_here(run: RunFolder) -> tuple[Outcome, list[dict[str, Any]]]:
    """Run the worker in this process; how it ended, and the rows in their order."""
    outcome = run_here(run)
    return outcome, lines(run.responses) if run.responses.exists() else []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(port: int | None = None, **options: Any) -> Iterator[str]:
    """A small server; its base URL. Options are those of small_server.py."""
    port = port or free_port()
    words = [w for name, value in options.items() for w in (f"--{name.replace('_', '-')}", str(value))]
    process = subprocess.Popen([sys.executable, str(SERVER), "--port", str(port), *words])
    try:
        _wait(process, port, str(options.get("key", "")))
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, key: str) -> None:
    request = Request(f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"})
    for _ in range(1200):
        assert process.poll() is None, "the server did not start"
        try:
            urlopen(request, timeout=5).close()
        except (URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server did not answer within two minutes")
