"""The hub: whether it answers, and whether the token has the form of one. The token itself is never shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tuneyard.control.resolving.hub import PROBE_SECONDS, Hub
from tuneyard.doctor.findings import Finding

_SHAPE = re.compile(r"hf_[A-Za-z0-9]{30,}")


def judge(hub: Hub) -> Iterator[Finding]:
    """What is wrong with the way to the hub. Asks it, for at most three seconds."""
    yield from _token(hub)
    if not hub.forbidden and not hub.reachable:
        yield Finding(
            "hub-unreachable",
            "note",
            "the hub does not answer: models and datasets come from its cache or from folders",
            evidence=f"{hub.endpoint}, {PROBE_SECONDS:g} s",
            way_out="HTTPS_PROXY for a proxy, HF_ENDPOINT for a mirror, or HF_HUB_OFFLINE=1 to say that it is meant so",
        )


def _token(hub: Hub) -> Iterator[Finding]:
    place = "HF_TOKEN" if hub.variables.get("HF_TOKEN") else "the file of `hf auth login`, or an older variable"
    try:
        token = hub.token
    except (OSError, UnicodeDecodeError) as error:
        yield Finding("hub-token-unreadable", "risky", "the hub's token cannot be read", evidence=str(error))
        return
    if token is None:
        message = "there is no hub token: gated and private models cannot be had"
        yield Finding("hub-token-missing", "note", message, way_out="hf auth login, or set HF_TOKEN")
    elif not _SHAPE.fullmatch(token):
        yield Finding(
            "hub-token-shape",
            "risky",
            "the hub token does not look like one: the hub will answer 401, even for public models",
            evidence=f"{place}: {_shape_of(token)}",
            way_out="make one at https://huggingface.co/settings/tokens, then hf auth login",
        )


def _shape_of(token: str) -> str:
    """What is wrong with a token, without any of its characters."""
    told = [f"{len(token)} characters"]
    if not token.startswith("hf_"):
        told.append("does not begin with hf_")
    if any(char.isspace() for char in token):
        told.append("has white space in it")
    if token[:1] in "\"'" or token[-1:] in "\"'":
        told.append("is in quotes")
    return ", ".join(told)
