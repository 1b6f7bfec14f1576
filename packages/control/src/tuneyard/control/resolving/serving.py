"""Resolving what serves or generates; see `resolve` for the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from tuneyard.control import devices, endpoints
from tuneyard.control.environments import engine_schema
from tuneyard.control.resolving import datasets, models, vllm
from tuneyard.control.resolving.code_refs import resolve_code, with_imported_files
from tuneyard.control.resolving.engine_keys import check_engine, fit_to_schema, without_our_own
from tuneyard.control.resolving.hub import Hub
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.references import ModelRef
from tuneyard.core.run_folder import RunFolder, slug
from tuneyard.core.specs import EvalSpec, GenerateSpec, ServeSpec


def served(
    spec: EvalSpec | GenerateSpec, endpoint: endpoints.Endpoint, runs: Path, hub: Hub
) -> tuple[ModelRef | None, str | None]:
    """The model behind an endpoint, as far as it is known here, and the name under which the server knows it."""
    if spec.model is not None:
        return models.resolve_model(spec.model, runs, hub), spec.endpoint_model
    if endpoint.run is None:
        return None, spec.endpoint_model
    served = RunFolder(runs / endpoint.run).read_spec()
    name = spec.endpoint_model or served["served_name"]
    model = ModelRef.model_validate(served["model"])
    if name == served["served_name"]:
        return model, name
    if name not in served["adapters"]:
        return None, name  # added while it runs
    adapter = ModelRef.model_validate(served["adapters"][name])
    return model.model_copy(update={"adapter": adapter.path, "run": adapter.run}), name


def resolve_serve(spec: ServeSpec, workspace: Workspace, hub: Hub, notes: list[str]) -> ServeSpec:
    engine = without_our_own("serve", spec.engine)
    check_engine("serve", engine)
    model = models.given_or_newest(spec.model, workspace.runs, hub, notes)
    adapters, model = _served_adapters(spec.adapters, model, workspace, hub)
    found, room = vllm.resolve_adapters(adapters, model.model_copy(update={"adapter": None}), workspace.runs, hub)
    name = spec.served_name or model.run or model.reference
    if name in found:
        raise RequestError(f"the model and an adapter are both called {name!r}", where="served_name")
    engine = room | fit_to_schema(engine, engine_schema(workspace, "serve"))
    return spec.model_copy(
        update={
            "model": model,
            "adapters": found,
            "served_name": name,
            "port": endpoints.check_address(spec.host, spec.port),
            "gpus": devices.resolve_gpus(vllm.serving_devices(engine, _number(spec.gpus))),
            "name": spec.name or slug(model.run or Path(model.reference).name),
            "engine": engine,
        }
    )


def _number(gpus: int | str | None) -> int | None:
    return len(devices.gpus()) if gpus == "all" else gpus if isinstance(gpus, int) else None


def _served_adapters(
    given: dict[str, ModelRef], model: ModelRef, workspace: Workspace, hub: Hub
) -> tuple[dict[str, ModelRef], ModelRef]:
    """The adapters with the one that `model` names among them, and the bare base: a server keeps them apart."""
    if model.adapter is None:
        return given, model
    own = ModelRef(reference=f"run:{model.run}" if model.run else model.adapter)
    name = model.run or Path(model.adapter).name
    return {name: own, **given}, _base(model, workspace.runs)


def _base(model: ModelRef, runs: Path) -> ModelRef:
    """The model below an adapter, called as the run that made the adapter called it."""
    if model.run is None:
        return model.model_copy(update={"adapter": None})
    trained = ModelRef.model_validate(RunFolder(runs / model.run).read_spec()["model"])
    return trained.model_copy(update={"adapter": None, "path": model.path})


def resolve_generate(spec: GenerateSpec, workspace: Workspace, hub: Hub, notes: list[str]) -> GenerateSpec:
    engine = without_our_own("generate", spec.engine)
    check_engine("generate", engine)
    source = datasets.resolve_dataset(spec.dataset, workspace.runs, hub, "dataset")
    update: dict[str, Any] = {
        "dataset": source,
        "name": spec.name or datasets.name_of(source),
        "code": with_imported_files([resolve_code(c, "dataset") for c in datasets.code_of(source, "dataset")]),
    }
    if spec.endpoint:
        return spec.model_copy(update=update | _asked_of_server(spec, engine, workspace, hub))
    backend = _backend(spec, notes)
    model = models.given_or_newest(spec.model, workspace.runs, hub, notes)
    adapters, model = _served_adapters(spec.adapters, model, workspace, hub)
    if backend == "vllm":
        found, room = vllm.resolve_adapters(adapters, model, workspace.runs, hub)
        engine = room | fit_to_schema(engine, engine_schema(workspace, "serve"))
    else:
        found = {n: models.resolve_adapter(a, model, workspace.runs, hub, f"adapters.{n}") for n, a in adapters.items()}
    gpus = devices.resolve_gpus(vllm.serving_devices(engine, _number(spec.gpus)))
    return spec.model_copy(
        update=update | {"model": model, "adapters": found, "backend": backend, "gpus": gpus, "engine": engine}
    )


def _backend(spec: GenerateSpec, notes: list[str]) -> Literal["vllm", "transformers"]:
    """What computes here; transformers refuses at once what it cannot do."""
    backend = spec.backend or ("vllm" if sys.platform == "linux" else "transformers")
    if spec.backend is None and backend == "transformers":
        notes.append("vLLM is not built for this system: transformers computes, which is slower")
    if backend == "transformers" and spec.structured is not None:
        raise RequestError(
            "transformers cannot keep answers to a form",
            where="structured",
            way_out="backend=vllm, or an endpoint that vLLM serves",
        )
    return backend


def _asked_of_server(spec: GenerateSpec, engine: dict[str, Any], workspace: Workspace, hub: Hub) -> dict[str, Any]:
    if spec.backend:
        raise RequestError("a server computes, and a backend is named", where="backend", way_out="leave one out")
    if engine:
        raise RequestError("the engine is the server's: it was set up when that started", where="engine")
    endpoint = endpoints.find_endpoint(str(spec.endpoint), workspace.runs)
    model, name = served(spec, endpoint, workspace.runs, hub)
    return {"model": model, "endpoint": endpoint.url, "endpoint_model": name, "gpus": 0, "backend": None}
