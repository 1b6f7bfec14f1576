"""Kinds of runs and the environments their workers run in, told from a spec as JSON holds it.

Nothing here imports pydantic: supervisors and listings read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneyard.core.errors import unknown

ENVIRONMENTS = {"train": "train", "eval": "eval", "serve": "serve", "generate": "serve"}
"""Kind -> the environment of its worker, which carries the environment's name."""


def environment_of(spec: Mapping[str, Any]) -> str:
    """The environment, and so the worker, of a resolved spec.

    Raises:
        RequestError: a kind that does not exist.
    """
    kind = str(spec.get("kind"))
    if kind not in ENVIRONMENTS:
        raise unknown("kind", kind, ENVIRONMENTS)
    if kind == "generate" and (spec.get("endpoint") or spec.get("backend") == "transformers"):
        return "eval"  # which needs no vLLM, and encodes text with the transformers that trained the model
    return ENVIRONMENTS[kind]


def needs_device(spec: Mapping[str, Any]) -> bool:
    """Whether a run computes here. One that asks a served model takes no lease: it would wait for its own server."""
    return not spec.get("endpoint")
