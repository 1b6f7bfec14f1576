"""The proof that an environment works: a training of two steps, an evaluation of one document, on builtin:tiny."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tuneyard.control import launch
from tuneyard.control.resolving.request import Request, create
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import TuneyardError
from tuneyard.core.run_folder import RunFolder
from tuneyard.doctor.findings import Finding

SECONDS = 900.0
"""How long one run may take, the waiting for a device included."""

SPECS: dict[str, dict[str, Any]] = {
    "train": {
        "kind": "train",
        "name": "doctor",
        "model": "builtin:tiny",
        "dataset": {"source": "builtin:arithmetic", "digits": 1, "size": 32, "seed": 0},
        "engine": {
            "stage": "sft",
            "finetuning_type": "lora",
            "lora_rank": 2,
            "max_steps": 2,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-4,
        },
    },
    "eval": {"kind": "eval", "name": "doctor", "model": "builtin:tiny", "tasks": ["arithmetic"], "limit": 1},
}
"""Environment -> what is run in it."""


@dataclass(frozen=True)
class Deep:
    """What came of the run of one environment."""

    environment: str
    state: str
    """The state the run ended in; `untried` where there is no run for this environment."""
    seconds: float | None = None
    run: str | None = None
    """Its id, where it is kept: it failed."""


def run(workspace: Workspace, name: str, tell: Callable[[str], None]) -> tuple[Deep, list[Finding]]:
    """Do the real thing once in an environment. A run that succeeds is removed again, one that does not is kept.

    Args:
        workspace: where the run is made.
        name: the environment.
        tell: called with what is being done.
    """
    spec = SPECS.get(name)
    if spec is None:
        message = f"there is no small run for {name}: nothing of it was tried"
        return Deep(name, "untried"), [Finding("deep-untried", "note", message, name)]
    tell(f"{name}: a real {'training of 2 steps' if name == 'train' else 'evaluation of 1 document'}")
    try:
        folder = _started(workspace, spec)
    except TuneyardError as error:
        message = f"the small run cannot be started: {error.message}"
        return Deep(name, "failed"), [Finding("deep-run-fails", "broken", message, name, error.where, error.way_out)]
    return _awaited(workspace, name, folder)


def _started(workspace: Workspace, spec: dict[str, Any]) -> RunFolder:
    request = Request(spec, workspace.path, "doctor")
    resolved = request.resolve(workspace, spec["kind"])
    folder = create(workspace, resolved.spec, request.as_given())
    launch.start(workspace, folder, resolved.variables)
    return folder


def _awaited(workspace: Workspace, name: str, folder: RunFolder) -> tuple[Deep, list[Finding]]:
    try:
        status = launch.wait(folder, SECONDS)
    except BaseException:  # Ctrl-C: nobody would wait for the run any more
        launch.cancel(workspace, folder, "yard doctor")
        raise
    if not status.ended:
        launch.cancel(workspace, folder, "yard doctor")
        message = f"the small run did not end within {SECONDS:.0f} s; it was {status.state}"
        return Deep(name, status.state, None, folder.id), [
            Finding("deep-run-fails", "broken", message, name, str(folder.path), f"yard show {folder.id}")
        ]
    latest = folder.latest()
    result = (latest.read_result() if latest else None) or {}
    if status.state == "succeeded":
        launch.remove(workspace, folder)
        return Deep(name, status.state, result.get("seconds")), []
    failure = result.get("failure") or {"message": status.reason}
    message = f"the small run {status.state}: {failure.get('message') or 'it tells no reason'}"
    evidence = "; ".join([*failure.get("log_tail", [])[-1:], f"yard logs {folder.id}"])
    finding = Finding("deep-run-fails", "broken", message, name, evidence, failure.get("way_out"))
    return Deep(name, status.state, result.get("seconds"), folder.id), [finding]
