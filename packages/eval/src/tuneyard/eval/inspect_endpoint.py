"""Inspect asking a server: its own `openai-api` provider, which sends conversations and leaves the template to it."""

from __future__ import annotations

from inspect_ai.model import Model, get_model

from tuneyard.core.errors import RequestError
from tuneyard.core.specs import EvalSpec
from tuneyard.core.worker import Job
from tuneyard.eval import endpoint
from tuneyard.eval import model as models


def load(job: Job, notes: list[str]) -> Model:
    """The model for `inspect_ai.eval`.

    Raises:
        RequestError: the server does not serve it or tokenizes it otherwise than training did, or no template is asked.
        SetupError: nothing answers there, or the key is wrong.
    """
    spec: EvalSpec = job.spec
    if spec.apply_chat_template is False:
        raise RequestError(
            "Inspect asks a server by conversations, which the server puts into its chat template",
            where="apply_chat_template",
            way_out="leave `endpoint` out, or apply_chat_template",
        )
    server = endpoint.connect(spec)
    source = endpoint.source_behind(spec)
    trained = models.trained_by(source, job.folder.path.parent) if source else None
    notes.append(f"asked through the server {server.url}, which calls the model {server.model!r}")
    notes += endpoint.check_tokens(server, models.fingerprint_of_training(trained), spec.allow_token_mismatch)
    return get_model(
        f"openai-api/tuneyard/{server.model}", base_url=server.url, api_key=endpoint.api_key(), memoize=False
    )
