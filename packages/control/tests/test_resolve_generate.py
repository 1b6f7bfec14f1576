"""A generation is resolved until nothing is left to decide, and runs where it can; so is what asks a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneyard.control.resolving.defaults import default_request
from tuneyard.control.resolving.overrides import parse_words
from tuneyard.control.resolving.request import Request
from tuneyard.control.resolving.resolve import resolve
from tuneyard.control.starting import check_paths
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.kinds import environment_of, needs_device
from tuneyard.core.run_folder import RunFolder, create_run, now
from tuneyard.core.specs import EvalSpec, GenerateSpec

URL = "http://127.0.0.1:8123/v1"
GENERATE: dict[str, Any] = {"kind": "generate", "dataset": "builtin:arithmetic"}


def generation(desk: Workspace, **fields: Any) -> GenerateSpec:
    spec = resolve(desk, {**GENERATE, **fields}, desk.path).spec
    assert isinstance(spec, GenerateSpec)
    return spec


def refusal(desk: Workspace, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as refused:
        resolve(desk, {**GENERATE, **fields}, desk.path)
    return refused.value


def serving(desk: Workspace, *, ready: bool = True) -> RunFolder:
    """A run that serves builtin:tiny with an adapter, as far as others read it."""
    run = create_run(desk.runs, "serve", "tiny")
    model = {"reference": "builtin:tiny", "path": "/models/tiny"}
    adapter = {"reference": "run:x", "path": "/runs/x/artifacts/adapter", "run": "x"}
    spec = {"kind": "serve", "model": model, "adapters": {"x": adapter}, "served_name": "tiny"}
    run.spec.write_text(json.dumps(spec))
    attempt = run.new_attempt()
    if ready:
        attempt.events.write_text(json.dumps({"event": "ready", "time": now(), "url": URL}) + "\n")
    return run


def test_a_url_is_asked_from_the_environment_eval_without_a_device(desk: Workspace) -> None:
    spec = generation(desk, endpoint="http://127.0.0.1:8123")
    assert (spec.endpoint, spec.model, spec.gpus, spec.backend, spec.name) == (URL, None, 0, None, "arithmetic")
    assert environment_of(spec.model_dump()) == "eval" and not needs_device(spec.model_dump())


def test_a_served_run_tells_its_model_and_its_address(desk: Workspace) -> None:
    run = serving(desk)
    spec = generation(desk, endpoint=f"run:{run.id}")
    assert (spec.endpoint, spec.endpoint_model) == (URL, "tiny")
    assert spec.model is not None and spec.model.path == "/models/tiny" and spec.model.adapter is None
    adapted = generation(desk, endpoint=f"run:{run.id}", endpoint_model="x")
    assert adapted.model is not None and adapted.model.adapter == "/runs/x/artifacts/adapter"


def test_an_evaluation_through_a_server_takes_no_device(desk: Workspace) -> None:
    run = serving(desk)
    given = {"kind": "eval", "tasks": "arithmetic", "endpoint": f"run:{run.id}", "endpoint_model": "x"}
    spec = resolve(desk, given, desk.path).spec
    assert isinstance(spec, EvalSpec)
    assert (spec.endpoint, spec.endpoint_model, spec.gpus) == (URL, "x", 0)
    assert not needs_device(spec.model_dump())


def test_a_resolved_generation_resolves_to_itself(desk: Workspace) -> None:
    first = generation(desk, endpoint=URL, model="builtin:tiny", endpoint_model="tiny")
    assert resolve(desk, first.model_dump(mode="json"), Path("/elsewhere")).spec == first
    other = generation(desk, backend="transformers", model="builtin:tiny")
    assert resolve(desk, other.model_dump(mode="json"), Path("/elsewhere")).spec == other


def test_transformers_runs_in_eval_on_a_device(desk: Workspace) -> None:
    spec = generation(desk, backend="transformers", model="builtin:tiny")
    assert environment_of(spec.model_dump()) == "eval" and needs_device(spec.model_dump())
    assert spec.model is not None and Path(str(spec.model.path)).is_dir()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"endpoint": "ftp://x"}, "no address of a server"),
        ({"endpoint": "http://u:p@127.0.0.1:1"}, "no address of a server"),
        ({"endpoint": URL, "engine": {"max_model_len": 5}}, "the engine is the server's"),
        ({"endpoint": URL, "backend": "vllm"}, "leave one out"),
        ({"backend": "transformers", "model": "builtin:tiny", "structured": {"regex": "a"}}, "cannot keep answers"),
        ({"endpoint": URL, "structured": {"regex": "a", "choice": ["b"]}}, "one of the three"),
        ({"endpoint": URL, "n": 0}, "n"),
        ({"dataset": "nowhere.jsonl", "endpoint": URL}, "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_is_refused(desk: Workspace, fields: dict[str, Any], words: str) -> None:
    assert words in str(refusal(desk, **fields))


def test_a_server_that_is_not_ready_is_not_waited_for(desk: Workspace) -> None:
    error = refusal(desk, endpoint=f"run:{serving(desk, ready=False).id}")
    assert "not ready yet" in str(error) and "yard logs" in str(error.way_out)


def test_without_a_spec_a_dataset_is_enough(desk: Workspace) -> None:
    request = default_request(desk, "generate", None, parse_words(["dataset=builtin:arithmetic"], desk.path)[1])
    assert request.given == {"kind": "generate"}
    with pytest.raises(RequestError, match="no SPEC") as refused:
        default_request(desk, "generate", None, [])
    assert "dataset=" in str(refused.value.way_out)


@pytest.mark.parametrize("url", ["https://example.com/v1", "http://127.0.0.1.example.com/v1", "http://10.0.0.1/v1"])
def test_agents_send_nothing_to_other_machines(desk: Workspace, url: str) -> None:
    request = Request({**GENERATE, "endpoint": url}, desk.path, "fields")
    with pytest.raises(RequestError, match="no server on this machine"):
        check_paths(desk, request, "generate")
    check_paths(desk, Request({**GENERATE, "endpoint": URL}, desk.path, "fields"), "generate")
