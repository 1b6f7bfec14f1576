"""lm-eval asking a server: its own `local-completions` and `local-chat-completions`.

Which one is taken follows from what is known here:

- the model behind the server is known: `local-completions`, sent ids that the tokenizer compared with training's made;
- it is not, and `apply_chat_template: false`: `local-completions`, sent text;
- else `local-chat-completions`: the server applies its own template. It gives no log-likelihoods.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import requests
from lm_eval.api.model import LM
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

from tuneyard.core.errors import RequestError, RunError
from tuneyard.core.specs import EvalSpec
from tuneyard.eval import endpoint
from tuneyard.eval import lm_eval_arguments as arguments
from tuneyard.eval.endpoint import Server
from tuneyard.eval.tokens import Encoding

_Completions: Any = LocalCompletionsAPI  # the decorators hide the classes from type checkers
_ChatCompletions: Any = LocalChatCompletion


class ByIds(_Completions):
    """local-completions whose prompts are ids, encoded as HFLM encodes them with the tokenizer that was checked."""

    def __init__(self, encoding: Encoding, **given: Any) -> None:
        super().__init__(tokenizer_backend=None, **given)
        self.tokenizer = encoding.tokenizer
        self.tokenizer_backend = "huggingface"
        self.tokenized_requests = True
        self._encoding = encoding

    def tok_encode(self, string: Any, left_truncate_len: int | None = None, **ignored: Any) -> Any:
        if not isinstance(string, str):
            return [self.tok_encode(text, left_truncate_len) for text in string]
        bos = getattr(self.tokenizer, "bos_token", None)
        bare = self._encoding.add_bos_token is False or bool(bos and string.startswith(bos))
        special: dict[str, Any] = {"add_special_tokens": False} if bare else {}
        ids = self.tokenizer.encode(string, **special)
        return ids[-left_truncate_len:] if left_truncate_len else ids


class AsText(_Completions):
    """local-completions whose prompts are text."""

    def loglikelihood(self, requests: Any, **ignored: Any) -> Any:
        raise _needs_tokens(self.base_url)

    loglikelihood_rolling = loglikelihood


class AsChat(_ChatCompletions):
    """local-chat-completions, told of what it cannot do in our words."""

    def loglikelihood(self, requests: Any, **ignored: Any) -> Any:
        raise _needs_tokens(self.base_url)

    loglikelihood_rolling = loglikelihood


def _needs_tokens(where: str) -> RequestError:
    return RequestError(
        "the task scores log-likelihoods (multiple choice, perplexity), and the model's tokens are not known here",
        where=where,
        way_out="name the model behind the server: model=run:ID, a folder or a hub id; only its tokenizer is read",
    )


def load(spec: EvalSpec, server: Server, encoding: Encoding | None) -> tuple[LM, bool]:
    """lm-eval's model around a server, and whether its prompts go through a chat template."""
    kind, given = arguments.of_endpoint(spec, server.model, context=server.context, known=encoding is not None)
    header = {"Authorization": f"Bearer {endpoint.api_key()}"}
    if encoding is not None:
        return ByIds(encoding, header=header, **given), encoding.chat
    if kind == "local-completions":
        return AsText(tokenizer_backend=None, tokenized_requests=False, header=header, **given), False
    return AsChat(header=header, **given), True


@contextmanager
def explained(spec: EvalSpec, run: str) -> Iterator[None]:
    """Turn what lm-eval's clients raise into errors with a way out; without an endpoint, nothing is done.

    Raises:
        RunError: the server is gone, or fails at a request again and again.
        RequestError: it refuses a request.
        SetupError: it refuses the key.
    """
    if not spec.endpoint:
        yield
        return
    try:
        yield
    except aiohttp.ClientResponseError as error:
        raise endpoint.of_status(spec.endpoint, error.status, f"{error.message} (stderr.log has its words)") from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 500
        raise endpoint.of_status(spec.endpoint, status, str(error)[:500]) from error
    except (TimeoutError, aiohttp.ClientError, requests.RequestException) as error:
        raise RunError(
            f"the server does not answer any more: {type(error).__name__}: {error}",
            where=spec.endpoint,
            way_out=endpoint.start_again(run),
        ) from error
