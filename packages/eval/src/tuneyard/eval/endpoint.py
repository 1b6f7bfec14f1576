"""A server that answers in place of a model: what it serves, under which name, and how it tokenizes.

The key that it asks for, if any, stands in the variable TUNEYARD_API_KEY.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai
from openai import OpenAI

from tuneyard.core.errors import RequestError, RunError, SetupError, TuneyardError
from tuneyard.core.fingerprint import CONVERSATION, TEXT, Fingerprint, first_difference
from tuneyard.core.specs import EvalSpec, GenerateSpec
from tuneyard.eval import model as models
from tuneyard.eval import tokens
from tuneyard.eval.model import Source
from tuneyard.eval.tokens import Encoding, Untrained

KEY_VARIABLE = "TUNEYARD_API_KEY"

CONNECT_SECONDS = 10.0
READ_SECONDS = 600.0
"""How long one answer may take: a long text behind a long queue."""


def api_key() -> str:
    """The key for the server; servers that ask for none take any."""
    return os.environ.get(KEY_VARIABLE) or "none"


def start_again(run_id: str) -> str:
    """The way out where a server has stopped answering in the middle of a run."""
    return f"start it again at this address, then `yard resume {run_id}`: what is answered is kept"


def _timeout() -> openai.Timeout:
    """How long a request waits for a connection, and for its answer."""
    return openai.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)


@dataclass(frozen=True)
class Server:
    """A server that has answered."""

    url: str
    """Base URL, ending in /v1."""
    model: str
    """Name under which it knows the model or adapter that is asked."""
    names: tuple[str, ...]
    """Every model and adapter that it serves."""
    context: int | None
    """Longest prompt and answer together, in tokens, where the server tells it (vLLM does)."""


def connect(spec: EvalSpec | GenerateSpec) -> Server:
    """The server of a spec, asked what it serves.

    Raises:
        RequestError: it does not serve the model, or several and none is named.
        SetupError: nothing answers there, or the key is wrong.
    """
    url = str(spec.endpoint)
    with explained(url), client(url) as asked:
        served = {card.id: card.model_dump() for card in asked.models.list().data}
    name = spec.endpoint_model or _only(served, url)
    if name not in served:
        known = ", ".join(served) or "nothing"
        raise RequestError(f"the server has no {name!r}; it serves {known}", where=url, way_out=_name_one(served))
    context = served[name].get("max_model_len")
    return Server(url, name, tuple(served), context if isinstance(context, int) else None)


def _only(served: dict[str, Any], url: str) -> str:
    if len(served) == 1:
        return next(iter(served))
    told = ", ".join(served) or "nothing"
    raise RequestError(
        f"the server serves {told}, and none is named", where="endpoint_model", way_out=_name_one(served)
    )


def _name_one(served: dict[str, Any]) -> str:
    return f"endpoint_model={next(iter(served), 'NAME')}"


def client(url: str) -> OpenAI:
    """The official client, asking once: whoever uses it decides what is tried again."""
    return OpenAI(base_url=url, api_key=api_key(), max_retries=0, timeout=_timeout())


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what a request raises into errors with a way out.

    Raises:
        SetupError: nothing answers, or the key is wrong.
        RequestError: the server refuses the request.
        RunError: the server failed.
    """
    try:
        yield
    except openai.APIStatusError as error:
        raise of_status(url, error.status_code, message_of(error)) from error
    except openai.APIConnectionError as error:
        raise SetupError(
            f"no server answers: {error.__cause__ or error}",
            where=url,
            way_out="start it, or correct `endpoint`; `yard serve list` names what is served here",
        ) from error
    except openai.APIError as error:
        raise RunError(f"the server answers what no OpenAI-style server does: {error.message}", where=url) from error


def message_of(error: openai.APIStatusError) -> str:
    """What a server says of a request that it refuses."""
    body = error.body
    inner = body.get("message") if isinstance(body, dict) else None
    return str(inner or error.message)


def of_status(url: str, status: int, message: str) -> TuneyardError:
    """The error for an answer that is none."""
    if status in (401, 403):
        way_out = f"set the variable {KEY_VARIABLE} to the key that the server was started with"
        return SetupError(f"the server refuses the key: {message}", where=url, way_out=way_out)
    if status == 404:
        return RequestError(f"the server does not know that: {message}", where=url, way_out="correct `endpoint`")
    if status < 500:
        return RequestError(f"the server refuses the request: {message}", where=url)
    return RunError(f"the server failed ({status}): {message}", where=url, way_out="see the server's log")


def source_behind(spec: EvalSpec | GenerateSpec) -> Source | None:
    """The model behind the server, where it is known here; only its tokenizer is read."""
    adapter = spec.adapter if isinstance(spec, EvalSpec) else None
    return models.source_of(spec.model, adapter) if spec.model is not None else None


def encoding_for(
    spec: EvalSpec | GenerateSpec,
    source: Source | None,
    training: Fingerprint | None,
    untrained: Untrained = "none",
) -> Encoding | None:
    """The tokenizer whose ids are sent in place of text; None where the model behind the server is not known here.

    Raises:
        RequestError: this environment tokenizes otherwise than training did; or there is no chat template to apply.
    """
    if source is None:
        return None
    return tokens.choose(
        source,
        training,
        apply_chat_template=spec.apply_chat_template,
        allow_mismatch=spec.allow_token_mismatch,
        untrained=untrained,
    )


def check_tokens(server: Server, training: Fingerprint | None, allow_mismatch: bool) -> list[str]:
    """Whether the server itself tokenizes as training did, for requests that carry text; notes on it.

    Raises:
        RequestError: it does not, with the first differing text, and that is not allowed.
    """
    if training is None:
        return ["the model behind the server has no run here: its tokens cannot be compared with training's"]
    here = fingerprint_of_server(server)
    if here is None:
        return ["the server does not tell how it tokenizes: its tokens cannot be compared with training's"]
    difference = first_difference(training, here)
    if difference is None:
        return ["the server tokenizes as training did"]
    if not allow_mismatch:
        raise RequestError(
            f"the server tokenizes the model differently from the environment that trained it: {difference}",
            where=server.url,
            way_out="evaluate without `endpoint`; or allow_token_mismatch=true takes the score all the same",
        )
    return [f"token mismatch allowed: {difference}"]


def fingerprint_of_server(server: Server) -> Fingerprint | None:
    """The ids of the fixed text and conversation as the server encodes them (vLLM's /tokenize); None if it has none."""
    root = server.url.removesuffix("/v1")
    with client(server.url).with_options(base_url=root) as asked:
        try:
            text = _tokenized(asked, model=server.model, prompt=TEXT, add_special_tokens=False)
            talk = _tokenized(asked, model=server.model, messages=CONVERSATION, add_generation_prompt=True)
        except openai.APIError:
            return None
    if text is None:
        return None
    return Fingerprint(
        worker="serve", tokenizer_class="?", vocabulary_size=0, text_ids=text, conversation_ids=talk, versions={}
    )


def _tokenized(asked: OpenAI, **body: Any) -> list[int] | None:
    answer = asked.post("/tokenize", body=body, cast_to=object)
    ids = answer.get("tokens") if isinstance(answer, dict) else None
    return [int(i) for i in ids] if isinstance(ids, list) else None
