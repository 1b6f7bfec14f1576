"""From what was asked to a spec with nothing left to decide: every default filled in, every name a path or commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.control import devices, endpoints
from tuneyard.control.environments import engine_schema
from tuneyard.control.resolving import datasets, models, tasks
from tuneyard.control.resolving.anchors import anchored, standing_folder
from tuneyard.control.resolving.batch import split_batch
from tuneyard.control.resolving.code_refs import resolve_code, with_imported_files
from tuneyard.control.resolving.engine_keys import check_engine, fit_to_schema, refuse_secrets, without_our_own
from tuneyard.control.resolving.hub import OFFLINE_VARIABLE, Hub, hub_of
from tuneyard.control.resolving.llamafactory_yaml import DATASET_KEYS, as_llamafactory, is_llamafactory, lift
from tuneyard.control.resolving.overrides import Override, apply
from tuneyard.control.resolving.scheduled import later
from tuneyard.control.resolving.serving import resolve_generate, resolve_serve, served
from tuneyard.control.resolving.task_code import code_of_tasks
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError, unknown
from tuneyard.core.kinds import ENVIRONMENTS, environment_of
from tuneyard.core.references import ModelRef
from tuneyard.core.run_folder import slug
from tuneyard.core.specs import SPECS, EvalSpec, GenerateSpec, RunSpec, ServeSpec, Spec, TrainSpec, parse_spec


@dataclass(frozen=True)
class Resolved:
    """A spec with nothing left to decide."""

    spec: Spec
    """What a run's spec.json holds."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of how it was resolved, a sentence each."""
    variables: dict[str, str] = field(default_factory=dict)
    """Variables for the worker: whether it is to do without the hub."""


def resolve(
    workspace: Workspace,
    given: dict[str, Any],
    base: Path,
    overrides: Sequence[Override] = (),
    kind: str | None = None,
    *,
    where: str = "spec",
) -> Resolved:
    """Decide everything that a spec leaves open.

    Args:
        workspace: where its runs and environments are.
        given: the spec as it was written; without `kind`, a plain LLaMA-Factory YAML.
        base: the folder that relative paths in `given` are meant from.
        overrides: changes to it, their paths absolute already.
        kind: what the command runs; a spec of another kind is refused. Default: what the spec says.
        where: the file, for messages.

    Raises:
        RequestError: anything in it is wrong.
        SetupError: its environment has not been built, or the hub is needed and not to be had.
    """
    mapping, notes = to_mapping(given, base, overrides, kind, where)
    refuse_secrets(mapping, "")
    _suggest_engine(workspace, mapping, where)
    spec = parse_spec(mapping, where)
    hub = hub_of(workspace)
    if isinstance(spec, TrainSpec):
        spec = _resolve_train(spec, workspace, hub, notes)
    elif isinstance(spec, EvalSpec):
        spec = _resolve_eval(spec, workspace, hub, notes)
    elif isinstance(spec, ServeSpec):
        spec = resolve_serve(spec, workspace, hub, notes)
    else:
        spec = resolve_generate(spec, workspace, hub, notes)
    return Resolved(spec, notes, worker_variables(spec, hub))


def to_mapping(
    given: dict[str, Any], base: Path, overrides: Sequence[Override], kind: str | None, where: str
) -> tuple[dict[str, Any], list[str]]:
    """What was asked as the mapping of a spec, with `kind`, absolute paths and overrides applied; and notes.

    Raises:
        RequestError: not a mapping, a kind that is unknown or not the command's, a wrong override.
    """
    if not isinstance(given, dict):
        raise RequestError("a spec is a mapping of keys to values", where=where)
    if "kind" not in given and kind in (None, "train") and is_llamafactory(given):
        return _lifted(given, base, overrides, where)
    mapping = apply(anchored(given, [base]), overrides)
    if "kind" not in mapping:
        if kind is None:
            raise RequestError("the key 'kind' is missing", where=where, way_out="write `kind: train` or `kind: eval`")
        mapping = {"kind": kind, **mapping}
    if mapping["kind"] not in SPECS:
        raise unknown("kind", str(mapping["kind"]), SPECS, where=where)
    if kind is not None and mapping["kind"] != kind:
        raise RequestError(
            f"is a spec of kind {mapping['kind']!r}, and {kind!r} was asked for",
            where=where,
            way_out=f"./pixiw run -e {ENVIRONMENTS[mapping['kind']]} {mapping['kind']} {where}",
        )
    return mapping, []


def _lifted(
    given: dict[str, Any], base: Path, overrides: Sequence[Override], where: str
) -> tuple[dict[str, Any], list[str]]:
    """A LLaMA-Factory YAML with overrides by its own names before it is lifted, and by ours afterwards."""
    own = {*TrainSpec.model_fields} - {*DATASET_KEYS, "seed"}
    after = [o for o in overrides if o.keys[0] in own]
    content = apply(given, [as_llamafactory(o) for o in overrides if o.keys[0] not in own])
    if any(override.keys == ("model",) for override in after):
        content.setdefault("model_name_or_path", "builtin:tiny")  # whatever stands there is replaced
    mapping, notes = lift(content, [base, standing_folder()], where)
    return apply(mapping, after), notes


def _suggest_engine(workspace: Workspace, mapping: dict[str, Any], where: str) -> None:
    """A library's setting at the top of a spec belongs under `engine`."""
    strange = [key for key in mapping if key not in SPECS[mapping["kind"]].model_fields]
    if not strange:
        return
    try:
        keys = engine_schema(workspace, environment_of(mapping))["keys"]
    except SetupError:
        return  # the key is refused without the hint
    for key in strange:
        if key in keys:
            value = mapping[key]
            raise RequestError(
                f"unknown key {key!r}: it is a setting of the library",
                where=where,
                way_out=f"write it under engine (on the command line: engine.{key}={value})",
            )


def _resolve_train(spec: TrainSpec, workspace: Workspace, hub: Hub, notes: list[str]) -> TrainSpec:
    engine = without_our_own("train", spec.engine)
    check_engine("train", engine)
    sets = {name: _datasets(spec, name, workspace, hub) for name in ("dataset", "eval_dataset")}
    callbacks = [resolve_code(code, "callbacks") for code in spec.callbacks]
    model = models.resolve_model(spec.model, workspace.runs, hub)
    adapter = _adapter(spec, model, workspace, hub)
    _refuse_adapter_without_lora(model, adapter, engine)
    gpus = devices.resolve_gpus(spec.gpus)
    processes = _processes(spec.processes, gpus)
    _refuse_nodes_here(spec.nodes)
    if spec.effective_batch_size is not None:
        engine |= split_batch(spec.effective_batch_size, processes * spec.nodes, engine)
    code = [c for name, found in sets.items() for source in found for c in datasets.code_of(source, name)]
    return spec.model_copy(
        update={
            **sets,
            "model": model,
            "adapter": adapter,
            "callbacks": callbacks,
            "gpus": gpus,
            "processes": processes,
            "name": spec.name or datasets.name_of(spec.dataset[0]),
            "code": with_imported_files([*callbacks, *(resolve_code(c, "dataset") for c in code)]),
            "engine": fit_to_schema(engine, engine_schema(workspace, "train")),
        }
    )


def _datasets(spec: TrainSpec, name: str, workspace: Workspace, hub: Hub) -> list[Any]:
    return [datasets.resolve_dataset(source, workspace.runs, hub, name) for source in getattr(spec, name)]


def _adapter(spec: TrainSpec | EvalSpec, model: ModelRef, workspace: Workspace, hub: Hub) -> ModelRef | None:
    if spec.adapter is None:
        return None
    if model.adapter is not None:
        raise RequestError(
            f"{model.reference} is a model with an adapter, and another adapter is given",
            where="adapter",
            way_out="leave `adapter` out, or give the base as the model",
        )
    return models.resolve_adapter(spec.adapter, model, workspace.runs, hub)


def _refuse_adapter_without_lora(model: ModelRef, adapter: ModelRef | None, engine: dict[str, Any]) -> None:
    finetuning = engine.get("finetuning_type", "lora")
    if finetuning == "lora" or not (adapter or model.adapter):
        return
    raise RequestError(
        f"LLaMA-Factory goes on from an adapter only with LoRA, not with finetuning_type {finetuning!r}",
        where="adapter" if adapter else "model",
        way_out="set engine.finetuning_type: lora, or train the adapter's run with merge=true and use its merged model",
    )


def _processes(asked: int | None, gpus: int) -> int:
    if asked is None:
        return max(1, gpus)
    if gpus and asked > gpus:
        raise RequestError(
            f"{asked} processes cannot share {gpus} GPU{'s' if gpus > 1 else ''}",
            where="processes",
            way_out=f"processes={gpus}, or leave it out",
        )
    return asked


def _refuse_nodes_here(nodes: int) -> None:
    if nodes > 1 and later() is None:
        raise RequestError(
            f"{nodes} nodes train together only on SLURM",
            where="nodes",
            way_out="start it on SLURM (on: slurm), or nodes=1",
        )


def _resolve_eval(spec: EvalSpec, workspace: Workspace, hub: Hub, notes: list[str]) -> EvalSpec:
    engine = without_our_own("eval", spec.engine)
    check_engine("eval", engine)
    spec = tasks.resolve_tasks(spec, hub)
    lm = resolve_code(spec.lm, "lm") if spec.lm else None
    code = with_imported_files([*([lm] if lm else []), *code_of_tasks(spec.tasks)])
    spec = spec.model_copy(update={"code": code})
    if spec.endpoint:
        return _through_endpoint(spec, workspace, hub, engine)
    model = models.given_or_newest(spec.model, workspace.runs, hub, notes) if lm is None or spec.model else None
    return spec.model_copy(
        update={
            "model": model,
            "adapter": _adapter(spec, model, workspace, hub) if model else None,
            "lm": lm,
            "gpus": devices.resolve_gpus(spec.gpus),
            "name": spec.name or _name_of_tasks(spec),
            "engine": fit_to_schema(engine, engine_schema(workspace, "eval")),
        }
    )


def _through_endpoint(spec: EvalSpec, workspace: Workspace, hub: Hub, engine: dict[str, Any]) -> EvalSpec:
    """An evaluation that asks a server: no device, and of the model only what tells its tokens."""
    endpoint = endpoints.find_endpoint(str(spec.endpoint), workspace.runs)
    model, name = served(spec, endpoint, workspace.runs, hub)
    return spec.model_copy(
        update={
            "model": model,
            "endpoint": endpoint.url,
            "endpoint_model": name,
            "gpus": 0,
            "name": spec.name or _name_of_tasks(spec),
            "engine": fit_to_schema(engine, engine_schema(workspace, "eval")),
        }
    )


def _name_of_tasks(spec: EvalSpec) -> str:
    first = spec.tasks[0].task
    file, _, inner = first.partition("@")
    return slug(inner or Path(file).stem)


def worker_variables(spec: RunSpec, hub: Hub) -> dict[str, str]:
    """Variables that tell the worker to do without the hub; none where it answers. It is asked only if it is needed."""
    online = _may_need_hub(spec) and hub.reachable
    return {} if online else {OFFLINE_VARIABLE: "1"}


def _may_need_hub(spec: RunSpec) -> bool:
    if spec.code or spec.engine.get("push_to_hub"):
        return True  # what the user's own code loads, nobody knows
    assert isinstance(spec, Spec)
    adapters = spec.adapters.values() if isinstance(spec, ServeSpec | GenerateSpec) else (spec.adapter,)
    if any(model is not None and model.path is None for model in (spec.model, *adapters)):
        return True
    if isinstance(spec, EvalSpec):
        return tasks.needs_hub(spec)
    if isinstance(spec, ServeSpec):
        return False
    sources = [spec.dataset] if isinstance(spec, GenerateSpec) else [*spec.dataset, *spec.eval_dataset]
    return any(map(datasets.needs_hub, sources))
