"""Asking a server that runs here: the names it answers to, its tokens, and adapters that come and go."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneyard.control.endpoints import KEY_VARIABLE, served_url
from tuneyard.control.index import listing
from tuneyard.control.resolving import models
from tuneyard.control.resolving.hub import Hub
from tuneyard.control.resolving.model_files import beyond_text
from tuneyard.control.resolving.vllm import LORA_RANKS, TOWERS, rank_of
from tuneyard.control.starting import UNFINISHED
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, RunError, TuneyardError
from tuneyard.core.files import read_json
from tuneyard.core.fingerprint import CONVERSATION, TEXT, Fingerprint, first_difference
from tuneyard.core.references import ModelRef
from tuneyard.core.run_folder import RunFolder

ANSWER_SECONDS = 10.0
LOAD_SECONDS = 300.0
"""How long an adapter may take to be read, from a network file system too."""

DEFAULT_RANK = 16
"""vLLM's own --max-lora-rank."""


class Served:
    """A server, asked over HTTP."""

    def __init__(self, run: RunFolder, url: str | None = None, key: str | None = None) -> None:
        """
        Args:
            run: a run that serves.
            url: its base URL. Default: as it told when it was ready.
            key: the API key. Default: from the variable TUNEYARD_API_KEY.

        Raises:
            RequestError: the run does not serve (yet, or any longer).
        """
        self.run = run
        self.spec: dict[str, Any] = run.read_spec()
        self.url = url or served_url(run)
        self._key = key or os.environ.get(KEY_VARIABLE)

    def ask(self, path: str, data: Any = None, seconds: float = ANSWER_SECONDS) -> Any:
        """The answer to a GET, or to a POST where there is data: JSON as such, else its text.

        Args:
            path: below the base URL, such as `/models`; `/../tokenize` for what lies beside /v1.
            data: sent as JSON.
            seconds: how long to wait.

        Raises:
            RequestError: the server refuses what was asked.
            RunError: it does not answer.
        """
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key or 'none'}"}
        body = None if data is None else json.dumps(data).encode()
        base = self.url.removesuffix("/v1") if path.startswith("/../") else self.url
        request = urllib.request.Request(base + path.replace("/..", ""), body, headers)
        try:
            with _opener().open(request, timeout=seconds) as answer:
                return _read(answer.read())
        except urllib.error.HTTPError as error:
            raise self._refused(error) from error
        except OSError as error:
            raise RunError(
                f"{self.run.id} does not answer at {self.url}: {getattr(error, 'reason', error)}",
                way_out=f"yard logs {self.run.id}",
            ) from error

    def _refused(self, error: urllib.error.HTTPError) -> TuneyardError:
        if error.code == 401:
            return RequestError(
                f"{self.run.id} wants an API key", way_out=f"set the variable {KEY_VARIABLE} to the one it started with"
            )
        said = _read(error.read())
        message = said.get("error", said).get("message", said) if isinstance(said, dict) else said
        return RequestError(f"{self.run.id} refuses ({error.code}): {str(message)[:1000]}", where=self.url)

    def names(self) -> list[str]:
        """Names under which it knows the model and its adapters now."""
        return [model["id"] for model in self.ask("/models")["data"]]

    def fingerprint(self) -> Fingerprint:
        """The ids that it gives to the fixed text and conversation."""
        name = self.spec["served_name"]
        text = self.ask("/../tokenize", {"model": name, "prompt": TEXT, "add_special_tokens": False})
        try:
            chat = self.ask("/../tokenize", {"model": name, "messages": CONVERSATION, "add_generation_prompt": True})
        except RequestError:  # it has no chat template
            chat = {"tokens": None}
        return Fingerprint(
            worker="serve",
            tokenizer_class="as it answers",
            vocabulary_size=0,
            text_ids=text["tokens"],
            conversation_ids=chat["tokens"],
        )

    def add_adapter(
        self, reference: ModelRef, hub: Hub, name: str | None = None, *, allow_token_mismatch: bool = False
    ) -> str:
        """Have the server answer under one more name; the name.

        Args:
            reference: the adapter: `run:ID`, an absolute folder, or a hub id.
            hub: asked for an adapter that lies there.
            name: for requests. Default: the run's id, or the last part of the reference.
            allow_token_mismatch: add it although it was trained on other tokens than the server makes.

        Raises:
            RequestError: LoRA is off, the name is taken, or the adapter is for another base, of too high a rank, or
                trained on other tokens.
            RunError: the server does not answer.
        """
        model = ModelRef.model_validate(self.spec["model"]).model_copy(update={"adapter": None})
        adapter = models.resolve_adapter(reference, model, self.run.path.parent, hub)
        folder = Path(str(adapter.path))
        check_rank(self.spec["engine"], rank_of(folder, "adapter"), self.run.id)
        check_towers(self.spec["engine"], folder, self.run.id)
        chosen = name or adapter.run or adapter.reference.rstrip("/").rpartition("/")[2]
        if chosen in self.names():
            raise RequestError(f"{self.run.id} already answers to {chosen!r}", way_out="--name gives it another name")
        if not allow_token_mismatch:
            self._compare_tokens(adapter)
        self.ask("/load_lora_adapter", {"lora_name": chosen, "lora_path": adapter.path}, LOAD_SECONDS)
        return chosen

    def _compare_tokens(self, adapter: ModelRef) -> None:
        trained = RunFolder(self.run.path.parent / adapter.run) if adapter.run else None
        if trained is None or not trained.fingerprint.is_file():
            return
        training = Fingerprint.model_validate(read_json(trained.fingerprint))
        here = self.fingerprint()
        lacks = training.chat and training.conversation_ids and here.conversation_ids is None
        if not training.chat:
            here = here.model_copy(update={"conversation_ids": None})
        difference = "it was trained in a chat template, and the server has none" if lacks else None
        if difference := difference or first_difference(training, here):
            raise RequestError(
                f"the server tokenizes differently from {trained.id}, which trained the adapter: {difference}",
                where="adapter",
                way_out=f"serve it apart: serve model=run:{trained.id}; --allow-token-mismatch adds it all the same",
            )

    def remove_adapter(self, name: str) -> None:
        """Have the server no longer answer to the name of an adapter.

        Raises:
            RequestError: it has no adapter of that name.
            RunError: the server does not answer.
        """
        if name == self.spec["served_name"]:
            raise RequestError(f"{name!r} is the model, not an adapter", way_out=f"yard serve stop {self.run.id}")
        names = [known for known in self.names() if known != self.spec["served_name"]]
        if name not in names:
            known = ", ".join(names) or "none"
            raise RequestError(f"{self.run.id} has no adapter {name!r}", way_out=f"its adapters: {known}")
        self.ask("/unload_lora_adapter", {"lora_name": name})


def known(workspace: Workspace) -> list[dict[str, Any]]:
    """Every server that has not ended, as the files tell: id, state, and url, which is null until it is ready."""
    rows, _ = listing(workspace.runs, "serve", UNFINISHED)
    return [{"id": row[0], "state": row[2], "url": _url(RunFolder(workspace.runs / row[0]))} for row in rows]


def _url(run: RunFolder) -> str | None:
    try:
        return served_url(run)
    except RequestError:
        return None


def running(workspace: Workspace) -> list[dict[str, Any]]:
    """The same with the names that each answers to now, asked of it; null, with `problem`, where it does not answer."""
    return [{**each, **_names_of(workspace, each)} for each in known(workspace)]


def _names_of(workspace: Workspace, each: dict[str, Any]) -> dict[str, Any]:
    if each["url"] is None:
        return {"names": None}
    try:
        return {"names": Served(RunFolder(workspace.runs / each["id"]), each["url"]).names()}
    except TuneyardError as error:
        return {"names": None, "problem": error.message}


def check_rank(engine: Mapping[str, Any], rank: int, run_id: str) -> None:
    """Whether a server with these settings takes an adapter of this rank at run time.

    Raises:
        RequestError: it was started for lower ranks, or for no adapters.
    """
    fitting = next(limit for limit in LORA_RANKS if limit >= rank)
    way_out = f"start it anew with engine.enable_lora=true engine.max_lora_rank={fitting}, or with an adapter"
    if not engine.get("enable_lora"):
        raise RequestError(f"{run_id} was started without adapters and takes none now", way_out=way_out)
    limit = engine.get("max_lora_rank") or DEFAULT_RANK
    if rank > limit:
        raise RequestError(f"the adapter has rank {rank}, and {run_id} takes at most {limit}", way_out=way_out)


def check_towers(engine: Mapping[str, Any], adapter: Path, run_id: str) -> None:
    """Whether a server with these settings uses all that an adapter changes.

    Raises:
        RequestError: it would leave out what lies outside the language model.
    """
    module = beyond_text(adapter)
    if module and not engine.get(TOWERS):
        raise RequestError(
            f"the adapter changes {module} too, and {run_id} takes adapters of the language model alone",
            where="adapter",
            way_out=f"start it anew with engine.{TOWERS}=true, or with the adapter",
        )


def _read(answer: bytes) -> Any:
    text = answer.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _opener() -> urllib.request.OpenerDirector:
    """Past any proxy: the server is on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
