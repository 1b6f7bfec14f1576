"""What changed in an environment since a run: its environment.json against the environment as it is now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.run_folder import RunFolder, find_run
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.inventory import ENGINES, LIBRARIES, Inventory

DECISIVE = frozenset({*ENGINES, *LIBRARIES})
"""Libraries whose other version may give another result."""


def run_and_environment(workspace: Workspace, reference: str) -> tuple[RunFolder, str]:
    """The run that is meant and the environment that it ran in.

    Raises:
        RequestError: there is no such run.
    """
    from tuneyard.core.kinds import environment_of

    run = find_run(workspace.runs, reference)
    return run, environment_of(run.read_spec())


def snapshot(run: RunFolder) -> dict[str, Any]:
    """What the run's latest attempt noted of its environment.

    Raises:
        RequestError: it noted nothing: it never came so far.
    """
    for attempt in reversed(run.attempts()):
        try:
            found = json.loads(attempt.environment.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and isinstance(found.get("versions"), dict):
            return found
    raise RequestError(
        f"{run.id} noted nothing of its environment: its worker never came so far",
        where=str(run.path),
        way_out=f"yard logs {run.id}",
    )


def changes(
    workspace: Workspace,
    name: str,
    run: RunFolder,
    *,
    before: Mapping[str, Any],
    now: Inventory,
    facts: Mapping[str, Any],
) -> list[Finding]:
    """What is different now, what decides results first.

    Args:
        workspace: whose checkout is compared too.
        name: the environment.
        run: the run.
        before: its snapshot.
        now: what is installed.
        facts: what the imports told, for the cards.
    """
    found = [*_versions(name, run, before["versions"], now), *_python(name, before, now)]
    found += [*_cards(name, before.get("torch") or {}, facts), *_variables(name, before, now)]
    found += _checkout(workspace, before.get("git"))
    return sorted(found, key=lambda finding: finding.severity != "risky")


def _versions(name: str, run: RunFolder, before: Mapping[str, str], now: Inventory) -> Iterator[Finding]:
    others: list[str] = []
    for distribution in sorted({*before, *now.versions}):
        old, new = before.get(distribution), now.versions.get(distribution)
        if old == new:
            continue
        change = f"{distribution} {old or '(not there)'} -> {new or '(not there)'}"
        if distribution in DECISIVE:
            mend = f"{now.executable} -m pip install {distribution}=={old}" if old else None
            yield Finding("changed-version", "risky", change, name, f"since {run.id}", mend)
        else:
            others.append(change)
    if others:
        message = f"{len(others)} other distribution{'s' if len(others) > 1 else ''} changed"
        yield Finding("changed-versions", "note", message, name, "; ".join(others))


def _python(name: str, before: Mapping[str, Any], now: Inventory) -> Iterator[Finding]:
    for what, old, new in (
        ("Python", before.get("python"), now.python),
        ("the system", before.get("platform"), now.platform),
        ("the interpreter", before.get("executable"), now.executable),
    ):
        if old and old != new:
            yield Finding("changed-system", "note", f"{what}: {old} -> {new}", name)


def _cards(name: str, torch: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Finding]:
    cuda = facts.get("torch.cuda")
    if not torch or cuda is None:
        return
    old, new = torch.get("cuda"), cuda.get("built_for")
    if old != new:
        yield Finding("changed-cuda", "risky", f"CUDA of torch: {old or 'none'} -> {new or 'none'}", name)
    before = [card["name"] for card in torch.get("gpus", [])]
    now = [card["name"] for card in cuda.get("cards", [])]
    if before != now:
        message = f"GPUs: {', '.join(before) or 'none'} -> {', '.join(now) or 'none'}"
        yield Finding("changed-gpus", "risky", message, name)


def _variables(name: str, before: Mapping[str, Any], now: Inventory) -> Iterator[Finding]:
    """Names of variables that came or went; only those that libraries read, and never what they hold."""
    read = ("HF_", "CUDA_", "NCCL_", "TORCH", "PYTORCH", "TRANSFORMERS_", "OMP_", "VLLM_", "TOKENIZERS_", "LD_", "MKL_")
    own = {"HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"}  # set for each run anew
    old = {each for each in before.get("variables", []) if each.startswith(read)} - own
    new = {each for each in now.variables if each.startswith(read)} - own
    if old != new:
        changes = [*(f"+{each}" for each in sorted(new - old)), *(f"-{each}" for each in sorted(old - new))]
        yield Finding("changed-variables", "note", f"variables: {' '.join(changes)}", name)


def _checkout(workspace: Workspace, before: Mapping[str, str] | None) -> Iterator[Finding]:
    from tuneyard.core.worker import describe_git

    now = describe_git(workspace.path)
    if before and now and before.get("commit") != now["commit"]:
        old, new = str(before.get("commit"))[:10], now["commit"][:10]
        way_out = f"git log --oneline {old}..{new}"
        yield Finding("changed-checkout", "note", f"tuneyard's checkout: {old} -> {new}", way_out=way_out)
    elif before and now and before.get("patch") != now["patch"]:
        yield Finding(
            "changed-checkout", "note", "uncommitted changes of the checkout are not what they were", way_out="git diff"
        )
