"""A client that speaks the protocol's own messages, in either era, to a server that it started."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
OLD, NEW = "2025-11-25", "2026-07-28"
TRAIN = {"model": "builtin:tiny", "dataset": {"source": "builtin:arithmetic", "digits": 1, "size": 20}}


class Client:
    """One client and the server it started, on stdin and stdout. Messages go as they are given."""

    def __init__(self, workspace: Path, era: str = OLD, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.era = era
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tuneyard.mcp", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={**os.environ, "TUNEYARD_WORKSPACE": str(workspace), **(env or {})},
            start_new_session=True,
        )
        self.notices: list[dict[str, Any]] = []
        self._answers: dict[Any, dict[str, Any]] = {}
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._number = 0
        self.errors = b""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()
        if era == OLD:
            client = {"name": "test", "version": "1"}
            self.initialized = self.ask("initialize", protocolVersion=OLD, capabilities={}, clientInfo=client)
            self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors += line

    def send(self, message: Any) -> None:
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def begin(self, method: str, **params: Any) -> int:
        """Send a request; the number to wait for."""
        self._number += 1
        meta = {"progressToken": self._number, **params.pop("_meta", {})}
        if self.era == NEW:
            prefix = "io.modelcontextprotocol"
            meta |= {f"{prefix}/protocolVersion": NEW, f"{prefix}/clientInfo": {"name": "test", "version": "1"}}
            meta |= {f"{prefix}/clientCapabilities": params.pop("capabilities_", {})}
        self.send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": {**params, "_meta": meta}})
        return self._number

    def answer(self, number: int, seconds: float = 60) -> dict[str, Any]:
        """The whole answer to a request."""
        deadline = time.monotonic() + seconds
        while number not in self._answers:
            self._take(max(0.01, deadline - time.monotonic()))
        return self._answers.pop(number)

    def _take(self, seconds: float) -> None:
        line = self._lines.get(timeout=seconds)
        assert line is not None, f"the server ended: {self.errors[-3000:].decode()}"
        message = json.loads(line)
        if "id" in message:
            self._answers[message["id"]] = message
        else:
            self.notices.append(message)

    def notice(self, method: str, seconds: float = 30) -> dict[str, Any]:
        """The next notice of a kind, taken from those that have come."""
        deadline = time.monotonic() + seconds
        while not (found := [n for n in self.notices if n["method"] == method]):
            self._take(max(0.01, deadline - time.monotonic()))
        self.notices.remove(found[0])
        return found[0]["params"]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a request."""
        answer = self.answer(self.begin(method, **params))
        assert "result" in answer, answer
        return answer["result"]

    def refused(self, method: str, **params: Any) -> dict[str, Any]:
        """The error of a request."""
        return self.answer(self.begin(method, **params))["error"]

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The data that a tool answers; it must succeed."""
        result = self.ask("tools/call", name=tool, arguments=arguments)
        assert not result.get("isError"), result["content"][0]["text"]
        return result["structuredContent"]

    def text(self, tool: str, **arguments: Any) -> str:
        """The text that a tool answers; it must succeed."""
        result = self.ask("tools/call", name=tool, arguments=arguments)
        assert not result.get("isError"), result["content"][0]["text"]
        return result["content"][0]["text"]

    def error(self, tool: str, **arguments: Any) -> str:
        """What a tool says went wrong."""
        result = self.ask("tools/call", name=tool, arguments=arguments)
        assert result["isError"], result
        assert "structuredContent" not in result
        return result["content"][0]["text"]

    def wait(self, run: str, seconds: float = 60) -> dict[str, Any]:
        """How a run ended."""
        seen = self.call("run_status", run_id=run, wait_seconds=seconds, wait_for="end")
        assert seen["changed"], seen
        return seen

    def close(self) -> int:
        """Go away as clients do; the server's exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            return self.process.wait(20)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
