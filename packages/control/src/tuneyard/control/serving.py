"""Served models: what is decided of one before it starts, and how another run reaches it."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuneyard.control import models
from tuneyard.control.hub import Hub
from tuneyard.control.model_files import adapter_config
from tuneyard.core.errors import RequestError
from tuneyard.core.files import read_json_lines
from tuneyard.core.references import ModelRef
from tuneyard.core.run_folder import RunFolder, find_run

KEY_VARIABLE = "TUNEYARD_API_KEY"
"""The key that a server of ours asks for and that our clients send."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM 0.32 takes for --max-lora-rank; an adapter of a higher rank would end the server."""

READY_POLL_SECONDS = 0.1

PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
"""Settings of vLLM whose product is the number of devices."""


@dataclass(frozen=True)
class Endpoint:
    """A server that answers in place of a model."""

    url: str
    """Base URL of its OpenAI-style interface, ending in /v1."""
    run: str | None = None
    """The run that serves; None for a server of somebody else's."""


def resolve_adapters(
    adapters: Mapping[str, ModelRef], model: ModelRef, runs: Path, hub: Hub
) -> tuple[dict[str, ModelRef], int]:
    """Every adapter with its folder, and the smallest --max-lora-rank that fits them all (0 without any).

    Raises:
        RequestError: an adapter that is not there, is for another base, or has a rank that vLLM does not serve.
    """
    resolved = {
        name: models.resolve_adapter(reference, model, runs, hub, f"adapters.{name}")
        for name, reference in adapters.items()
    }
    ranks = [rank_of(Path(str(adapter.path)), f"adapters.{name}") for name, adapter in resolved.items()]
    return resolved, next(limit for limit in LORA_RANKS if limit >= max(ranks)) if ranks else 0


def rank_of(adapter: Path, where: str) -> int:
    """The LoRA rank of an adapter that vLLM can serve.

    Raises:
        RequestError: it is no LoRA adapter, or its rank is above every limit that vLLM takes.
    """
    config = adapter_config(adapter, where)
    kind = str(config.get("peft_type", "LORA"))
    if kind.upper() != "LORA":
        raise RequestError(f"is an adapter of type {kind}, and vLLM serves LoRA alone", where=where, way_out=_MERGE)
    if config.get("use_dora"):
        raise RequestError("is a DoRA adapter, and vLLM serves plain LoRA alone", where=where, way_out=_MERGE)
    rank = max([int(config.get("r") or 0), *map(int, (config.get("rank_pattern") or {}).values())])
    if not 0 < rank <= LORA_RANKS[-1]:
        raise RequestError(
            f"has rank {rank}, and vLLM serves ranks from 1 to {LORA_RANKS[-1]}", where=where, way_out=_MERGE
        )
    return rank


_MERGE = "train it with merge=true and serve the merged model"


def serving_devices(engine: Mapping[str, Any], gpus: int | None) -> int | None:
    """The GPUs that a server's parallel sizes need; None where the settings leave it open.

    Raises:
        RequestError: `gpus` says another number.
    """
    sizes = {name: engine[name] for name in PARALLEL if isinstance(engine.get(name), int)}
    if not sizes:
        return gpus
    needed = 1
    for size in sizes.values():
        needed *= size
    if gpus is not None and gpus not in (0, needed):
        told = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise RequestError(
            f"gpus: {gpus} given, and {told} takes {needed}", where="gpus", way_out=f"gpus={needed}, or leave it out"
        )
    return gpus if gpus == 0 else needed


def check_address(host: str, port: int) -> int:
    """The port to listen on, looked at now, so that nobody loads a model to find it taken; 0 becomes a free one.

    Raises:
        RequestError: another program listens there, the address is none of this machine's, or it is open to other
            machines and there is no API key.
    """
    if not is_loopback(host) and not os.environ.get(KEY_VARIABLE):
        raise RequestError(
            f"{host} can be reached from other machines, and there is no API key",
            where="host",
            way_out=f"set the variable {KEY_VARIABLE}, or leave `host` at 127.0.0.1",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise RequestError(
                f"{host}:{port} cannot be listened on: {reason}", where="port", way_out="port=0 takes a free one"
            ) from error
        return probe.getsockname()[1]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def find_endpoint(text: str, runs: Path) -> Endpoint:
    """The server that `run:ID` or a URL names.

    Raises:
        RequestError: no such run, one that does not serve or is not ready, or no URL of a server.
    """
    if text.startswith("run:"):
        run = find_run(runs, text)
        return Endpoint(served_url(run), run.id)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.username or parts.query:
        raise RequestError(
            f"{text!r} is no address of a server", where="endpoint", way_out="run:ID, or http://127.0.0.1:8000/v1"
        )
    base = text.rstrip("/")
    return Endpoint(base if base.endswith("/v1") else f"{base}/v1")


def wait_until_ready(run: RunFolder) -> str:
    """Base URL of a run that serves, as soon as it is ready.

    Raises:
        RequestError: it is no server, or has ended.
    """
    while run.kind == "serve" and not run.status().ended and not _ready(run):
        time.sleep(READY_POLL_SECONDS)
    return served_url(run)


def _ready(run: RunFolder) -> list[str]:
    latest = run.latest()
    events = read_json_lines(latest.events) if latest else ()
    return [event["url"] for event, _ in events if event.get("event") == "ready"]


def served_url(run: RunFolder) -> str:
    """Base URL of a run that serves and has said that it is ready.

    Raises:
        RequestError: it is no server, has ended, or is not ready yet.
    """
    if run.kind != "serve":
        raise RequestError(f"{run.id} serves nothing: it is a run of kind {run.kind}", where="endpoint")
    status = run.status()
    if status.ended:
        raise RequestError(f"{run.id} is {status.state}: it serves no longer", where="endpoint", way_out="serve again")
    ready = _ready(run)
    if not ready:
        raise RequestError(
            f"{run.id} is {status.state} and not ready yet", where="endpoint", way_out=f"yard logs {run.id} -f"
        )
    return ready[-1]
