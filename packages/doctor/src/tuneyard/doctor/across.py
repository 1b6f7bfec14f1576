"""What is wrong between environments: libraries that decide the tokens, and adapters that a reader cannot know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tuneyard.control.workspace import Workspace
from tuneyard.doctor import adapters
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.inventory import Inventory

ALIKE = ("transformers", "tokenizers", "peft")
"""Libraries of which two environments should have the same version: they decide tokens, and how an adapter is read."""

READER = "eval"
"""The environment whose scores are taken for the model's own: it must agree with `train`."""


def judge(workspace: Workspace, inventories: Mapping[str, Inventory]) -> Iterator[Finding]:
    """What is wrong between environments that could each be probed."""
    yield from _versions(inventories)
    yield from adapters.judge(workspace, inventories)


def _versions(inventories: Mapping[str, Inventory]) -> Iterator[Finding]:
    train = inventories.get("train")
    if train is None:
        return
    for name, other in inventories.items():
        apart = [
            f"{library} {train.versions[library]} and {other.versions[library]}"
            for library in ALIKE
            if name != "train" and library in train.versions and library in other.versions
            if train.versions[library] != other.versions[library]
        ]
        if apart:
            yield Finding(
                "versions-disagree",
                "risky" if name == READER else "note",
                f"train and {name} differ in {', '.join(apart)}: the same text may become other tokens",
                name,
                f"{train.executable} and {other.executable}",
                "yard doctor --model MODEL compares the tokens"
                + (f"; ./pixiw install -e train -e {name}" if name == READER else ""),
            )
