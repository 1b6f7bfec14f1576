"""A plain LLaMA-Factory YAML as a training spec: model, datasets and output are lifted out, the rest is `engine`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuneyard.control.resolving.anchors import anchored, existing
from tuneyard.control.resolving.datasets import INFORMATION, read_information
from tuneyard.control.resolving.overrides import Override
from tuneyard.core.errors import RequestError, unknown

NOTE = "a LLaMA-Factory YAML: its outputs go to the run folder, not to output_dir"

DATASET_KEYS = ("dataset", "eval_dataset")

_OURS = frozenset({"engine", "model", "tasks"})
_MEDIA = frozenset({"images", "videos", "audios"})
_WITHOUT_MEANING = frozenset({"output_dir", "overwrite_output_dir", "do_train", "resume_from_checkpoint"})


def is_llamafactory(given: dict[str, Any]) -> bool:
    """Whether a mapping is LLaMA-Factory's and not a spec of ours whose kind was forgotten."""
    return bool(given) and not _OURS.intersection(given)


def lift(given: dict[str, Any], bases: Sequence[Path], where: str) -> tuple[dict[str, Any], list[str]]:
    """A LLaMA-Factory YAML as a mapping of kind train, with notes for the person.

    Args:
        given: the YAML's content.
        bases: what relative paths are meant from: the file's folder, then the one the user stands in, which is
            LLaMA-Factory's own meaning. The first in which a path exists counts.
        where: the file, for messages.

    Raises:
        RequestError: no model or dataset, a dataset that dataset_info.json does not have, or what a run cannot do.
    """
    _refuse(given, where)
    rest = {k: v for k, v in given.items() if k not in _WITHOUT_MEANING}
    spec: dict[str, Any] = {"kind": "train", "model": _model(rest, where)}
    if adapter := rest.pop("adapter_name_or_path", None):
        spec["adapter"] = _one_adapter(adapter, where)
    folder = rest.pop("dataset_dir", None)
    for key in DATASET_KEYS:
        if names := _names(rest.pop(key, None)):
            spec[key] = [_source(name, folder, bases, where) for name in names]
    if (seed := rest.pop("seed", None)) is not None:
        spec["seed"] = seed
    spec["engine"] = {**_media(spec, rest), **rest}
    return anchored(spec, bases), [NOTE]


def as_llamafactory(override: Override) -> Override:
    """A change to such a file: datasets go by LLaMA-Factory's names, unless a path of the user's is there."""
    if override.keys[0] not in DATASET_KEYS:
        return override
    given, absolute = (v if isinstance(v, list) else [v] for v in (override.given, override.value))
    names = [a if a is not None and Path(str(a)).exists() else g for g, a in zip(given, absolute, strict=True)]
    return Override(override.keys, names)


def _refuse(given: dict[str, Any], where: str) -> None:
    if not given.get("dataset"):
        raise RequestError(
            "the key 'dataset' is missing", where=where, way_out="a spec of tuneyard begins with `kind:`"
        )
    if given.get("do_train") is False:
        raise RequestError(
            "do_train: false: this file does not train", where=where, way_out="`yard run --kind eval` measures a model"
        )
    if given.get("resume_from_checkpoint"):
        raise RequestError(
            "resume_from_checkpoint: a run starts in a new folder",
            where=where,
            way_out="`yard resume RUN` goes on with a run; to start from other weights name them as the model",
        )


def _model(rest: dict[str, Any], where: str) -> Any:
    model, revision = rest.pop("model_name_or_path", None), rest.pop("model_revision", None)
    if not isinstance(model, str):
        raise RequestError("the key 'model_name_or_path' is missing", where=where)
    return model if revision in (None, "main") else {"reference": model, "revision": revision}


def _one_adapter(adapter: Any, where: str) -> str:
    names = _names(adapter)
    if len(names) != 1:
        raise RequestError(
            f"adapter_name_or_path names {len(names)} adapters",
            where=where,
            way_out="merge all but the last into the base",
        )
    return names[0]


def _names(value: Any) -> list[str]:
    """LLaMA-Factory's lists are texts with commas."""
    parts = value if isinstance(value, list) else str(value).split(",") if value else []
    return [str(part).strip() for part in parts if str(part).strip()]


def _source(name: str, folder: Any, bases: Sequence[Path], where: str) -> Any:
    """One dataset: an entry of dataset_info.json; or, as an override may name it, a path or a source of ours."""
    if name.startswith(("builtin:", "run:", "/")):
        return name
    if folder == "ONLINE":
        return name
    if folder is not None and (not isinstance(folder, str) or folder.startswith("REMOTE:")):
        raise RequestError(
            f"dataset_dir {folder!r} is not on this machine",
            where=where,
            way_out="download it and name its folder, or name each dataset by its hub id in a spec of kind train",
        )
    place = existing(folder or "data", bases)
    if place is None:
        looked = " or ".join(dict.fromkeys(str(base / (folder or "data")) for base in bases))
        raise RequestError(
            f"dataset_dir: no such folder: {looked}",
            where=where,
            way_out=f"name the folder of {INFORMATION}: dataset_dir=…",
        )
    information = read_information(place, where)
    if name not in information:
        raise unknown("dataset", name, information, where=str(place / INFORMATION))
    return {"source": str(place), "name": name}


def _media(spec: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """media_dir, which LLaMA-Factory takes from dataset_dir: pictures stay where they are when the rows are copied."""
    if rest.get("media_dir"):
        return {}
    for source in (*spec.get("dataset", []), *spec.get("eval_dataset", [])):
        if isinstance(source, dict):
            entry = read_information(Path(source["source"]), "dataset")[source["name"]]
            columns = entry.get("columns")
            if isinstance(columns, dict) and _MEDIA.intersection(columns):
                return {"media_dir": source["source"]}
    return {}
