"""A run as an object: what the command `yard` does, from Python."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneyard.control import launch
from tuneyard.control.workspace import Workspace, find_workspace
from tuneyard.core.files import read_json_lines
from tuneyard.core.run_folder import RunFolder, State, find_run


class Run:
    """One run. Its state, result and events are read from the run's files whenever they are asked for."""

    def __init__(self, folder: RunFolder, workspace: Workspace, notes: Sequence[str] = ()) -> None:
        self.folder = folder
        """The run folder: every file of the run by name."""
        self.notes = list(notes)
        """What was decided that the spec left open, such as the model that is evaluated; a sentence each."""
        self._workspace = workspace

    @classmethod
    def open(cls, reference: str, workspace: Workspace | None = None) -> Run:
        """The run that an id, or the beginning of one, names.

        Raises:
            RequestError: there is no such run, or more than one.
        """
        workspace = workspace or find_workspace()
        return cls(find_run(workspace.runs, reference), workspace)

    def __repr__(self) -> str:
        return f"Run({self.id!r}, {self.status!r})"

    @property
    def id(self) -> str:
        return self.folder.id

    @property
    def status(self) -> State:
        """The state: queued, preparing, waiting, running, succeeded, failed, cancelled, lost or unknown."""
        return self.folder.status().state

    @property
    def spec(self) -> dict[str, Any]:
        """The resolved spec."""
        return self.folder.read_spec()

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of the latest attempt, or None while there is nothing."""
        latest = self.folder.latest()
        return latest.read_result() if latest else None

    @property
    def metrics(self) -> dict[str, float]:
        """Name -> value; empty until the run has ended. `result` also has standard errors and n."""
        return {name: metric["value"] for name, metric in (self.result or {}).get("metrics", {}).items()}

    @property
    def artifacts(self) -> dict[str, Path]:
        """Name -> absolute path; empty until the run has ended."""
        return {a["name"]: self.folder.path / a["path"] for a in (self.result or {}).get("artifacts", [])}

    def events(self) -> Iterator[dict[str, Any]]:
        """What the latest attempt has told so far."""
        latest = self.folder.latest()
        return (event for event, _ in read_json_lines(latest.events)) if latest else iter(())

    @property
    def url(self) -> str:
        """Base URL of a server, as soon as it answers; waits for that.

        Raises:
            RequestError: the run does not serve, or has ended: `result` tells how.
        """
        from tuneyard.control.endpoints import wait_until_ready

        return wait_until_ready(self.folder)

    def wait(self, timeout: float | None = None) -> State:
        """Wait until the run has ended, at most `timeout` seconds (default: for ever); the state then."""
        return launch.wait(self.folder, timeout).state

    def cancel(self) -> None:
        """Ask for the end; returns at once. A second time, what still runs is killed.

        Raises:
            RequestError: it has ended.
        """
        launch.cancel(self._workspace, self.folder, user_name())

    def resume(self) -> None:
        """Start it again from its last checkpoint; returns at once. `notes` then tell of code that was edited.

        Raises:
            RequestError: it succeeded, or has not ended.
            SetupError: it cannot be started.
        """
        self.notes = resume_notes(self.folder)
        launch.resume(self._workspace, self.folder, resume_variables(self._workspace, self.folder))

    def remove(self) -> None:
        """Delete it and all its files.

        Raises:
            RequestError: it has not ended, or another run refers to it.
        """
        launch.remove(self._workspace, self.folder)


def user_name() -> str:
    """Who asks, as a run's files tell it."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in its passwd
        return f"user {os.getuid()}"


def resume_variables(workspace: Workspace, run: RunFolder) -> dict[str, str]:
    """Variables for the next attempt of a run: whether the hub answers may have changed since the first."""
    from tuneyard.control.resolving.hub import hub_of
    from tuneyard.control.resolving.resolve import worker_variables
    from tuneyard.core.specs import parse_spec

    return worker_variables(parse_spec(run.read_spec(), str(run.spec)), hub_of(workspace))


def resume_notes(run: RunFolder) -> list[str]:
    """What a person should know who resumes a run: which files of the user's were edited since it was made."""
    from tuneyard.core.edited_code import notes_on_edits
    from tuneyard.core.specs import parse_spec

    return notes_on_edits(run, parse_spec(run.read_spec(), str(run.spec)))


def train(spec: str | Path | Mapping[str, Any] | None = None, **fields: Any) -> Run:
    """Start a training and return at once.

    Args:
        spec: path of a spec or LLaMA-Factory YAML, or its content; relative paths in a mapping are meant from the
            current folder. Default: the fields alone, or the default training.
        fields: changes to it by name: `model=…`, `engine={…}`, `**{"engine.lora_rank": 8}`.

    Raises:
        RequestError: anything in it is wrong.
        SetupError: its environment has not been built, or the hub is needed and not to be had.
    """
    return _start("train", spec, fields)


def evaluate(spec: str | Path | Mapping[str, Any] | None = None, **fields: Any) -> Run:
    """Start an evaluation and return at once; arguments and errors as for `train`. `tasks=…` needs no spec.

    Without a model, the newest that was trained here is evaluated.
    """
    return _start("eval", spec, fields)


def serve(spec: str | Path | Mapping[str, Any] | None = None, **fields: Any) -> Run:
    """Start a server and return at once; arguments and errors as for `train`. Its `url` waits until it answers.

    Without a model, the newest that was trained here is served: `serve(adapters=["run:ID"], port=0)`.
    """
    return _start("serve", spec, fields)


def generate(spec: str | Path | Mapping[str, Any] | None = None, **fields: Any) -> Run:
    """Start a batch generation and return at once; arguments and errors as for `train`. `dataset=…` needs no spec.

    Its rows are in `artifacts["responses"]` once it has ended. Without a model, the newest that was trained here
    answers: `generate(dataset="questions.jsonl", endpoint="run:ID")` asks one that is served.
    """
    return _start("generate", spec, fields)


def _start(kind: str, spec: str | Path | Mapping[str, Any] | None, fields: dict[str, Any]) -> Run:
    from tuneyard.control.resolving.overrides import from_fields
    from tuneyard.control.resolving.request import create

    workspace = find_workspace()
    request = _request(workspace, kind, spec, from_fields(fields, Path.cwd()))
    resolved = request.resolve(workspace, kind)
    folder = create(workspace, resolved.spec, request.as_given())
    launch.start(workspace, folder, resolved.variables)
    return Run(folder, workspace, resolved.notes)


def _request(workspace: Workspace, kind: str, spec: Any, overrides: list[Any]):
    from tuneyard.control.resolving.defaults import default_request
    from tuneyard.control.resolving.request import Request, read_request

    if spec is None:
        return default_request(workspace, kind, None, overrides)
    if isinstance(spec, Mapping):
        return Request(json.loads(json.dumps(dict(spec), default=str)), Path.cwd(), "spec", overrides=overrides)
    return read_request(spec, overrides)


def runs(kind: str | None = None, limit: int | None = None) -> list[Run]:
    """The runs of this workspace, the newest first.

    Args:
        kind: train, eval, serve or generate. Default: all.
        limit: at most so many. Default: all.
    """
    from itertools import islice

    from tuneyard.control.index import newest_first

    workspace = find_workspace()
    return [Run(folder, workspace) for folder in islice(newest_first(workspace.runs, kind), limit)]
