"""Generation by an OpenAI-style server: many requests under way at once, tried again while the server is away.

Where the model is known here, the server is sent ids, encoded by the tokenizer that was compared with training's; else
conversations, which it puts into its own chat template, or plain text.

Requests go by aiohttp and not by the official client, which spends 20 times the processor time on each: with a small
model that would be as much as the answer takes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import mimetypes
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import jinja2

from tuneyard.core.errors import RequestError, RunError
from tuneyard.core.generation import Answer, Completion, Input, Work, token_ids
from tuneyard.core.specs import GenerateSpec
from tuneyard.core.worker import Job, Stopped
from tuneyard.data.image_files import fault
from tuneyard.eval import endpoint
from tuneyard.eval import model as models
from tuneyard.eval.endpoint import Server
from tuneyard.eval.tokens import Encoding

PATIENCE = 60.0
"""Seconds without any answer of the server after which a run gives up."""

TRIES = 6
"""How often one input is tried that the server fails at while it answers others."""

BUSY = (408, 409, 425, 429, 500, 502, 503, 504)
"""Answers after which the same request may succeed."""

STRANGE = "the server answers what no OpenAI-style server does"

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0


def backend(job: Job) -> Served:
    """The server of a run, asked what it serves and whether it tokenizes as training did.

    Raises:
        RequestError: it does not serve what is asked, or its tokens differ.
        SetupError: nothing answers, or the key is wrong.
    """
    spec: GenerateSpec = job.spec
    server = endpoint.connect(_with_first_adapter(spec))
    for name in spec.adapters:
        if name not in server.names:
            message = f"the server has no adapter {name!r}; it serves {', '.join(server.names)}"
            raise RequestError(message, where=server.url, way_out=f"yard serve add-adapter RUN {name}")
    source = endpoint.source_behind(spec)
    trained = models.trained_by(source, job.folder.path.parent) if source else None
    encoding = endpoint.encoding_for(spec, source, models.fingerprint_of_training(trained), "if there is one")
    for note in encoding.notes if encoding else ["the server is sent text, which it encodes itself"]:
        print(note, flush=True)
    for warning in encoding.warnings if encoding else ():
        job.warn(warning)
    return Served(job, server, encoding)


def _with_first_adapter(spec: GenerateSpec) -> GenerateSpec:
    """With adapters, it is they that are asked, and the server may well serve several things."""
    if spec.endpoint_model is None and spec.adapters:
        return spec.model_copy(update={"endpoint_model": next(iter(spec.adapters))})
    return spec


@dataclass
class Served:
    """A server as what computes."""

    job: Job
    server: Server
    encoding: Encoding | None
    heard: float = field(default_factory=time.monotonic)
    """When the server last answered anything."""

    def answer(self, work: Iterator[Work], told: Callable[[Answer], None]) -> None:
        self.job.stops_itself = True
        try:
            asyncio.run(self._answer_all(work, told))
        finally:
            self.job.stops_itself = False

    async def _answer_all(self, work: Iterator[Work], told: Callable[[Answer], None]) -> None:
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {endpoint.api_key()}"},
            timeout=aiohttp.ClientTimeout(sock_connect=endpoint.CONNECT_SECONDS, sock_read=endpoint.READ_SECONDS),
            connector=aiohttp.TCPConnector(limit=0),  # as many as there are askers
            trust_env=True,  # proxies, as the official client takes them
        ) as client:
            self.heard = time.monotonic()
            askers = [asyncio.create_task(self._ask(client, work, told)) for _ in range(self.job.spec.batch_size)]
            watcher = asyncio.create_task(self._watch())
            await _until_done(askers, watcher)

    async def _watch(self) -> None:
        """End when the run is asked to."""
        while not self.job.stop_requested.is_set():
            await asyncio.sleep(0.1)
        raise Stopped

    async def _ask(self, client: aiohttp.ClientSession, work: Iterator[Work], told: Callable[[Answer], None]) -> None:
        for piece in work:
            told(await self._answer(client, piece))

    async def _answer(self, client: aiohttp.ClientSession, work: Work) -> Answer:
        """The answer to one input: every sample is a request of its own, since servers there are that ignore `n`."""
        try:
            request = self._request(work)
        except (ValueError, TypeError, OSError, jinja2.TemplateError) as error:
            return Answer(work, error=f"{type(error).__name__}: {error}")
        spec = self.job.spec
        try:
            given = [await self._sample(client, request, spec.seed + k) for k in range(spec.n)]
        except Failed as failed:
            return Answer(work, error=str(failed))
        return Answer(work, [completion for completion, _ in given], prompt_tokens=given[0][1])

    def _request(self, work: Work) -> dict[str, Any]:
        """What is sent: ids where the tokens are known here, else a conversation or plain text."""
        spec: GenerateSpec = self.job.spec
        asked, encoding = work.input, self.encoding
        common: dict[str, Any] = {
            "model": work.adapter or self.server.model,
            "max_tokens": spec.max_tokens,
            "temperature": spec.temperature,
            "top_p": spec.top_p,
            **({"stop": spec.stop} if spec.stop else {}),
        }
        chat = encoding.chat if encoding else spec.apply_chat_template is not False
        if chat and (encoding is None or asked.images):
            tools = {"tools": asked.tools} if asked.tools else {}
            return {**common, "messages": _messages(asked), **tools, **_structured_chat(spec)}
        if asked.images:
            raise ValueError("images need a chat template")
        ids = token_ids(encoding.tokenizer, asked, chat, encoding.add_bos_token) if encoding else None
        self._refuse_too_long(ids)
        return {**common, "prompt": asked.plain_text() if ids is None else ids, **_structured(spec)}

    def _refuse_too_long(self, ids: list[int] | None) -> None:
        longest = self.server.context
        if ids is not None and longest is not None and len(ids) >= longest:
            raise ValueError(f"the prompt has {len(ids)} tokens, and the model's context is {longest}")

    async def _sample(
        self, client: aiohttp.ClientSession, request: dict[str, Any], seed: int
    ) -> tuple[Completion, int | None]:
        """One completion and the tokens of its prompt. A server that is away is waited for, a busy one asked again.

        Raises:
            Failed: the server refuses this request, or fails at it again and again.
            RunError, SetupError, RequestError: the server is gone, or refuses every request.
        """
        strikes, reason = 0, ""
        while strikes < TRIES:
            began = time.monotonic()
            try:
                answer = await self._send(client, {**request, "seed": seed})
            except Refused as refused:
                self.heard = time.monotonic()
                reason = self._why(refused)
                strikes += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                reason = f"the connection broke: {error or type(error).__name__}"
                strikes += self.heard > began  # while it is away for everybody, that says nothing against this input
                self._lose_patience(reason)
            else:
                self.heard = time.monotonic()
                return _read(answer, self.job.spec)
            await asyncio.sleep(_pause(strikes))
        raise Failed(f"tried {TRIES} times: {reason}")

    async def _send(self, client: aiohttp.ClientSession, request: dict[str, Any]) -> Any:
        """The answer to a request, as JSON.

        Raises:
            Refused: a status that is no success.
            Failed: no JSON.
        """
        path = "chat/completions" if "messages" in request else "completions"
        async with client.post(f"{self.server.url}/{path}", json=request) as answer:
            body = await answer.read()
        try:
            content = json.loads(body)
        except ValueError as error:
            if answer.status < 400:
                raise Failed(STRANGE) from error
            content = body.decode("utf-8", "replace")
        if answer.status >= 400:
            raise Refused(answer.status, _message(content))
        return content

    def _why(self, refused: Refused) -> str:
        """Why the server did not answer now; an answer that will never be another ends the input, or the run."""
        if refused.status in BUSY:
            return str(refused)
        if refused.status in (401, 403, 404, 405):
            raise endpoint.of_status(self.server.url, refused.status, refused.message) from refused
        raise Failed(refused.message) from refused

    def _lose_patience(self, reason: str) -> None:
        if time.monotonic() - self.heard > PATIENCE:
            raise RunError(
                f"the server has not answered for {PATIENCE:.0f} s: {reason}",
                where=self.server.url,
                way_out=endpoint.start_again(self.job.folder.id),
            )


class Failed(Exception):
    """One input cannot be answered."""


class Refused(Exception):
    """The server answered a request with a status that is no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


def _message(content: Any) -> str:
    """What a server says of a request that it refuses, in any of the forms that servers use."""
    inner = content.get("error", content) if isinstance(content, dict) else content
    said = inner.get("message") or inner.get("detail") if isinstance(inner, dict) else inner
    return str(said or content)


def _pause(strikes: int) -> float:
    """Seconds before the next try; longer each time, and not the same for everybody."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**strikes) * random.uniform(0.5, 1.5)


async def _until_done(askers: list[asyncio.Task[None]], watcher: asyncio.Task[None]) -> None:
    """Wait for all askers; the first failure, or the request to end, ends the others."""
    try:
        waiting = {asyncio.ensure_future(asyncio.gather(*askers)), watcher}
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*askers, watcher):
            task.cancel()
        await asyncio.gather(*askers, watcher, return_exceptions=True)


def _messages(asked: Input) -> list[dict[str, Any]]:
    """The conversation as servers take it, images in the request itself."""
    turns = asked.turns_with_images() if asked.images else asked.turns()
    return [
        {
            **turn,
            "content": [_part(p) for p in turn["content"]] if isinstance(turn["content"], list) else turn["content"],
        }
        for turn in turns
    ]


def _part(part: dict[str, str]) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    path = Path(part["image"])
    if problem := fault(str(path)):
        raise ValueError(problem)
    kind = mimetypes.guess_type(path.name)[0] or "image/png"
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}


def _structured(spec: GenerateSpec) -> dict[str, Any]:
    """The form of answers as vLLM takes it."""
    if spec.structured is None:
        return {}
    given = {"json": spec.structured.json_schema, "choice": spec.structured.choice, "regex": spec.structured.regex}
    return {"structured_outputs": {name: value for name, value in given.items() if value is not None}}


def _structured_chat(spec: GenerateSpec) -> dict[str, Any]:
    """The form of answers in a chat: a schema as every server takes it, the rest as vLLM does."""
    if spec.structured is None or spec.structured.json_schema is None:
        return _structured(spec)
    schema = {"name": "answer", "schema": spec.structured.json_schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _read(answer: Any, spec: GenerateSpec) -> tuple[Completion, int | None]:
    """The completion in an answer, and the tokens of its prompt."""
    try:
        choice = answer["choices"][0]
        text = (choice["message"]["content"] if "message" in choice else choice["text"]) or ""
        reason = choice.get("finish_reason")
        used = answer.get("usage") or {}
        done = Completion(text, used.get("completion_tokens", 0), reason)
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise Failed(STRANGE) from error
    _check_form(text, reason, spec)
    return done, used.get("prompt_tokens")


def _check_form(text: str, finish_reason: str | None, spec: GenerateSpec) -> None:
    """Servers that know nothing of structured output ignore it without a word."""
    if spec.structured is None or finish_reason != "stop":
        return
    try:
        kept = spec.structured.choice is None or text in spec.structured.choice
        if spec.structured.json_schema is not None:
            json.loads(text)
    except ValueError:
        kept = False
    if not kept:
        raise Failed(f"the server did not keep to the form that `structured` asks for: {text[:200]!r}")
