"""The Hugging Face hub: asked once whether it answers, then for the commit behind a name; else its cache is read.

Nothing here is done for a spec that needs no hub. Answers come by the standard library, so that a machine without
network is told so in seconds, where the hub's own client tries for a minute.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.patience import within

PROBE_SECONDS = 3.0
"""How long the hub may take to answer at all."""

ASK_SECONDS = 5.0
"""How long it may take to tell a commit, once it has answered."""

OFFLINE_VARIABLE = "HF_HUB_OFFLINE"

RepositoryKind = Literal["models", "datasets"]

_TRUE = frozenset({"1", "on", "yes", "true"})


@dataclass(frozen=True)
class Hub:
    """The hub as the variables of a workspace name it."""

    variables: Mapping[str, str]
    """HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME, HF_HUB_CACHE, HF_TOKEN and the proxies' variables are read."""

    @property
    def endpoint(self) -> str:
        """Address without a slash at its end."""
        return (self.variables.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")

    @property
    def forbidden(self) -> bool:
        """Whether the user said that the hub is not to be asked."""
        return self.variables.get(OFFLINE_VARIABLE, "").lower() in _TRUE

    @cached_property
    def reachable(self) -> bool:
        """Whether the hub answers; asked once, at most `PROBE_SECONDS`."""
        return not self.forbidden and _answer(PROBE_SECONDS, self._answers) is True

    def _answers(self) -> bool:
        try:
            self._get("/api/models?limit=1", PROBE_SECONDS)
        except urllib.error.HTTPError as error:
            return error.code < 500 and error.code != 407  # a proxy answers in the hub's place with 407, 502 to 504
        except (OSError, ValueError):
            return False
        return True

    def _get(self, path: str, seconds: float) -> Any:
        request = urllib.request.Request(self.endpoint + path, headers={"User-Agent": "tuneyard"})
        if self.token:
            # unredirected: a redirect to another host must not carry the token along
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return json.load(answer)

    @cached_property
    def token(self) -> str | None:
        """The user's token, from HF_TOKEN or the file that `hf auth login` writes."""
        if named := self.variables.get("HF_TOKEN") or self.variables.get("HUGGING_FACE_HUB_TOKEN"):
            return named.strip()
        file = Path(self.variables.get("HF_TOKEN_PATH") or self.home / "token").expanduser()
        return file.read_text().strip() or None if file.is_file() else None

    @property
    def home(self) -> Path:
        """HF_HOME: the folder of everything that the hub's client keeps."""
        cache = self.variables.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(self.variables.get("HF_HOME") or f"{cache}/huggingface").expanduser()

    @property
    def cache(self) -> Path:
        """HF_HUB_CACHE: the folder of downloaded repositories."""
        return Path(self.variables.get("HF_HUB_CACHE") or self.home / "hub").expanduser()

    def freeze(self, kind: RepositoryKind, name: str, revision: str | None, where: str) -> str:
        """The commit that `revision` of a repository is now, from the hub, or from its cache without it.

        Args:
            kind: models or datasets.
            name: `owner/name`.
            revision: branch, tag or commit. Default: main.
            where: the field that names the repository, for messages.

        Raises:
            RequestError: the hub has no such repository or revision, or does not let this user read it.
            SetupError: no hub, and the cache does not hold the repository.
        """
        if self.reachable:
            commit = _answer(ASK_SECONDS, lambda: self._commit(kind, name, revision or "main", where))
            if commit is not None:
                return commit
        cached = self.cached(kind, name, revision)
        if cached is None:
            raise self.unreachable(f"{name} is not in its cache ({self.cache})", where)
        return cached.name

    def _commit(self, kind: RepositoryKind, name: str, revision: str, where: str) -> str:
        from urllib.parse import quote

        try:
            return self._get(f"/api/{kind}/{quote(name)}/revision/{quote(revision, safe='')}", ASK_SECONDS)["sha"]
        except urllib.error.HTTPError as error:
            if error.code == 429 or error.code >= 500:
                raise  # says nothing about the repository
            raise self._refusal(error.code, f"{kind[:-1]} {name!r} with revision {revision!r}", where) from error

    def _refusal(self, code: int, repository: str, where: str) -> RequestError:
        what = f"{self.endpoint} has no {repository}"
        if code == 404:
            way_out = "look the name up on the hub; a local folder needs ./ in front"
            return RequestError(what, where=where, way_out=way_out)
        # The hub answers 401 for a repository that is private or does not exist: it does not tell which.
        return RequestError(
            f"{what}, or does not show it to you (HTTP {code})",
            where=where,
            way_out="check the name; for a private or gated one accept its terms on its hub page, then set HF_TOKEN or "
            "run `hf auth login`",
        )

    def cached(self, kind: RepositoryKind, name: str, revision: str | None = None) -> Path | None:
        """The folder of a repository's snapshot in the cache, named for its commit; None where it is not there."""
        repository = self.cache / f"{kind}--{name.replace('/', '--')}"
        reference = repository / "refs" / (revision or "main")
        try:
            commit = reference.read_text().strip() if reference.is_file() else revision or "main"
        except OSError:
            return None
        snapshot = repository / "snapshots" / commit
        return snapshot if snapshot.is_dir() and any(snapshot.iterdir()) else None

    def adapter(self, name: str, commit: str, where: str) -> Path:
        """The folder of an adapter at a commit, downloaded where the cache does not hold it: they are small.

        Raises:
            RequestError: the repository holds no adapter.
            SetupError: it is not in the cache and cannot be downloaded.
        """
        if self.reachable:
            self._download(name, commit, where)
        snapshot = self.cached("models", name, commit)
        if snapshot is None or not (snapshot / "adapter_config.json").is_file():
            raise RequestError(f"{name} holds no adapter (adapter_config.json)", where=where)
        return snapshot

    def _download(self, name: str, commit: str, where: str) -> None:
        from httpx import HTTPError
        from huggingface_hub import snapshot_download

        try:
            snapshot_download(
                name,
                revision=commit,
                allow_patterns=["adapter_*", "*.json", "*.jinja", "tokenizer*"],
                cache_dir=self.cache,
                endpoint=self.endpoint,
                token=self.token or False,
            )
        except (HTTPError, OSError, ValueError) as error:  # its own errors derive from these
            raise SetupError(f"{name} cannot be downloaded: {error}", where=where) from error

    def unreachable(self, need: str, where: str) -> SetupError:
        """The error where the hub is needed and not to be had, with the three ways out."""
        why = f"{OFFLINE_VARIABLE} is set" if self.forbidden else f"no answer within {PROBE_SECONDS:.0f} s"
        return SetupError(
            f"the hub {self.endpoint} cannot be reached ({why}), and {need}",
            where=where,
            way_out="(1) give a local folder; (2) fill the cache on a machine with network (`hf download NAME`) and "
            "point HF_HOME to it; (3) set HF_ENDPOINT to a mirror that can be reached",
        )


def hub_of(workspace: Workspace) -> Hub:
    """The hub of a workspace: this process's variables, with the endpoint and cache of tuneyard.yaml over them."""
    variables = dict(os.environ)
    if workspace.has_settings:
        settings = workspace.settings.hub
        if settings.endpoint:
            variables["HF_ENDPOINT"] = settings.endpoint
        if settings.cache:
            variables["HF_HOME"] = str(workspace.resolve(settings.cache))
    return Hub(variables)


def _answer(seconds: float, ask: Callable[[], Any]) -> Any:
    """What `ask` returns, or None where it takes longer or the network fails."""
    try:
        return within(seconds, ask)
    except (OSError, ValueError, KeyError):  # TimeoutError is an OSError
        return None
