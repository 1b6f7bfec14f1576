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
from pathlib import Path

import yaml
from measure import HEADER, Comparison, pairs_from_command_line

from tuneyard.control.environments import environment_prefix
from tuneyard.control.leases import LEASES_VARIABLE
from tuneyard.control.serving import wait_until_ready
from tuneyard.control.workspace import find_workspace
from tuneyard.core.run_folder import RunFolder

ROOT = Path(__file__).parents[1]

BOUND = 1.05
"""The most that our start may take, as a multiple of the rival's. Asserted on a GPU, reported on a CPU."""

POLL_SECONDS = 0.1

YARD = [sys.executable, "-c", "from tuneyard.control.cli import main; main()"]  # what the program `yard` does
SPEC = ["model=builtin:tiny", "port=0", "engine.max_model_len=512"]


class Bench:
    """A workspace of its own, and both sides of the comparison in it."""

    def __init__(self, folder: Path, prefix: Path) -> None:
        """
        Args:
            folder: empty.
            prefix: the environment `serve`, which both sides serve in.
        """
        self.folder = folder
        self.prefix = prefix
        own = {"TUNEYARD_WORKSPACE": str(folder), LEASES_VARIABLE: str(folder / "leases"), "HF_HUB_OFFLINE": "1"}
        self.variables = {**os.environ, **own}
        (folder / "pixi.toml").write_text("")
        settings = {"environments": {"serve": {"interpreter": str(prefix / "bin" / "python")}}}
        (folder / "tuneyard.yaml").write_text(yaml.safe_dump(settings))

    def yard(self, *words: str) -> str:
        return subprocess.run([*YARD, *words], env=self.variables, capture_output=True, text=True, check=True).stdout

    def ours(self) -> float:
        """Seconds from the command to `ready`."""
        start = time.perf_counter()
        started = json.loads(self.yard("run", "--kind", "serve", *SPEC, "--detach", "--json"))
        wait_until_ready(RunFolder(Path(started["path"])))
        taken = time.perf_counter() - start
        self.yard("serve", "stop", started["id"])
        return taken

    def rival(self) -> float:
        """Seconds from the command, which a dry run prints, to its first completion."""
        planned = json.loads(self.yard("run", "--kind", "serve", *SPEC, "--dry-run", "--json"))
        script = self.folder / "serve.sh"
        python = shlex.quote(str(self.prefix / "bin" / "python"))
        script.write_text(planned["library"]["file"].replace("exec python", f"exec {python}"))
        with open(self.folder / "rival.log", "wb") as log:
            start = time.perf_counter()
            command = ["sh", str(script)]
            server = subprocess.Popen(command, env=self.variables, stdout=log, stderr=log, start_new_session=True)
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
    prefix = environment_prefix(find_workspace(ROOT), "serve")
    times: dict[str, list[float]] = {"ours": [], "rival": []}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), prefix)
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
