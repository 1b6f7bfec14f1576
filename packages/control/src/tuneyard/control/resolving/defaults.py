"""What runs where no spec is given."""

from __future__ import annotations

from collections.abc import Sequence

from tuneyard.control import devices
from tuneyard.control.resolving.hub import hub_of
from tuneyard.control.resolving.overrides import Override
from tuneyard.control.resolving.request import Request, read_request
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError

FOR_GPU = "examples/gsm8k-lora/train.yaml"
FOR_CPU = "examples/arithmetic/train.yaml"

TASK_DEFAULTS = {"arithmetic": {"batch_size": 64}}
"""Fields of a task that is asked for by its name alone. Arithmetic's texts are short: many fit at once."""


def default_request(workspace: Workspace, kind: str | None, task: str | None, overrides: Sequence[Override]) -> Request:
    """The request of a command without a SPEC.

    Args:
        workspace: its tuneyard.yaml may name a spec.
        kind: train, eval, serve (the newest model that was trained here) or generate.
        task: an evaluation's task, which needs no file.
        overrides: given beside it; an evaluation's tasks may stand there.

    Raises:
        RequestError: there is no default for this.
    """
    if task is not None:
        given = {"kind": "eval", "tasks": [task], **TASK_DEFAULTS.get(task, {})}
        return Request(given, workspace.path, f"--task {task}", overrides=list(overrides))
    named = workspace.settings.defaults if workspace.has_settings else None
    if kind == "train":
        return _train(workspace, named.train if named else None, overrides)
    if kind == "eval" and named and named.eval:
        return _from_settings(workspace, named.eval, overrides)
    if kind == "eval" and any(override.keys[0] == "tasks" for override in overrides):
        return Request({"kind": "eval"}, workspace.path, "the command line", overrides=list(overrides))
    if kind == "serve":
        return Request({"kind": "serve"}, workspace.path, "the command line", overrides=list(overrides))
    if kind == "generate" and any(override.keys[0] == "dataset" for override in overrides):
        return Request({"kind": "generate"}, workspace.path, "the command line", overrides=list(overrides))
    raise RequestError("no SPEC is given", way_out=_WAYS_OUT.get(str(kind), _WAYS_OUT["train"]))


_WAYS_OUT = {
    "train": "yard run SPEC; `--kind train` alone runs an example",
    "eval": "eval SPEC, or tasks=NAME; `gsm8k` and `arithmetic` are there without a file",
    "generate": "generate SPEC, or dataset=NAME: what is to be answered, such as a JSONL file with a column `prompt`",
}


def _train(workspace: Workspace, named: str | None, overrides: Sequence[Override]) -> Request:
    fields = {override.keys[0] for override in overrides if len(override.keys) == 1}
    if {"model", "dataset"} <= fields:
        return Request({"kind": "train"}, workspace.path, "the command line", overrides=list(overrides))
    if named:
        return _from_settings(workspace, named, overrides)
    example, reason = _example(workspace)
    request = read_request(workspace.path / example, overrides)
    return _with_note(request, f"no SPEC was given: {example}, because {reason}")


def _from_settings(workspace: Workspace, named: str, overrides: Sequence[Override]) -> Request:
    path = workspace.resolve(named)
    return _with_note(read_request(path, overrides), f"no SPEC was given: {path}, as tuneyard.yaml says")


def _example(workspace: Workspace) -> tuple[str, str]:
    """The example for this machine, and why it is the one."""
    if not devices.gpus():
        return FOR_CPU, "there is no GPU"
    hub = hub_of(workspace)
    if not hub.reachable:
        return FOR_CPU, f"there is a GPU, but the hub {hub.endpoint} cannot be reached"
    return FOR_GPU, "there is a GPU and the hub answers"


def _with_note(request: Request, note: str) -> Request:
    return Request(request.given, request.base, request.where, request.text, request.overrides, [note])
