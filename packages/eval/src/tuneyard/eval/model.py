"""The model that is evaluated: where its weights, adapter and tokenizer lie, and what cannot be evaluated at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.core.documents import validate
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import read_json
from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.references import ModelRef
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import EvalSpec

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "model*.bin", "*.gguf")
"""Files of which a model folder needs at least one."""

NO_ANSWER = (
    "SequenceClassification",
    "TokenClassification",
    "QuestionAnswering",
    "MaskedLM",
    "MultipleChoice",
    "NextSentencePrediction",
    "RewardModel",
    "ImageClassification",
)
"""Ends of the names of architectures that give no text."""


@dataclass(frozen=True)
class Source:
    """What is loaded: as the spec says it, with the adapter on top."""

    weights: str
    """Folder of the weights, or hub id."""
    revision: str | None
    adapter: str | None
    """Folder of the PEFT adapter; None for none."""
    run: str | None
    """Id of the run that trained the model or its adapter."""

    @property
    def tokenizer(self) -> str:
        """Where the tokenizer of training lies: with the adapter where it was saved there, else with the weights."""
        if self.adapter and (Path(self.adapter) / "tokenizer_config.json").is_file():
            return self.adapter
        return self.weights

    @property
    def folder(self) -> Path | None:
        """Folder of the weights, or None for a model of the hub."""
        path = Path(self.weights)
        return path if path.is_absolute() or path.exists() else None


def source_of(model: ModelRef | None, adapter: ModelRef | None = None) -> Source:
    """The source of a resolved model with an adapter.

    Raises:
        RequestError: there is no model.
    """
    if model is None:
        raise RequestError("no model is named", where="model", way_out="`model=run:ID`, a folder or a hub id")
    on_top = (adapter.adapter or adapter.name_or_path) if adapter else model.adapter
    return Source(model.name_or_path, model.revision, on_top, (adapter.run if adapter else None) or model.run)


def trained_by(source: Source, runs: Path | None = None) -> RunFolder | None:
    """The folder of the run that trained the model, or None where it has no run, or its folder is gone.

    Args:
        source: the model.
        runs: where to look besides the folder that the model or its adapter lies in.
    """
    if source.run is None:
        return None
    above = [folder for path in (source.adapter, source.weights) if path for folder in Path(path).parents]
    places = [folder for folder in above if folder.name == source.run] + ([runs / source.run] if runs else [])
    return next((RunFolder(place) for place in places if (place / "spec.json").is_file()), None)


def fingerprint_of_training(run: RunFolder | None) -> Fingerprint | None:
    """The tokens as training encoded them, or None where it left no fingerprint."""
    if run is None or not run.fingerprint.is_file():
        return None
    return validate(Fingerprint, read_json(run.fingerprint), str(run.fingerprint))


def refuse_unusable(source: Source, run: RunFolder | None) -> None:
    """Refuse what has no weights or gives no text, before a library is imported.

    Raises:
        RequestError: no folder, no weights, a reward model, a classifier, or an adapter that is none.
    """
    if run is not None and run.read_spec().get("engine", {}).get("stage") == "rm":
        raise _no_text(run.id, "a reward model (stage: rm): it scores text and writes none")
    if source.folder is not None:
        _refuse_folder(source.folder)
    if source.adapter is not None and Path(source.adapter).is_absolute():
        _refuse_adapter(Path(source.adapter))


def _refuse_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise RequestError("no such model folder", where=str(folder))
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise RequestError(
            "holds an adapter, not a model" if adapter else "holds no config.json, so it is no model folder",
            where=str(folder),
            way_out=f"give the base as `model` and this folder as `adapter={folder}`" if adapter else None,
        )
    if not any(next(folder.glob(pattern), None) for pattern in WEIGHTS):
        raise RequestError(
            f"holds no weights ({', '.join(WEIGHTS)})",
            where=str(folder),
            way_out="name a folder that a model was saved to; an interrupted download or training leaves none",
        )
    if next(folder.glob("value_head.*"), None):
        raise _no_text(str(folder), "a reward model (it has a value head): it scores text and writes none")
    _refuse_architecture(folder / "config.json")


def _refuse_architecture(config: Path) -> None:
    try:
        architectures = read_json(config).get("architectures") or []
    except (json.JSONDecodeError, AttributeError) as error:
        raise RequestError(f"is not a model configuration: {error}", where=str(config)) from error
    for name in architectures:
        bare = name.endswith("Model") and "LMHead" not in name  # as GPT2LMHeadModel, which does write
        if name.endswith(NO_ANSWER) or bare:
            raise _no_text(str(config.parent), f"a {name}, which writes no text")


def _refuse_adapter(folder: Path) -> None:
    if not (folder / "adapter_config.json").is_file():
        raise RequestError("holds no adapter (adapter_config.json)", where=str(folder))
    if not any(next(folder.glob(f"adapter_model.{end}"), None) for end in ("safetensors", "bin")):
        raise RequestError("holds no adapter weights (adapter_model.safetensors)", where=str(folder))
    if next(folder.glob("value_head.*"), None):
        raise _no_text(str(folder), "the adapter of a reward model (it has a value head): it scores text, writes none")


def _no_text(where: str, what: str) -> RequestError:
    return RequestError(
        f"is {what}", where=where, way_out="evaluate a causal language model, such as the one trained with stage: sft"
    )


def quantization(spec: EvalSpec) -> dict[str, Any] | None:
    """The `quantization_config` for 4 or 8 bit, as LLaMA-Factory trains: NF4, nested; None for weights as they are."""
    if spec.quantization_bit is None:
        return None
    if spec.quantization_bit == 8:
        return {"quant_method": "bitsandbytes", "load_in_8bit": True}
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": spec.dtype or "bfloat16",
    }


def require_quantization(spec: EvalSpec) -> None:
    """See that weights can be loaded in 4 or 8 bit, where the spec asks for it.

    Raises:
        SetupError: bitsandbytes or a CUDA device is missing.
    """
    if spec.quantization_bit is None:
        return
    from importlib.util import find_spec

    import torch

    where = f"quantization_bit: {spec.quantization_bit}"
    if not torch.cuda.is_available():
        way_out = "evaluate on a CUDA GPU, or leave quantization_bit out (`quantization_bit=null`)"
        raise SetupError("no CUDA device is visible, and bitsandbytes needs one", where=where, way_out=way_out)
    if find_spec("bitsandbytes") is None:
        raise SetupError(
            "bitsandbytes is not installed in the eval environment",
            where=where,
            way_out="`./pixiw install -e eval` on a machine with CUDA, or leave quantization_bit out",
        )


def device(spec: EvalSpec) -> str:
    """`cuda` where the run leased a GPU that torch sees, else `cpu`."""
    import torch

    return "cuda" if spec.gpus != 0 and torch.cuda.is_available() else "cpu"
