"""Secrets taken out of whatever is shown or stored from a log."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

_SECRET_NAME = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL)S?$", re.IGNORECASE)
_KNOWN_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|"
    r"glpat-[\w-]{16,}|xox[abpr]-[\w-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,})"
)
# Names such as eos_token are left alone: what they hold is no secret.
_ASSIGNED = re.compile(
    r"(?i)((?:\btoken|(?:hf|hub|auth|access|refresh|api|bot|bearer|wandb|secret)[_-]?token|api[_-]?key|secret|password|"
    r"\bauthorization)\b[\"']?\s*[=:]\s*(?:bearer\s+)?[\"']?)([^\s\"',}]{8,})"
)
MASK = "********"
"""What stands in the place of a secret."""


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """The values of variables whose names say that they are secret; the longest first."""
    values = {v for n, v in environment.items() if _SECRET_NAME.search(n) and len(v) >= 8}
    return sorted(values, key=len, reverse=True)


def mask_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` with every secret replaced by `MASK`.

    Args:
        text: what is to be shown.
        environment: variables whose secret values are masked wherever they stand. Default: this process's own.
    """
    return masking(environment)(text)


def masking(environment: Mapping[str, str] | None = None) -> Callable[[str], str]:
    """What masks many texts as `mask_secrets` masks one; the environment is read once."""
    values = secret_values(os.environ if environment is None else environment)

    def mask(text: str) -> str:
        for value in values:
            text = text.replace(value, MASK)
        return _ASSIGNED.sub(_masked_value, _KNOWN_SHAPES.sub(MASK, text))

    return mask


def _masked_value(assigned: re.Match[str]) -> str:
    name, value = assigned.groups()
    return name + (value if value.isdigit() else MASK)
