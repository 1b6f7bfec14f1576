"""From `yard run --kind serve` to `ready`, against `vllm serve` until it has answered one request.

    python benchmarks/serving_ready.py [--pairs 3]

Resolving, supervising, the fingerprint of the tokens and vLLM's parser are all on our side of the scale; both sides end
when a completion has come back. Prints a row of the table in docs/benchmarks.md. Needs the environment `serve`.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from measure import HEADER, Comparison, pairs_from_command_line
from yard import Yard

BOUND = 1.05
"""The most that our start may take, as a multiple of the rival's. Asserted on a GPU, reported on a CPU."""

POLL_SECONDS = 0.1

SPEC = ["model=builtin:tiny", "port=0", "engine.max_model_len=512"]


@dataclass(frozen=True)
class Bench:
    """Both sides of the comparison, in a workspace of its own."""

    yard: Yard

    def ours(self) -> float:
        """Seconds from the command to `ready`."""
        start = time.perf_counter()
        with self.yard.server(*SPEC):
            return time.perf_counter() - start

    def rival(self) -> float:
        """Seconds from the command, which a dry run prints, to its first completion."""
        planned = json.loads(self.yard("run", "--kind", "serve", *SPEC, "--dry-run", "--json"))
        script = self.yard.folder / "serve.sh"
        python = shlex.quote(self.yard.pythons["serve"])
        script.write_text(planned["library"]["file"].replace("exec python", f"exec {python}"))
        with open(self.yard.folder / "rival.log", "wb") as log:
            start = time.perf_counter()
            command = ["sh", str(script)]
            server = subprocess.Popen(command, env=self.yard.variables, stdout=log, stderr=log, start_new_session=True)
            try:
                self._first_completion(server, planned["spec"])
                return time.perf_counter() - start
            finally:
                server.terminate()
                server.wait()
                with suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGKILL)

    def _first_completion(self, server: subprocess.Popen[bytes], spec: dict) -> None:
        base = f"http://127.0.0.1:{spec['port']}"
        while server.poll() is None:
            with suppress(OSError):
                urllib.request.urlopen(f"{base}/health", timeout=5).read()
                break
            time.sleep(POLL_SECONDS)
        body = json.dumps({"model": spec["served_name"], "prompt": "1", "max_tokens": 1}).encode()
        request = urllib.request.Request(f"{base}/v1/completions", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=600).read()


def measure(pairs: int) -> Comparison:
    """Both sides in turn, after one run of each that is not counted; who goes first alternates."""
    times: dict[str, list[float]] = {"ours": [], "rival": []}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Yard(Path(folder), ["serve"]))
        for number in range(pairs + 1):
            for side in ("ours", "rival") if number % 2 else ("rival", "ours"):
                taken = getattr(bench, side)()
                if number:
                    times[side].append(taken)
            print(f"pair {number} of {pairs}", file=sys.stderr, flush=True)
    return Comparison("a server's start to its first answer, against `vllm serve`", times["ours"], times["rival"])


def main() -> None:
    print(HEADER)
    print(measure(pairs_from_command_line(str(__doc__).partition("\n")[0])).row(BOUND))


if __name__ == "__main__":
    main()
