"""Batch generation through a server, 32 requests under way at once, against the client of `vllm bench serve`.

    python benchmarks/serving_client.py [--pairs 5] [--prompts 512] [--tokens 64] [--model tiny|100m]

One server answers both, in turn, the same prompts with at most the same number of tokens, chosen greedily: a run of
kind generate with `endpoint` and `batch_size=32`, and the function that vLLM's own benchmark asks servers by. Compared
are the seconds per token between the first request and the last answer, which both tell of themselves; starting is left
out. Prints a row of the table in docs/benchmarks.md. Needs the environments `eval` and `serve`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from measure import HEADER, Comparison, generation_options
from yard import Yard

BOUND = 1 / 0.95
"""Ours may take this part of the rival's time: 0.95 of its tokens/s. Asserted on a GPU, reported on a CPU."""

CONCURRENCY = 32

RIVAL = """\
import asyncio, contextlib, json, sys
from vllm.benchmarks.datasets.datasets import SampleRequest
from vllm.benchmarks.serve import TaskType, benchmark

asked = json.loads(sys.argv[1])
lines = open(asked["prompts"], encoding="utf-8").read().splitlines()
prompts = [json.loads(line)["prompt"] for line in lines]
requests = [SampleRequest(prompt, 1, asked["tokens"], request_id=str(n)) for n, prompt in enumerate(prompts)]
with contextlib.redirect_stdout(sys.stderr):
    found = asyncio.run(
        benchmark(
            TaskType.GENERATION, "openai", asked["url"] + "/completions", asked["url"].removesuffix("/v1"),
            asked["model"], asked["model"], None, requests, None, float("inf"), 1.0, True, 0, False, [], [], False, {},
            asked["concurrency"], None, None, {"temperature": 0.0},
        )
    )
print(json.dumps({"tokens": found["total_output_tokens"], "seconds": found["duration"], "failed": found["failed"]}))
"""


@dataclass(frozen=True)
class Bench:
    """One server and both its clients."""

    yard: Yard
    server: str
    """Id of its run."""
    url: str
    model: str
    """Its name on the server."""
    prompts: Path
    tokens: int

    def ours(self) -> float:
        """Seconds per token of a run."""
        words = [f"endpoint=run:{self.server}", f"batch_size={CONCURRENCY}", f"max_tokens={self.tokens}"]
        run = self.yard.run("generate", f"dataset={self.prompts}", "apply_chat_template=false", *words)
        latest = run.latest()
        result = latest.read_result() if latest else None
        assert result is not None
        assert result["metrics"]["errors"]["value"] == 0
        return 1 / result["metrics"]["tokens_per_second"]["value"]

    def rival(self) -> float:
        """Seconds per token of vLLM's client."""
        asked = {"url": self.url, "model": self.model, "prompts": str(self.prompts), "tokens": self.tokens}
        words = json.dumps({**asked, "concurrency": CONCURRENCY})
        command = [self.yard.pythons["serve"], "-c", RIVAL, words]
        done = subprocess.run(command, env=self.yard.variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"vLLM's client failed:\n{done.stderr[-3000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        assert not found["failed"]
        return found["seconds"] / found["tokens"]


def measure(model: str = "tiny", pairs: int = 5, prompts: int = 512, tokens: int = 64) -> Comparison:
    """Both clients in turn, after one round of each that is not counted; who goes first alternates.

    Args:
        model: tiny or 100m.
        pairs: counted rounds of each.
        prompts: how many each round asks.
        tokens: the most of each answer.

    Returns:
        seconds for as many tokens as a round asks for at most.
    """
    times: dict[str, list[float]] = {"ours": [], "rival": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yard = Yard(folder, ["eval", "serve"])
        file = folder / "prompts.jsonl"
        rows = [{"prompt": f"Problem {n}: add {n * 37} and {n * 91}."} for n in range(prompts)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        spec = [f"model={write_model(yard, model)}", "port=0", "engine.max_model_len=512"]
        with yard.server(*spec, "served_name=asked") as run:
            url = f"http://127.0.0.1:{run.read_spec()['port']}/v1"
            bench = Bench(yard, run.id, url, "asked", file, tokens)
            for number in range(pairs + 1):
                for side in ("ours", "rival") if number % 2 else ("rival", "ours"):
                    taken = getattr(bench, side)() * prompts * tokens
                    if number:
                        times[side].append(taken)
                print(f"pair {number} of {pairs}", file=sys.stderr, flush=True)
    title = f"{prompts} prompts of up to {tokens} tokens, {CONCURRENCY} at once, {model}"
    return Comparison(title, times["ours"], times["rival"])


def write_model(yard: Yard, name: str) -> str:
    """What a spec says for the model; the larger one is written by the environment that has transformers."""
    if name == "tiny":
        return "builtin:tiny"
    folder = yard.folder / "model"
    code = "import sys; from pathlib import Path; import generation; generation.write_model(Path(sys.argv[1]), '100m')"
    variables = {**yard.variables, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([yard.pythons["serve"], "-c", code, str(folder)], env=variables, check=True, capture_output=True)
    return str(folder)


def main() -> None:
    options = generation_options((__doc__ or "").partition("\n")[0], prompts=512)
    comparison = measure(options.model, options.pairs, options.prompts, options.tokens)
    print(HEADER)
    print(comparison.row(round(BOUND, 2)))


if __name__ == "__main__":
    main()
