"""The ready specs: LLaMA-Factory's own parser accepts their arguments, as far as a machine without GPU can ask it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneyard.core.documents import read_yaml
from tuneyard.core.specs import TrainSpec, parse_spec
from tuneyard.train.arguments import Data, library_arguments
from tuneyard.train.schema import argument_classes

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[3] / "examples"
SPECS = sorted(p for p in EXAMPLES.rglob("*.yaml") if "kind: train" in p.read_text())

FOR_GPUS = {"deepspeed": None}
"""What a machine without GPU cannot even read: transformers looks for the package at once."""


def arguments(path: Path) -> dict[str, Any]:
    spec = parse_spec(read_yaml(path), str(path))
    assert isinstance(spec, TrainSpec)
    return library_arguments(spec, Data("data", ["train"]), "saves", [])


def test_there_are_specs_for_every_family_and_way() -> None:
    engines = {path.name: arguments(path) for path in SPECS}
    models = " ".join(engine["model_name_or_path"] for engine in engines.values()).lower()
    assert all(family in models for family in ("llama", "qwen2.5-vl", "gemma", "qwen"))
    assert {"deepspeed", "fsdp", "quantization_bit"} <= {key for engine in engines.values() for key in engine}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_llamafactorys_parser_accepts_an_example(path: Path) -> None:
    from llamafactory.hparams import get_train_args
    from transformers import HfArgumentParser

    values = arguments(path)
    gpu_only = {key: values[key] for key in FOR_GPUS if key in values}
    parser: Any = HfArgumentParser(argument_classes())  # type: ignore[arg-type]
    here = {**values, **{key: FOR_GPUS[key] for key in gpu_only}, "use_cpu": True}
    model, _, training, finetuning, _ = parser.parse_dict(here)
    assert set(gpu_only) <= set(vars(training))
    assert finetuning.stage == "sft"
    assert model.model_name_or_path == values["model_name_or_path"]
    get_train_args(dict(here))  # what the parser leaves to be checked between the groups


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_its_template_is_one_of_llamafactorys(path: Path) -> None:
    from llamafactory.data.template import TEMPLATES

    assert arguments(path).get("template") in {None, *TEMPLATES}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_file_for_deepspeed_is_there_and_divides_as_it_says(path: Path) -> None:
    name = arguments(path).get("deepspeed")
    if name is None:
        assert "zero" not in path.stem
        return
    settings = json.loads((path.parent / name).read_text())
    stage = settings["zero_optimization"]["stage"]
    assert f"ds_z{stage}_config.json" == name
    assert stage != 3 or settings["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]
