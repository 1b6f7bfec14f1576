"""What has to be in a model's or an adapter's folder, and whether an adapter belongs to a base: read without torch."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_NO_WEIGHTS = re.compile(r"^(?:adapter_|training_args|optimizer|scheduler|scaler|random_states|value_head)")
_LFS_POINTER = b"version https://git-lfs.github.com/spec"
_MOST_HEADER_BYTES = 100_000_000


def check_model_folder(folder: Path, where: str) -> None:
    """Whether a folder holds a model: config.json, and weights that are all there.

    Raises:
        RequestError: what is missing.
    """
    if not folder.is_dir():
        raise RequestError(f"no such folder: {folder}", where=where, way_out=_name_of_a_folder(folder))
    if not (folder / "config.json").is_file():
        raise _no_config(folder, where)
    files = weight_files(folder, where)
    if not files:
        raise RequestError(
            f"the model folder has no weights: {folder}",
            where=where,
            way_out="it needs *.safetensors or *.bin files (with several, their index too)",
        )
    for file in files:
        _check_weight_file(file, where)


def _name_of_a_folder(folder: Path) -> str:
    if folder.is_file():
        return "a model is a folder with config.json and weights, not one file"
    return "a model is a folder, `owner/name` on the hub, `run:ID` or builtin:tiny"


def _no_config(folder: Path, where: str) -> RequestError:
    if (folder / "adapter_config.json").is_file():
        base = adapter_config(folder, where).get("base_model_name_or_path")
        way_out = f"{where}={base or 'BASE'} adapter={folder}"
        return RequestError(f"is an adapter, not a model: {folder}", where=where, way_out=f"give both: {way_out}")
    return RequestError(f"the model folder has no config.json: {folder}", where=where)


def weight_files(folder: Path, where: str) -> list[Path]:
    """The files of a model's weights; with an index, those that it names.

    Raises:
        RequestError: a shard that the index names is missing, or the index cannot be read.
    """
    for index in (folder / name for name in _INDEXES):
        if index.is_file():
            return _shards(index, where)
    found = [file for kind in ("*.safetensors", "*.bin") for file in sorted(folder.glob(kind))]
    return [file for file in found if not _NO_WEIGHTS.match(file.name)]


def _shards(index: Path, where: str) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"cannot be read as an index of weights: {index}", where=where) from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        some = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise RequestError(
            f"{len(missing)} of {len(names)} files of weights are missing in {index.parent}: {some}",
            where=where,
            way_out="copy or download the model again",
        )
    return [index.parent / name for name in names]


def _check_weight_file(file: Path, where: str) -> None:
    with open(file, "rb") as stream:
        start = stream.read(len(_LFS_POINTER))
    if not start:
        raise RequestError(f"the file of weights is empty: {file}", where=where)
    if start == _LFS_POINTER:
        raise RequestError(
            f"only a pointer to the weights, not the weights: {file}",
            where=where,
            way_out=f"git -C '{file.parent}' lfs pull",
        )


def adapter_config(folder: Path, where: str) -> dict[str, Any]:
    """adapter_config.json of an adapter's folder, whose weights are checked to be there.

    Raises:
        RequestError: the folder is no adapter of PEFT.
    """
    if not folder.is_dir():
        raise RequestError(f"no such folder: {folder}", where=where, way_out="an adapter is a folder or `run:ID`")
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
    except FileNotFoundError as error:
        raise RequestError(f"the adapter folder has no adapter_config.json: {folder}", where=where) from error
    except ValueError as error:
        raise RequestError(f"not valid JSON: {folder / 'adapter_config.json'}", where=where) from error
    files = [folder / name for name in ("adapter_model.safetensors", "adapter_model.bin")]
    present = [file for file in files if file.is_file()]
    if not present:
        raise RequestError(f"the adapter folder has no weights (adapter_model.safetensors): {folder}", where=where)
    _check_weight_file(present[0], where)
    return config if isinstance(config, dict) else {}


def tensor_shapes(files: list[Path]) -> dict[str, tuple[int, ...]]:
    """Shape of every floating-point tensor in safetensors files, from their headers; other files are passed over."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        if file.suffix == ".safetensors":
            header = _safetensors_header(file)
            shapes |= {n: tuple(t["shape"]) for n, t in header.items() if t.get("dtype", "").startswith(("F", "BF"))}
    return shapes


def _adapter_shapes(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Those of an adapter; of one that is no safetensors file nothing is known."""
    file = adapter / "adapter_model.safetensors"
    return tensor_shapes([file]) if file.is_file() else {}


def _safetensors_header(file: Path) -> dict[str, Any]:
    with open(file, "rb") as stream:
        start = stream.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= size <= _MOST_HEADER_BYTES:
            return {}
        try:
            header = json.loads(stream.read(size))
        except ValueError:
            return {}
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}


_BEYOND_TEXT = re.compile(
    r"(?:^|\.)(?:(?:vision(?!_expert)|visual|audio|sound|whisper)\w*|multi_modal_projector|projector|image_projector|"
    r"connector|resampler|merger|mlp1|mlp_AR|vpm|qformer|sam_model|language_projection|embed_vision|embed_audio)\."
)
"""In names of weights: what sees or hears, and what connects it to the language model, as vLLM's models call them."""

_LORA = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight$")
_LAYER = re.compile(r"\.\d+\.")


@dataclass(frozen=True)
class Fit:
    """How the matrices of a LoRA adapter go onto a base, as far as names and shapes tell."""

    fitting: int
    """Matrices that have their place in the base."""
    reason: str | None = None
    """One sentence on the first that cannot have; None where all may."""


def fit(adapter: Path, base: Path, where: str) -> Fit:
    """Compare shapes. Names that the base spells otherwise throughout are passed over: they prove nothing."""
    wanted = _adapter_shapes(adapter)
    present = tensor_shapes(weight_files(base, where))
    families = {_LAYER.sub(".*.", name) for name in present}
    fitting = 0
    for name, shape in sorted(wanted.items()):
        match = _LORA.match(name)
        if match is None or len(shape) != 2:
            continue
        weight = f"{match['module']}.weight"
        size = shape[1] if match["side"] == "A" else shape[0]
        if size in present.get(weight, ()):
            fitting += 1
        elif weight in present:
            return Fit(fitting, f"{match['module']} takes {size} in the adapter and is {present[weight]} in the base")
        elif _LAYER.sub(".*.", weight) in families:
            return Fit(fitting, f"the base has no {weight}")
    return Fit(fitting)


def beyond_text(adapter: Path) -> str | None:
    """The first module outside the language model that an adapter changes, such as of its vision tower; None: none."""
    modules = (match["module"] for match in map(_LORA.match, sorted(_adapter_shapes(adapter))) if match)
    return next((module for module in modules if _BEYOND_TEXT.search(f"{module}.")), None)


def same_weights(one: Path, other: Path, where: str) -> bool:
    """Whether two model folders hold the same weights: file names, sizes, and the beginning and end of each file."""
    if one.resolve() == other.resolve():
        return True
    return _marks(one, where) == _marks(other, where)


def _marks(folder: Path, where: str, sample: int = 1 << 20) -> list[tuple[str, int, str]]:
    import hashlib

    marks = []
    for file in weight_files(folder, where):
        size = file.stat().st_size
        with open(file, "rb") as stream:
            digest = hashlib.sha256(stream.read(sample))
            stream.seek(max(0, size - sample))
            digest.update(stream.read(sample))
        marks.append((file.name, size, digest.hexdigest()))
    return marks
