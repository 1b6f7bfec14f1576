"""What a program may start: nothing from outside the workspace, and the same thing not twice by mistake."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tuneyard.control import launch
from tuneyard.control.resolving.overrides import from_fields
from tuneyard.control.resolving.request import Request
from tuneyard.control.starting import check_paths, library_arguments, start_once
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError

TRAIN = {"model": "builtin:tiny", "dataset": {"source": "builtin:arithmetic", "digits": 1, "size": 20}}


def asked(workspace: Workspace, given: dict[str, Any] | None = None, **fields: Any) -> Request:
    overrides = from_fields(fields, workspace.path)
    return Request(TRAIN if given is None else given, workspace.path, "spec", overrides=overrides)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (folder / "code.py").write_text("def f(*a): ...\n")
    (folder / "dataset_info.json").write_text('{"rows": {"file_name": "rows.jsonl"}}')
    return folder


def test_what_runs_already_is_not_started_again(desk: Workspace) -> None:
    request = asked(desk, **{"engine.pause": 0.3, "engine.max_steps": 100})
    first = start_once(desk, request, "train")
    second = start_once(desk, request, "train")
    assert (first.existing, second.existing) == (False, True)
    assert second.run == first.run
    other = start_once(desk, asked(desk, seed=7, **{"engine.pause": 0.3, "engine.max_steps": 100}), "train")
    assert not other.existing
    third = start_once(desk, request, "train", again=True)
    assert third.run.id not in (first.run.id, other.run.id)
    for run in (first.run, other.run, third.run):
        launch.cancel(desk, run, "test")
        launch.cancel(desk, run, "test")
        assert launch.wait(run, 60).ended
    after = start_once(desk, asked(desk), "train")
    assert not after.existing
    assert launch.wait(after.run, 60).state == "succeeded"
    again = start_once(desk, asked(desk), "train")
    assert not again.existing  # an ended run is no reason not to start
    launch.wait(again.run, 60)


def test_two_who_ask_at_the_same_moment_get_the_same_run(desk: Workspace) -> None:
    request = asked(desk, **{"engine.pause": 0.3, "engine.max_steps": 100})
    request.resolve(desk, "train")  # so that nobody has to ask the worker first
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: start_once(desk, request, "train"), range(6)))
    assert len({f.run.id for f in found}) == 1
    assert sorted(f.existing for f in found) == [False] + [True] * 5
    launch.cancel(desk, found[0].run, "test")
    launch.cancel(desk, found[0].run, "test")
    assert launch.wait(found[0].run, 60).ended


def test_the_librarys_arguments_leave_nothing_behind(desk: Workspace) -> None:
    found = library_arguments(desk, asked(desk).resolve(desk, "train"))
    assert found["command"] == ["small", "library"]
    assert not desk.runs.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"dataset": "{outside}/rows.jsonl"},
        {"dataset": "../outside/rows.jsonl"},
        {"dataset": "link/rows.jsonl"},
        {"dataset": {"source": "{outside}", "name": "rows"}},
        {"dataset": [{"source": "rows.jsonl", "converter": "link/code.py:f"}]},
        {"dataset": [{"source": "rows.jsonl", "filter": "code-link.py:f"}]},
        {"model": "{outside}"},
        {"model": "/no/such/model"},
        {"model": {"reference": "builtin:tiny", "adapter": "../outside"}},
        {"adapter": "~root"},
        {"callbacks": ["{outside}/code.py:f"]},
        {"engine": {"deepspeed": "../outside/zero.json"}},
        {"engine": {"media_dir": "/etc"}},
        {"engine": {"resume_from": "{outside}/rows.jsonl"}},
        {"engine": {"some_output": "{outside}/new"}},
        {"engine": {"nested": [{"file": "link/new"}]}},
        {"engine.tokenized_path": "{outside}/new/deeper"},
    ],
)
def test_paths_outside_the_workspace_are_refused(desk: Workspace, outside: Path, fields: dict[str, Any]) -> None:
    (desk.path / "rows.jsonl").write_text("{}\n")
    (desk.path / "link").symlink_to(outside)
    (desk.path / "code-link.py").symlink_to(outside / "code.py")
    request = asked(desk, **placed(fields, outside))
    with pytest.raises(RequestError, match="outside the workspace"):
        check_paths(desk, request, "train")
    desk.settings_file.write_text(f"allowed_paths: [{str(outside)!r}, /etc, /no, /root]\n")
    check_paths(Workspace(desk.path), request, "train")


def placed(value: Any, outside: Path) -> Any:
    if isinstance(value, dict):
        return {key: placed(entry, outside) for key, entry in value.items()}
    if isinstance(value, list):
        return [placed(entry, outside) for entry in value]
    return value.replace("{outside}", str(outside)) if isinstance(value, str) else value


@pytest.mark.parametrize("key", ["dataset_dir", "model_name_or_path", "adapter_name_or_path", "media_dir"])
def test_a_llamafactory_yaml_reaches_no_further(desk: Workspace, outside: Path, key: str) -> None:
    given = {"model_name_or_path": "owner/name", "dataset": "rows", "dataset_dir": str(desk.path), "stage": "sft"}
    (desk.path / "dataset_info.json").write_text('{"rows": {"file_name": "rows.jsonl"}}')
    check_paths(desk, Request(given, desk.path, "spec"), "train")
    with pytest.raises(RequestError, match="outside the workspace"):
        check_paths(desk, Request({**given, key: str(outside)}, desk.path, "spec"), "train")


@pytest.mark.parametrize("tasks", [["/etc/tasks"], ["../outside/code.py@f"], ["link/code.py@f"], [{"task": "/etc"}]])
def test_tasks_outside_the_workspace_are_refused(desk: Workspace, outside: Path, tasks: list[Any]) -> None:
    (desk.path / "link").symlink_to(outside)
    with pytest.raises(RequestError, match="outside the workspace"):
        check_paths(desk, Request({"tasks": tasks}, desk.path, "spec"), "eval")


def test_names_that_are_no_paths_pass(desk: Workspace) -> None:
    os.makedirs(desk.path / "data")
    engine = {"default_system": "/no_think and/or more\nlines", "template": "data", "x": "a" * 5_000_000, "y": "a\0b"}
    check_paths(desk, asked(desk, engine=engine, model="owner/name", name="data"), "train")
    check_paths(desk, Request({"tasks": ["gsm8k", "inspect_evals/gsm8k"]}, desk.path, "spec"), "eval")
