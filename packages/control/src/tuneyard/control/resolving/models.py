"""Model references: from what a person wrote to folders and commits that a worker loads without deciding anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneyard.control.resolving.hub import Hub
from tuneyard.control.resolving.model_files import adapter_config, check_model_folder, fit, same_weights
from tuneyard.control.resolving.scheduled import later
from tuneyard.core.errors import RequestError
from tuneyard.core.references import HUB_ID, ModelRef
from tuneyard.core.run_folder import RunFolder, find_run

NO_LANGUAGE_MODEL = frozenset({"rm"})
"""Stages whose outcome gives rewards, not text."""


def resolve_model(reference: ModelRef, runs: Path, hub: Hub, where: str = "model") -> ModelRef:
    """A model reference with its folder, commit, adapter and run filled in.

    Args:
        reference: its `reference` decides; relative paths in it are absolute already.
        runs: the folder of all runs.
        hub: asked for the commit of a hub id.
        where: the field, for messages.

    Raises:
        RequestError: no such model, no weights, a run that made none, or an adapter for another base.
        SetupError: the hub is needed and cannot be reached.
    """
    text = reference.reference
    if text.startswith("run:"):
        return _from_run(text, runs, hub, where)
    if text.startswith("builtin:"):
        return reference.model_copy(update={"path": str(_materialised(text, where)), "revision": None})
    if Path(text).is_absolute():
        check_model_folder(Path(text), where)
        resolved = reference.model_copy(update={"path": text, "revision": None})
    else:
        resolved = _from_hub(reference, hub, where)
    return resolved if resolved.adapter is None else _with_adapter(resolved, Path(resolved.adapter), hub, where)


def _materialised(text: str, where: str) -> Path:
    from tuneyard.data.builtin import materialise_model

    try:
        return materialise_model(text)
    except RequestError as error:
        raise RequestError(error.message, where=error.where or where, way_out=error.way_out) from error


def _from_hub(reference: ModelRef, hub: Hub, where: str) -> ModelRef:
    name = reference.reference
    if not HUB_ID.match(name):
        raise RequestError(
            f"{name!r} is no folder and no hub id",
            where=where,
            way_out="a model is a folder, `owner/name` on the hub, `run:ID` or builtin:tiny",
        )
    commit = hub.freeze("models", name, reference.revision, where)
    if not hub.reachable and (snapshot := hub.cached("models", name, commit)):
        check_model_folder(snapshot, where)
    return reference.model_copy(update={"path": None, "revision": commit})


def model_run(text: str, runs: Path, where: str) -> RunFolder:
    """The training run that `run:ID` names; it must have succeeded.

    Raises:
        RequestError: no such run, not a training, or not succeeded.
    """
    run = find_run(runs, text)
    if run.kind != "train":
        raise RequestError(f"{run.id} is no training: it made no model", where=where)
    status = run.status()
    if status.state != "succeeded":
        way_out = f"yard logs {run.id} -f" if not status.ended else f"yard show {run.id}; yard resume {run.id}"
        raise RequestError(f"{run.id} is {status.state}: its model is not there", where=where, way_out=way_out)
    return run


def stage_of(spec: dict[str, Any]) -> str:
    """The training stage of a spec.json; LLaMA-Factory's own default is sft."""
    return str(spec.get("engine", {}).get("stage", "sft"))


def stage_of_run(runs: Path, run_id: str) -> str | None:
    """The training stage of a run, or None where its folder is gone."""
    run = RunFolder(runs / run_id)
    return stage_of(run.read_spec()) if run.spec.is_file() else None


def _from_run(text: str, runs: Path, hub: Hub, where: str) -> ModelRef:
    job = later()
    if job is not None and (awaited := find_run(runs, text)).id in job.awaited:
        return ModelRef(reference=f"run:{awaited.id}", run=awaited.id)  # resolved once more when the job begins
    run = model_run(text, runs, where)
    if run.model.is_dir():
        check_model_folder(run.model, where)
        return ModelRef(reference=f"run:{run.id}", path=str(run.model), run=run.id)
    if not run.adapter.is_dir():
        raise RequestError(f"{run.id} left neither a model nor an adapter", where=where, way_out=f"yard show {run.id}")
    return _on_base(run, run.read_spec(), hub, where)


def _on_base(run: RunFolder, spec: dict[str, Any], hub: Hub, where: str) -> ModelRef:
    """The adapter that a run made, on the base that it was made for."""
    _refuse_unmergeable(run, spec, where)
    base = ModelRef.model_validate(spec["model"])
    adapter = str(run.adapter)
    if base.path is None:
        snapshot = hub.cached("models", base.reference, base.revision)
        if snapshot is None:  # its name and commit are what a worker loads
            return ModelRef(reference=base.reference, revision=base.revision, adapter=adapter, run=run.id)
        base = base.model_copy(update={"path": str(snapshot)})
    if base.reference.startswith("builtin:"):
        base = base.model_copy(update={"path": str(_materialised(base.reference, where))})
    check_model_folder(Path(str(base.path)), f"{where}: the base of {run.id}")
    return ModelRef(reference=f"run:{run.id}", path=base.path, adapter=adapter, run=run.id)


def _refuse_unmergeable(run: RunFolder, spec: dict[str, Any], where: str) -> None:
    """Adapters that do not fit onto their bare base: with added tokens, or made on top of another adapter."""
    engine = spec.get("engine", {})
    added = engine.get("resize_vocab") and "it added tokens to the vocabulary"
    stacked = spec.get("adapter") and engine.get("create_new_adapter") and "it was made on top of another adapter"
    if reason := added or stacked:
        raise RequestError(
            f"the adapter of {run.id} does not fit onto its bare base: {reason}",
            where=where,
            way_out="train it with merge=true, which also leaves the merged model",
        )


def resolve_adapter(reference: ModelRef, model: ModelRef, runs: Path, hub: Hub, where: str = "adapter") -> ModelRef:
    """An adapter reference with the adapter's folder as `path`; it must belong to `model`.

    Raises:
        RequestError: no adapter there, or one for another base.
        SetupError: the hub is needed and cannot be reached.
    """
    text = reference.reference
    if text.startswith("run:"):
        run = model_run(text, runs, where)
        if not run.adapter.is_dir():
            raise RequestError(f"{run.id} made no adapter", where=where, way_out=f"model=run:{run.id}")
        check_adapter(run.adapter, model, hub, where)
        return ModelRef(reference=f"run:{run.id}", path=str(run.adapter), run=run.id)
    if Path(text).is_absolute():
        check_adapter(Path(text), model, hub, where)
        return reference.model_copy(update={"path": text, "revision": None})
    if not HUB_ID.match(text):
        raise RequestError(f"{text!r} is no folder and no hub id", where=where, way_out="a folder, `run:ID` or hub id")
    commit = hub.freeze("models", text, reference.revision, where)
    folder = hub.adapter(text, commit, where)
    check_adapter(folder, model, hub, where)
    return reference.model_copy(update={"path": str(folder), "revision": commit})


def _with_adapter(model: ModelRef, adapter: Path, hub: Hub, where: str) -> ModelRef:
    check_adapter(adapter, model, hub, f"{where}.adapter")
    return model


def check_adapter(adapter: Path, model: ModelRef, hub: Hub, where: str) -> None:
    """Whether the adapter in a folder was made for a model.

    Two hub names must be the same; two folders must hold the same weights. Where a name stands against a folder,
    which may be a copy under another name, the shapes of the matrices decide.

    Raises:
        RequestError: no adapter, or one for another base.
    """
    base = adapter_config(adapter, where).get("base_model_name_or_path") or ""
    folder, named = _folder_of(model, hub), _folder_named(base, hub)
    if base == model.reference:
        return
    from_hub = HUB_ID.match(base) is not None
    if from_hub and (model.path is None or model.reference.startswith("builtin:")):
        raise _other_base(adapter, base, model, where)
    if folder is None:
        return  # a base that is still to be downloaded: the worker's library will compare
    if named is not None:
        if not same_weights(named, folder, where):
            raise _other_base(adapter, base, model, where)
        return
    shapes = fit(adapter, folder, where)
    if shapes.reason or (base and not shapes.fitting):
        raise _other_base(adapter, base or "unknown", model, where, shapes.reason)


def _folder_of(model: ModelRef, hub: Hub) -> Path | None:
    return Path(model.path) if model.path else hub.cached("models", model.reference, model.revision)


def _folder_named(base: str, hub: Hub) -> Path | None:
    """The model folder that an adapter's base_model_name_or_path means on this machine, where it can be found."""
    if Path(base).is_absolute():
        return Path(base) if (Path(base) / "config.json").is_file() else None
    return hub.cached("models", base) if HUB_ID.match(base) else None


def _other_base(adapter: Path, base: str, model: ModelRef, where: str, reason: str | None = None) -> RequestError:
    return RequestError(
        f"the adapter in {adapter} is for another base: it was made for {base}, and the model is {model.reference}"
        + (f" ({reason})" if reason else ""),
        where=where,
        way_out=f"model={base}",
    )


def newest_model(runs: Path) -> str | None:
    """`run:ID` of this user's newest succeeded run that produced a causal language model, or None."""
    import os

    from tuneyard.control.index import newest_first

    for run in newest_first(runs, kind="train", owner=os.getuid()):
        attempt = run.latest()
        result = attempt.read_result() if attempt else None
        if result is None or result["status"] != "succeeded" or stage_of(run.read_spec()) in NO_LANGUAGE_MODEL:
            continue
        if run.model.is_dir() or run.adapter.is_dir():
            return f"run:{run.id}"
    return None


def given_or_newest(reference: ModelRef | None, runs: Path, hub: Hub, notes: list[str]) -> ModelRef:
    """The model that was given, resolved, else the newest that was trained here, which a note then tells.

    Raises:
        RequestError: as `resolve_model`; there is none yet; or it gives rewards, not text.
    """
    if reference is None:
        newest = newest_model(runs)
        if newest is None:
            raise RequestError(
                "no model is given, and no training has succeeded here yet",
                where="model",
                way_out="./pixiw run -e train train, or name one: model=run:ID, model=FOLDER, model=owner/name",
            )
        notes.append(f"no model was given: {newest}, the newest that was trained here, is taken")
        reference = ModelRef(reference=newest)
    model = resolve_model(reference, runs, hub)
    if model.run and stage_of_run(runs, model.run) in NO_LANGUAGE_MODEL:
        raise RequestError(
            f"{model.run} trained a reward model, which gives no text",
            where="model",
            way_out="name a run of stage sft, pt, dpo or kto",
        )
    return model
