"""A workspace whose runs go to the cluster that the tests start (tests/slurm/slurm_cluster.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.control import launch
from tuneyard.control.resolving.request import Request, create
from tuneyard.control.resolving.scheduled import Later, scheduled
from tuneyard.control.slurm.script import gpus_of, options
from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder, RunStatus
from tuneyard.core.slurm_jobs import forget, read_job

if TYPE_CHECKING:
    from slurm_cluster import Cluster


@dataclass
class Yard:
    """A workspace whose runs go to the cluster; its workers are those of small_library.py."""

    workspace: Workspace
    cluster: Cluster
    made: list[RunFolder] = field(default_factory=list)

    def until(self, true: Any, seconds: float = 60.0) -> Any:
        return self.cluster.until(true, seconds)

    def make(self, kind: str = "eval", awaited: RunFolder | None = None, gpus: int = 0, **fields: Any) -> RunFolder:
        """A run, resolved and not started. `awaited` is the training that an evaluation waits for."""
        given: dict[str, Any] = {"kind": kind, "cancel_grace": 10, **fields}
        if kind == "train":
            given = {"model": "builtin:tiny", "dataset": {"source": "builtin:arithmetic", "limit": 20}} | given
        else:
            model = f"run:{awaited.id}" if awaited else "builtin:tiny"
            given = {"tasks": ["arithmetic"], "model": model} | given
        with scheduled(Later(gpus, frozenset({awaited.id} if awaited else ()))):
            resolved = Request(given, self.workspace.path, "spec").resolve(self.workspace, kind)
        run = create(self.workspace, resolved.spec, "")
        self.made.append(run)
        return run

    def start(self, slurm: dict[str, Any] | None = None, **fields: Any) -> RunFolder:
        chosen = options(self.workspace, slurm)
        run = self.make(gpus=gpus_of(chosen), **fields)
        launch.start(self.workspace, run, slurm=chosen)
        return run

    def status(self, run: RunFolder, *states: str, attempt: int = 0, seconds: float = 60.0) -> RunStatus:
        """Wait until a run is in one of these states, in this attempt or a later one."""

        def there() -> RunStatus | None:
            now = run.status()
            return now if now.state in states and now.attempt >= attempt else None

        return self.until(there, seconds)

    def step(self, run: RunFolder, attempt: int = 1, seconds: float = 60.0, count: int = 1) -> None:
        """Wait until the worker has told of so many steps."""
        events = run.attempt(attempt).events
        self.until(lambda: events.exists() and events.read_text().count('"progress"') >= count, seconds)

    def job(self, run: RunFolder) -> str:
        latest = run.latest()
        assert latest is not None
        return str(read_job(latest.job))

    def failure(self, run: RunFolder, attempt: int = 1) -> dict[str, Any]:
        """What the result of an attempt says; where the run goes on, it is written after the next attempt is made."""
        return self.until(run.attempt(attempt).read_result)["failure"]


@pytest.fixture
def yard(cluster: Cluster, desk: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    forget()
    made = Yard(desk, cluster)
    yield made
    cluster.clear()
