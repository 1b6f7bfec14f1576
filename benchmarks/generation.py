"""Batch generation: a run of kind generate against `vllm.LLM.generate` on the same prompts, over the same engine.

    ./pixiw run -e serve python benchmarks/generation.py [--pairs 5] [--prompts 256] [--tokens 64] [--model tiny|100m]

Both sides answer the same prompts with one `vllm.LLM` in this process, in turn: ours as a run does it (inputs read from
their file, encoded, queued as others are finished, rows written as they come and put into order), the rival by one call
with the whole list of texts. Start-up, which is the same for both, is left out. Every answer has the same length, so
that the ratio of tokens/s is that of the seconds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import HEADER, Comparison, compare, generation_options

BOUND = 1 / 0.97
"""Ours may take this part of the rival's time: 0.97 of its tokens/s. Asserted on a GPU, reported on a CPU."""


@dataclass
class Sides:
    """One engine, and the same prompts for both."""

    folder: Path
    spec: Any
    llm: Any
    rounds: int = 0

    def ours(self) -> None:
        """What a run does between loading and its result."""
        from tuneyard.core import generation
        from tuneyard.core.responses import Responses
        from tuneyard.core.run_folder import RunFolder
        from tuneyard.serve.generate import Engine

        self.rounds += 1
        run = RunFolder(self.folder / f"round-{self.rounds}")
        run.artifacts.mkdir(parents=True)
        with Responses(run.responses_part, run.responses, 1) as rows:
            work = (generation.Work(asked, None) for asked in generation.read_inputs(self.folder / "inputs.jsonl"))
            engine = Engine(self.spec, self.llm, self.llm.get_tokenizer(), chat=False)
            engine.answer(work, lambda a: rows.add(generation.rows_of(a, 1)))
            rows.finish([None])
            assert rows.rows and not rows.errors, rows.first_error

    def rival(self) -> None:
        """The library alone."""
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports] - there in the environment serve

        texts = [json.loads(line)["prompt"] for line in (self.folder / "inputs.jsonl").read_text().splitlines()]
        params = SamplingParams(max_tokens=self.spec.max_tokens, temperature=0.0, ignore_eos=True)
        outputs = self.llm.generate(texts, params, use_tqdm=False)
        (self.folder / "rival.json").write_text(json.dumps([output.outputs[0].text for output in outputs]))


def prepare(folder: Path, model: str, prompts: int, tokens: int) -> Sides:
    """The model, the inputs and the engine."""
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports] - there in the environment serve

    from tuneyard.core.generation import Input
    from tuneyard.core.specs import GenerateSpec
    from tuneyard.serve import generate
    from tuneyard.serve.arguments import computes_on_cpu
    from tuneyard.serve.variables import defaults

    path = write_model(folder / "model", model)
    inputs = [Input(number=n, prompt=f"Problem {n}: add {n * 37} and {n * 91}.") for n in range(prompts)]
    (folder / "inputs.jsonl").write_text("".join(asked.line() + "\n" for asked in inputs))
    spec = GenerateSpec.model_validate(
        {
            "model": {"reference": "builtin:tiny", "path": str(path)},
            "dataset": str(folder / "inputs.jsonl"),
            "backend": "vllm",
            "max_tokens": tokens,
            "engine": {"max_model_len": 512},
        }
    )
    for name, value in defaults(spec, computes_on_cpu()).items():
        os.environ.setdefault(name, value)
    generate.sampling = lambda _: {"max_tokens": tokens, "temperature": 0.0, "ignore_eos": True}  # all of one length
    llm = LLM(**generate.settings(spec, computes_on_cpu()))
    llm.generate(["warm up"] * 8, SamplingParams(max_tokens=8), use_tqdm=False)
    return Sides(folder, spec, llm)


def write_model(folder: Path, name: str) -> Path:
    """builtin:tiny, or a Llama of 113 million random parameters with its tokenizer."""
    from tuneyard.data.tiny import write_tiny

    write_tiny(folder)
    if name == "tiny":
        return folder
    from transformers import (  # pyright: ignore[reportMissingImports]
        AutoTokenizer,
        LlamaConfig,
        LlamaForCausalLM,
    )

    config = LlamaConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)),
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def measure(model: str = "tiny", pairs: int = 5, prompts: int = 256, tokens: int = 64) -> Comparison:
    """Time both, in turn.

    Args:
        model: tiny or 100m.
        pairs: counted rounds of each.
        prompts: how many each round answers.
        tokens: tokens of every answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        sides = prepare(Path(folder), model, prompts, tokens)
        try:
            name = f"{prompts} prompts, {tokens} tokens each, {model}"
            comparison = compare(name, sides.ours, sides.rival, pairs=pairs)
        finally:
            sides.llm.llm_engine.engine_core.shutdown()  # else its processes hold up the end of this one
        for name, seconds in (("tuneyard", comparison.ours), ("vllm.LLM.generate", comparison.rival)):
            print(f"{name}: {prompts * tokens / sorted(seconds)[len(seconds) // 2]:.0f} tokens/s", file=sys.stderr)
        return comparison


def main() -> None:
    options = generation_options((__doc__ or "").partition("\n")[0], prompts=256)
    comparison = measure(options.model, options.pairs, options.prompts, options.tokens)
    print(HEADER)
    print(comparison.row(round(BOUND, 2)))


if __name__ == "__main__":
    main()
