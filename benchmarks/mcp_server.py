"""The MCP server against an empty one of the same SDK: start-up, memory, answers among 10,000 runs, many calls at once.

    python benchmarks/mcp_server.py [--pairs 5]

Runs where `mcp` and the packages are installed (the environment `default`). Prints rows of docs/benchmarks.md.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from measure import HEADER, Comparison, compare, pairs_from_command_line
from runs_listing import RUNS, environment, make_runs

EMPTY = """
from mcp.server import MCPServer
server = MCPServer("empty")
@server.tool()
async def nothing(x: int) -> dict[str, int]:
    return {"x": x}
server.run("stdio")
"""
OURS = [sys.executable, "-m", "tuneyard.mcp"]
RIVAL = [sys.executable, "-c", EMPTY]

START_BOUND, MEMORY_BOUND = 1.3, 1.3
ANSWER_BOUND = 10.0
"""Milliseconds, p50, for one answer among `RUNS` runs."""

CALLS, AT_ONCE = 1000, 20


class Server:
    """A server and the one who asks it, on stdin and stdout."""

    def __init__(self, command: list[str], variables: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variables
        )
        self._number = 0
        self.ask(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "benchmark", "version": "1"},
        )
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def begin(self, method: str, **params: Any) -> int:
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        return self._number

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.begin(method, **params)
        return self.read()["result"]

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return self.ask("tools/call", name=tool, arguments=arguments)

    @property
    def memory(self) -> float:
        """Megabytes in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(command: list[str], variables: Mapping[str, str]) -> Iterator[Server]:
    server = Server(command, variables)
    try:
        yield server
    finally:
        server.end()


def start_up(variables: Mapping[str, str], pairs: int) -> Comparison:
    """From the spawn to the answer to `initialize`."""

    def start(command: list[str]) -> None:
        with serving(command, variables):
            pass

    return compare("MCP server, spawn to `initialize`", lambda: start(OURS), lambda: start(RIVAL), pairs=pairs)


def memory(variables: Mapping[str, str], run: str) -> tuple[float, float]:
    """Megabytes of ours, when it has listed its tools and answered, and of an empty server."""
    with serving(OURS, variables) as first:
        first.ask("tools/list")  # its modules are compiled from now on, as those of the rival are
        first.call("list_runs")
    with serving(OURS, variables) as ours, serving(RIVAL, variables) as rival:
        for server in (ours, rival):
            server.ask("tools/list")
        for _ in range(20):
            ours.call("list_runs")
            ours.call("run_status", run_id=run)
            rival.call("nothing", x=1)
        return ours.memory, rival.memory


def answers(variables: Mapping[str, str], run: str, times: int = 200) -> dict[str, list[float]]:
    """Milliseconds of each answer, tool by tool; the last is a tool of the empty server that does nothing.

    They are asked in turns, so that what else the machine does meets all alike.
    """
    asked: dict[str, dict[str, Any]] = {
        "run_status": {"run_id": run},
        "list_runs": {},
        "list_runs, by state": {"states": ["failed"]},
    }
    with serving(OURS, variables) as ours, serving(RIVAL, variables) as rival:
        calls = {name: partial(_timed, ours, name.partition(",")[0], given) for name, given in asked.items()}
        calls["nothing"] = partial(_timed, rival, "nothing", {"x": 1})
        rounds = [[call() for call in calls.values()] for _ in range(times)]
    return {name: list(found) for name, found in zip(calls, zip(*rounds, strict=True), strict=True)}


def _timed(server: Server, tool: str, arguments: dict[str, Any]) -> float:
    start = time.perf_counter()
    result = server.call(tool, **arguments)
    taken = (time.perf_counter() - start) * 1000
    if result.get("isError"):
        raise RuntimeError(result["content"][0]["text"])
    return taken


@dataclass
class Load:
    """Many calls, some of them at once."""

    seconds: float
    errors: int


def load(variables: Mapping[str, str], run: str, calls: int = CALLS, at_once: int = AT_ONCE) -> Load:
    """`calls` calls, of which `at_once` are under way at any time."""
    tools = (("run_status", {"run_id": run}), ("list_runs", {}), ("describe", {}), ("run_logs", {"run_id": run}))
    free = threading.Semaphore(at_once)
    errors = 0
    with serving(OURS, variables) as server:
        start = time.perf_counter()

        def read_all() -> None:
            nonlocal errors
            for _ in range(calls):
                answer = server.read()
                errors += "error" in answer or bool(answer["result"].get("isError"))
                free.release()

        reader = threading.Thread(target=read_all)
        reader.start()
        for number in range(calls):
            free.acquire()
            tool, arguments = tools[number % len(tools)]
            server.begin("tools/call", name=tool, arguments=arguments)
        reader.join()
        return Load(time.perf_counter() - start, errors)


@contextmanager
def many_runs(count: int = RUNS) -> Iterator[tuple[dict[str, str], str]]:
    """A workspace with that many runs: the variables of a server in it, and the id of a run in the middle."""
    with tempfile.TemporaryDirectory(prefix="mcp server ") as folder:
        workspace = Path(folder)
        (workspace / "pixi.toml").touch()
        names = make_runs(workspace / "runs", count)
        run = names[len(names) // 2]
        (workspace / "runs" / run / "attempts" / "1" / "stderr.log").write_text("a line\n" * 1000)
        yield environment(workspace), run


def p50(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    pairs = pairs_from_command_line(__doc__ or "")
    with many_runs() as (variables, run):
        start = start_up(variables, pairs)
        ours, rival = memory(variables, run)
        found = answers(variables, run)
        busy = load(variables, run)
    print(HEADER)
    print(start.row(START_BOUND))
    print(f"| MCP server, memory | {ours:.0f} MB | {rival:.0f} MB | {ours / rival:.2f} | {MEMORY_BOUND} | 1 |")
    print("\n| tool | p50 | p95 | bound |\n| --- | --- | --- | --- |")
    for name, times in found.items():
        p95 = statistics.quantiles(times, n=20)[-1]
        bound = "" if name == "nothing" else f"{ANSWER_BOUND:.0f} ms"
        print(f"| `{name}` | {p50(times):.1f} ms | {p95:.1f} ms | {bound} |")
    print(f"\n{CALLS:,} calls, {AT_ONCE} at once: {busy.seconds:.1f} s, {busy.errors} errors")
