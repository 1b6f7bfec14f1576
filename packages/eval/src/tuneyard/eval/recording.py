"""A language model of lm-eval that tells how far it is and keeps every response, so that a killed run goes on.

Responses are appended to `responses.jsonl` batch by batch. A resumed run answers from them and asks the model for the
rest: since lm-eval sorts its requests, what is left falls into the same batches as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from lm_eval.api.model import LM, CacheHook, hash_args

from tuneyard.eval.responses import Responses
from tuneyard.eval.samples import prompt_text

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

PHASES = {
    "generate_until": "generating",
    "loglikelihood": "log-likelihoods",
    "loglikelihood_rolling": "log-likelihoods of whole texts",
}
"""What is told of each kind of request."""

SECONDS_BETWEEN = 1.0
"""Progress is told at most this often."""

Tell = Callable[[str, int, int, float], None]
"""Called with what is being done, documents done, documents in all, and seconds since the first."""

Show = Callable[[str, str], None]
"""Called with a prompt and its response as it comes."""


class _Hook(CacheHook):
    """What lm-eval's models call with every response."""

    def __init__(self, told: Callable[[str, Any, Any], None]) -> None:
        super().__init__(None)
        self._told = told

    def add_partial(self, attr: str, req: Iterable[Any], res: Any) -> None:
        self._told(attr, req, res)


class RecordingLM(LM):
    """`model`, with its responses recorded and its progress told. Everything else is passed on to it."""

    def __init__(self, model: LM, responses: Responses, tell: Tell, show: Show) -> None:
        super().__init__()
        self.inner = model
        self.responses = responses
        self.reused = 0
        """Responses taken from earlier attempts."""
        self.truncated = 0
        """Prompts longer than the model's context, of which it saw the end."""
        self._tell, self._show = tell, show
        self._count = _Count(0, 0)
        model.set_cache_hook(_Hook(self._came))

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        return [tuple(answer) for answer in self._answer("loglikelihood", requests)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return self._answer("loglikelihood_rolling", requests)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return self._answer("generate_until", requests)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return self.inner.apply_chat_template(chat_history, add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return self.inner.chat_template(chat_template)

    @property
    def tokenizer_name(self) -> str:
        return self.inner.tokenizer_name

    @property
    def device(self) -> Any:
        return self.inner.device

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def world_size(self) -> int:
        return self.inner.world_size

    def all_gather(self, tensor: Any) -> Any:
        return self.inner.all_gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> Any:
        return self.inner.gather_object(obj, dst)

    def barrier(self) -> None:
        self.inner.barrier()

    def _answer(self, kind: str, requests: list[Instance]) -> list[Any]:
        """Recorded responses where there are any, the model's for the rest. What is sampled is never reused."""
        keys = [hash_args(kind, request.args) for request in requests]
        known = {
            place: self.responses.known[key]
            for place, (key, request) in enumerate(zip(keys, requests, strict=True))
            if key in self.responses.known and not _is_sampled(request)
        }
        self.reused += len(known)
        self.truncated += sum(self._is_too_long(request) for request in requests)
        left = [request for place, request in enumerate(requests) if place not in known]
        self._count = _Count(len(requests), _documents(requests), done=len(known), phase=PHASES[kind])
        new = iter(self._ask(kind, left))
        return [known[place] if place in known else next(new) for place in range(len(requests))]

    def _ask(self, kind: str, requests: list[Instance]) -> list[Any]:
        if not requests:
            return []
        answers = getattr(self.inner, kind)(requests)
        told = self._count.came
        self.responses.write()
        if not told:  # a model that does not call the hook
            for request, answer in zip(requests, answers, strict=True):
                self._came(kind, request.args, answer)
            self.responses.write()
        self._report(last=True)
        return answers

    def _came(self, kind: str, arguments: Any, answer: Any) -> None:
        """One response: recorded with its batch, counted, and shown if it is among the first."""
        count = self._count
        count.came += 1
        self.responses.add(hash_args(kind, arguments), answer)
        if kind == "generate_until":
            self._show(prompt_text(arguments[0]), str(answer))
        size = getattr(self.inner, "batch_size", 1)
        if self.responses.waiting >= (size if isinstance(size, int) else 1):
            self.responses.write()
            self._report()

    def _report(self, *, last: bool = False) -> None:
        count, now = self._count, time.monotonic()
        if last or now - count.told >= SECONDS_BETWEEN:
            count.told = now
            self._tell(count.phase, count.documents_done(whole=last), count.documents, now - count.started)

    def _is_too_long(self, request: Instance) -> bool:
        """Whether lm-eval will cut the beginning of this prompt off. A token is at least one byte of text."""
        room, text = self._room(request), "".join(a for a in request.args if isinstance(a, str))
        if room is None or len(text.encode()) <= room:
            return False
        return len(self.inner.tok_encode(text)) > room  # type: ignore[attr-defined]

    def _room(self, request: Instance) -> int | None:
        """Tokens that a prompt may have; None where the model does not say, or windows roll over the text."""
        longest = getattr(self.inner, "max_length", None)
        if longest is None or not hasattr(self.inner, "tok_encode") or request.request_type == "loglikelihood_rolling":
            return None
        if request.request_type != "generate_until":
            return longest
        return longest - int(_settings(request).get("max_gen_toks", getattr(self.inner, "max_gen_toks", 0)))


class _Count:
    """How many requests of one kind are done, told in documents."""

    def __init__(self, requests: int, documents: int, *, done: int = 0, phase: str = "") -> None:
        self.requests, self.documents, self.done, self.phase = requests, documents, done, phase
        self.came = 0
        self.started = self.told = time.monotonic()

    def documents_done(self, *, whole: bool) -> int:
        if whole or not self.requests:
            return self.documents
        return self.documents * min(self.done + self.came, self.requests) // self.requests


def _documents(requests: list[Instance]) -> int:
    return len({(request.task_name, request.doc_id) for request in requests})


def _is_sampled(request: Instance) -> bool:
    return request.request_type == "generate_until" and bool(_settings(request).get("do_sample", False))


def _settings(request: Instance) -> dict[str, Any]:
    """The settings of generation that a request carries beside its prompt."""
    return cast("tuple[str, dict[str, Any]]", request.args)[1]
