"""Model references become folders, commits, adapters and runs; what could not be loaded is refused at once."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneyard.control.resolving.hub import Hub
from tuneyard.control.resolving.models import newest_model, resolve_adapter, resolve_model
from tuneyard.control.resolving.resolve import resolve
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.references import ModelRef
from tuneyard.core.run_folder import RunFolder, create_run
from tuneyard.data.tiny import write_tiny

OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub({**OFFLINE, "HF_HOME": str(tmp_path / "hf")})


def folder_with(path: Path, **files: bytes | str) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        file = path / name.replace("__", ".")
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def tensors(shapes: dict[str, list[int]]) -> bytes:
    """A safetensors file of zeros."""
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


def adapter_for(path: Path, base: str, shapes: dict[str, list[int]] | None = None) -> Path:
    weights = tensors({f"base_model.model.{name}": shape for name, shape in (shapes or {}).items()})
    config = json.dumps({"base_model_name_or_path": base, "peft_type": "LORA"})
    folder_with(path, adapter_config__json=config, adapter_model__safetensors=weights)
    return path


def said_of(resolve: Callable[[], Any], error: type[Exception] = RequestError) -> str:
    with pytest.raises(error) as refused:
        resolve()
    return str(refused.value)


def model(reference: str, runs: Path, hub: Hub) -> ModelRef:
    return resolve_model(ModelRef(reference=reference), runs, hub)


def test_a_folder_is_a_model_when_its_weights_are_there(tiny: Path, runs: Path, hub: Hub) -> None:
    assert model(str(tiny), runs, hub).path == str(tiny)


def test_the_built_in_model_is_written_where_it_can_be_found_again(
    runs: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = (model("builtin:tiny", runs, hub) for _ in range(2))
    assert first == second and first.path and Path(first.path).is_relative_to(tmp_path / "cache")
    assert "did you mean 'tiny'?" in said_of(lambda: model("builtin:tini", runs, hub))


BROKEN: dict[str, tuple[dict[str, bytes | str], str]] = {
    "no config": ({"model__safetensors": b"x"}, "no config.json"),
    "no weights": ({"config__json": "{}"}, "no weights"),
    "only the trainer's": ({"config__json": "{}", "training_args__bin": b"x", "optimizer__bin": b"x"}, "no weights"),
    "empty weights": ({"config__json": "{}", "model__safetensors": b""}, "is empty"),
    "a pointer": (
        {"config__json": "{}", "model__safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"},
        "lfs pull",
    ),
    "a missing shard": (
        {
            "config__json": "{}",
            "model-00001-of-00002__safetensors": b"x",
            "model__safetensors__index__json": json.dumps(
                {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
            ),
        },
        "1 of 2 files of weights are missing",
    ),
    "a broken index": ({"config__json": "{}", "model__safetensors__index__json": "{"}, "index of weights"),
    "an adapter": (
        {"adapter_config__json": '{"base_model_name_or_path": "owner/base"}', "adapter_model__safetensors": b"x"},
        "model=owner/base adapter=",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_folder_that_cannot_be_loaded_is_refused(case: str, runs: Path, hub: Hub, tmp_path: Path) -> None:
    files, said = BROKEN[case]
    path = folder_with(tmp_path / 'it\'s "a" model', **files)
    assert said in said_of(lambda: model(str(path), runs, hub))


def test_what_is_no_folder_is_told_what_a_model_is(runs: Path, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    assert "no such folder" in said_of(lambda: model(str(tmp_path / "none"), runs, hub))
    assert "not one file" in said_of(lambda: model(str(tmp_path / "model.gguf"), runs, hub))
    assert "no hub id" in said_of(lambda: model("tiny", runs, hub))


def test_a_hub_model_comes_from_the_cache_where_there_is_no_hub(
    tiny: Path, runs: Path, hub: Hub, tmp_path: Path
) -> None:
    assert "(3)" in said_of(lambda: model("owner/name", runs, hub), SetupError)
    repository = hub.cache / "models--owner--name"
    (repository / "snapshots").mkdir(parents=True)
    os.symlink(tiny, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    found = model("owner/name", runs, hub)
    assert (found.path, found.revision, found.name_or_path) == (None, "abc", "owner/name")


def finished(
    runs: Path, spec: dict[str, Any], status: str = "succeeded", model: Path | None = None, adapter: Path | None = None
) -> RunFolder:
    """A training that has ended, with what it left."""
    run = create_run(runs, "train", "x")
    run.spec.write_text(json.dumps({"kind": "train", "engine": {}, **spec}))
    run.new_attempt().result.write_text(json.dumps({"status": status}))
    run.artifacts.mkdir()
    for place, source in ((run.model, model), (run.adapter, adapter)):
        if source:
            os.symlink(source, place)
    return run


def test_a_run_stands_for_the_model_it_made(tiny: Path, runs: Path, hub: Hub) -> None:
    run = finished(runs, {"model": {"reference": str(tiny), "path": str(tiny)}}, model=tiny)
    found = model(f"run:{run.id[:-1]}", runs, hub)
    assert found == ModelRef(reference=f"run:{run.id}", path=str(run.model), run=run.id)


def test_a_run_that_made_an_adapter_stands_for_it_on_its_base(tiny: Path, runs: Path, hub: Hub, tmp_path: Path) -> None:
    adapter = adapter_for(tmp_path / "adapter", str(tiny))
    run = finished(runs, {"model": {"reference": str(tiny), "path": str(tiny)}}, adapter=adapter)
    found = model(f"run:{run.id}", runs, hub)
    assert (found.path, found.adapter, found.run) == (str(tiny), str(run.adapter), run.id)
    merged = finished(runs, {"model": {"reference": str(tiny), "path": str(tiny)}}, adapter=adapter, model=tiny)
    assert model(f"run:{merged.id}", runs, hub).adapter is None


def test_the_base_from_the_hub_keeps_its_name_and_commit(runs: Path, hub: Hub, tmp_path: Path) -> None:
    base = {"reference": "owner/base", "path": None, "revision": "abc"}
    run = finished(runs, {"model": base}, adapter=adapter_for(tmp_path / "adapter", "owner/base"))
    found = model(f"run:{run.id}", runs, hub)
    assert (found.name_or_path, found.revision, found.adapter) == ("owner/base", "abc", str(run.adapter))


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_run_that_did_not_succeed_stands_for_nothing(tiny: Path, runs: Path, hub: Hub, status: str) -> None:
    run = finished(runs, {}, status=status, model=tiny)
    said = said_of(lambda: model(f"run:{run.id}", runs, hub))
    assert f"is {status}" in said and f"yard resume {run.id}" in said


def test_an_adapter_that_needs_its_merged_model_is_refused(tiny: Path, runs: Path, hub: Hub, tmp_path: Path) -> None:
    adapter = adapter_for(tmp_path / "adapter", str(tiny))
    base = {"model": {"reference": str(tiny), "path": str(tiny)}}
    added = finished(runs, {**base, "engine": {"resize_vocab": True}}, adapter=adapter)
    stacked = finished(
        runs, {**base, "adapter": {"reference": "x"}, "engine": {"create_new_adapter": True}}, adapter=adapter
    )
    for run in (added, stacked):
        assert "merge=true" in said_of(lambda run=run: model(f"run:{run.id}", runs, hub))


def test_runs_that_are_unknown_ambiguous_or_no_training_are_refused(tiny: Path, runs: Path, hub: Hub) -> None:
    assert "there is no run" in said_of(lambda: model("run:train-x-261120-1830-abc", runs, hub))
    for _ in range(2):
        finished(runs, {}, model=tiny)
    assert "is the beginning of 2 runs" in said_of(lambda: model("run:train-x", runs, hub))
    evaluation = create_run(runs, "eval", "x")
    evaluation.spec.write_text("{}")
    assert "is no training" in said_of(lambda: model(f"run:{evaluation.id}", runs, hub))


def attach(adapter: Path, base: ModelRef, runs: Path, hub: Hub) -> ModelRef:
    return resolve_adapter(ModelRef(reference=str(adapter)), base, runs, hub)


Q_PROJ = "model.layers.0.self_attn.q_proj"


def test_an_adapter_belongs_to_the_folder_it_names_and_to_a_copy_of_it(
    tiny: Path, runs: Path, hub: Hub, tmp_path: Path
) -> None:
    adapter = adapter_for(tmp_path / "adapter", str(tiny))
    copy = tmp_path / "copy"
    write_tiny(copy)
    for base in (tiny, copy):
        assert attach(adapter, ModelRef(reference=str(base), path=str(base)), runs, hub).path == str(adapter)


def test_an_adapter_for_other_weights_is_refused(tiny: Path, runs: Path, hub: Hub, tmp_path: Path) -> None:
    other = write_tiny(tmp_path / "other", seed=1)
    adapter = adapter_for(tmp_path / "adapter", str(other))
    said = said_of(lambda: attach(adapter, ModelRef(reference=str(tiny), path=str(tiny)), runs, hub))
    assert "is for another base" in said and f"model={other}" in said


def test_names_on_the_hub_must_be_the_same(runs: Path, hub: Hub, tmp_path: Path) -> None:
    adapter = adapter_for(tmp_path / "adapter", "owner/base")
    assert attach(adapter, ModelRef(reference="owner/base", revision="abc"), runs, hub).path == str(adapter)
    assert "another base" in said_of(lambda: attach(adapter, ModelRef(reference="owner/other"), runs, hub))


@pytest.mark.parametrize(
    ("shapes", "refused"),
    [
        ({f"{Q_PROJ}.lora_A.weight": [8, 128], f"{Q_PROJ}.lora_B.weight": [128, 8]}, None),
        ({f"{Q_PROJ}.lora_A.default.weight": [8, 128]}, None),
        ({f"{Q_PROJ}.lora_A.weight": [8, 4096]}, "takes 4096 in the adapter"),
        ({f"{Q_PROJ.replace('0', '31')}.lora_A.weight": [8, 128]}, "no model.layers.31"),
        ({}, "owner/base"),
    ],
)
def test_where_a_name_stands_against_a_folder_the_shapes_decide(
    tiny: Path, hub: Hub, tmp_path: Path, shapes: dict[str, list[int]], refused: str | None
) -> None:
    adapter = adapter_for(tmp_path / "adapter", "owner/base", shapes)
    base = ModelRef(reference=str(tiny), path=str(tiny))
    if refused is None:
        assert attach(adapter, base, tmp_path / "runs", hub).path == str(adapter)
    else:
        assert refused in said_of(lambda: attach(adapter, base, tmp_path / "runs", hub))


def test_no_published_adapter_is_for_the_built_in_model(tiny: Path, runs: Path, hub: Hub, tmp_path: Path) -> None:
    adapter = adapter_for(tmp_path / "adapter", "owner/base", {f"{Q_PROJ}.lora_A.weight": [8, 128]})
    base = ModelRef(reference="builtin:tiny", path=str(tiny))
    assert "another base" in said_of(lambda: attach(adapter, base, runs, hub))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no adapter_config.json"),
        ({"adapter_config__json": "{"}, "not valid JSON"),
        ({"adapter_config__json": "{}"}, "no weights (adapter_model.safetensors)"),
    ],
)
def test_a_folder_that_is_no_adapter_is_refused(
    tiny: Path, hub: Hub, tmp_path: Path, files: dict[str, str], said: str
) -> None:
    path = folder_with(tmp_path / "adapter", **files)
    assert said in said_of(lambda: attach(path, ModelRef(reference=str(tiny), path=str(tiny)), tmp_path / "runs", hub))


def test_the_adapter_of_a_run_is_found(tiny: Path, runs: Path, hub: Hub, tmp_path: Path) -> None:
    base = ModelRef(reference=str(tiny), path=str(tiny))
    run = finished(runs, {}, adapter=adapter_for(tmp_path / "adapter", str(tiny)))
    found = resolve_adapter(ModelRef(reference=f"run:{run.id}"), base, runs, hub)
    assert (found.path, found.run) == (str(run.adapter), run.id)
    full = finished(runs, {}, model=tiny)
    assert "made no adapter" in said_of(lambda: resolve_adapter(ModelRef(reference=f"run:{full.id}"), base, runs, hub))


def test_the_newest_language_model_is_evaluated_where_none_is_named(desk: Workspace, tiny: Path) -> None:
    spec = {"kind": "eval", "tasks": "arithmetic"}
    assert "no training has succeeded here yet" in said_of(lambda: resolve(desk, spec, desk.path))
    older = finished(desk.runs, {}, model=tiny)
    newest = finished(desk.runs, {}, model=tiny)
    reward = finished(desk.runs, {"engine": {"stage": "rm"}}, model=tiny)
    failed = finished(desk.runs, {}, status="failed", model=tiny)
    for age, run in enumerate((failed, reward, newest, older)):
        os.utime(run.spec, (time.time() - age, time.time() - age))
    found = resolve(desk, spec, desk.path)
    assert found.spec.model_dump()["model"]["run"] == newest.id
    assert any(newest.id in note for note in found.notes)
    assert newest_model(desk.runs) == f"run:{newest.id}"


def test_a_reward_model_gives_no_text(desk: Workspace, tiny: Path) -> None:
    reward = finished(desk.runs, {"engine": {"stage": "rm"}}, model=tiny)
    spec = {"kind": "eval", "tasks": "arithmetic", "model": f"run:{reward.id}"}
    assert "reward model" in said_of(lambda: resolve(desk, spec, desk.path))


def test_two_adapters_at_once_are_refused(desk: Workspace, tiny: Path, tmp_path: Path) -> None:
    adapter = adapter_for(tmp_path / "adapter", str(tiny))
    run = finished(desk.runs, {"model": {"reference": str(tiny), "path": str(tiny)}}, adapter=adapter)
    spec = {"kind": "eval", "tasks": "arithmetic", "model": f"run:{run.id}", "adapter": str(adapter)}
    assert "another adapter is given" in said_of(lambda: resolve(desk, spec, desk.path))


def test_only_lora_goes_on_from_an_adapter(desk: Workspace, tiny: Path, tmp_path: Path) -> None:
    spec = {"kind": "train", "model": str(tiny), "dataset": "builtin:arithmetic", "engine": {"finetuning_type": "full"}}
    spec["adapter"] = str(adapter_for(tmp_path / "adapter", str(tiny)))
    assert "only with LoRA" in said_of(lambda: resolve(desk, spec, desk.path))
