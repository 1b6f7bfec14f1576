"""A generation in this environment: by a server elsewhere, or by transformers here."""

from __future__ import annotations

from typing import Any

from tuneyard.core import generation
from tuneyard.core.errors import RequestError
from tuneyard.core.generation import Backend
from tuneyard.core.specs import GenerateSpec
from tuneyard.core.worker import Job


def run(job: Job) -> None:
    """Answer the inputs of a run; leave responses.jsonl and the numbers.

    Raises:
        RequestError: what transformers cannot do is asked of it, or the request is wrong.
        SetupError: a server or the hub is missing.
        RunError: every input failed, or the server is gone.
    """
    generation.generate(job, lambda: _backend(job))


def _backend(job: Job) -> Backend:
    spec: GenerateSpec = job.spec
    if spec.endpoint:
        from tuneyard.eval import generate_endpoint

        return generate_endpoint.backend(job)
    refuse_structured(spec)
    from tuneyard.eval import generate_transformers

    return generate_transformers.backend(job)


def arguments(spec: GenerateSpec) -> dict[str, Any]:
    """What a dry run shows: the settings of each request, or of transformers' `generate`; nothing is asked or loaded.

    Raises:
        RequestError: what transformers cannot do is asked of it.
    """
    if spec.endpoint:
        asked = {"base_url": spec.endpoint, "model": spec.endpoint_model, "max_tokens": spec.max_tokens}
        return {"arguments": {**asked, "temperature": spec.temperature, "top_p": spec.top_p, "stop": spec.stop}}
    refuse_structured(spec)
    from tuneyard.eval import generate_transformers

    return {"arguments": generate_transformers.settings(spec)}


def refuse_structured(spec: GenerateSpec) -> None:
    """transformers generates whatever the model says."""
    if spec.structured is not None:
        raise RequestError(
            "transformers cannot keep answers to a form",
            where="structured",
            way_out="backend=vllm, or an endpoint that vLLM serves",
        )
