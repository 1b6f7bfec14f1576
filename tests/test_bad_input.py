"""Bad input, as a person gives it to the command: a clear message, the right exit code, nothing half-made."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Done, Yard

from tuneyard.data.tiny import write_tiny

ROWS = [{"instruction": f"Say {n}.", "input": "", "output": str(n)} for n in range(20)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def spec(rows: Path, tmp_path: Path) -> Callable[..., Path]:
    """A training spec of two steps that would work, with changes."""

    def write(text: str | None = None, **changes: Any) -> Path:
        engine = {"stage": "sft", "finetuning_type": "full", "max_steps": 2, **changes.pop("engine", {})}
        content = {"kind": "train", "model": "builtin:tiny", "dataset": str(rows), "engine": engine, **changes}
        path = tmp_path / "spec.yaml"
        path.write_text(text if text is not None else yaml.safe_dump(content))
        return path

    return write


def refused(done: Done, yard: Yard, *words: str, code: int = 2) -> None:
    """The command ended with `code`, said every word, and left no run."""
    assert done.code == code, done.out + done.err
    for word in words:
        assert word in done.err
    assert "Traceback" not in done.err
    assert not yard.runs.exists() or not os.listdir(yard.runs)


def failed(done: Done, *words: str) -> None:
    """The run was made, and ended without a device having been taken."""
    assert done.code in (1, 2, 3), done.out + done.err
    for word in words:
        assert word in done.out + done.err, done.out + done.err
    assert "Traceback" not in done.err


def test_an_unknown_key_is_answered_with_the_nearest(lonely_yard: Yard, spec: Callable[..., Path]) -> None:
    refused(lonely_yard("run", spec(datset="x")), lonely_yard, "datset", "did you mean 'dataset'?")


def test_a_tab_is_named_with_its_line(lonely_yard: Yard, spec: Callable[..., Path]) -> None:
    path = spec("kind: train\nengine:\n\tstage: sft\n")
    refused(lonely_yard("run", path), lonely_yard, f"{path}:3", "a tab")


def test_a_duplicate_key_is_named_with_its_line(lonely_yard: Yard, spec: Callable[..., Path]) -> None:
    path = spec("kind: train\nseed: 1\nseed: 2\n")
    refused(lonely_yard("run", path), lonely_yard, f"{path}:3", "duplicate key 'seed'")


def test_a_learning_rate_may_be_written_3e_4(lonely_yard: Yard, spec: Callable[..., Path]) -> None:
    path = spec()
    path.write_text(path.read_text().replace("engine:\n", "engine:\n  learning_rate: 3e-4\n"))
    done = lonely_yard("run", path, "--dry-run", "--json")
    assert done.code == 0, done.err
    assert done.json["spec"]["engine"]["learning_rate"] == 3e-4


def test_a_missing_file_is_named(lonely_yard: Yard, tmp_path: Path) -> None:
    refused(lonely_yard("run", tmp_path / "none.yaml"), lonely_yard, "none.yaml", "no such file")


def test_a_missing_dataset_is_named(lonely_yard: Yard, spec: Callable[..., Path]) -> None:
    refused(lonely_yard("run", spec(dataset="./nowhere.jsonl")), lonely_yard, "nowhere.jsonl")


def test_a_broken_line_is_shown_with_its_number_and_nothing_is_trained(
    lonely_yard: Yard, spec: Callable[..., Path], rows: Path
) -> None:
    lines = rows.read_text().splitlines()
    lines[6] = '{"instruction": "Say 6.", "output": '
    rows.write_text("\n".join(lines) + "\n")
    done = lonely_yard("run", spec())
    failed(done, "rows.jsonl:7", '"Say 6."')
    assert not list(lonely_yard.runs.glob("*/artifacts/raw"))


def test_an_empty_dataset_is_refused(lonely_yard: Yard, spec: Callable[..., Path], rows: Path) -> None:
    rows.write_text("")
    failed(lonely_yard("run", spec()), "rows.jsonl", "empty")


def test_a_wrong_column_is_answered_with_those_that_there_are(
    lonely_yard: Yard, spec: Callable[..., Path], rows: Path
) -> None:
    dataset = {"source": str(rows), "columns": {"prompt": "instruktion", "response": "output"}}
    failed(lonely_yard("run", spec(dataset=dataset)), "instruktion", "instruction")


def test_no_record_left_after_a_filter_is_told(
    lonely_yard: Yard, spec: Callable[..., Path], rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "keep.py").write_text("def none(record):\n    return False\n")
    dataset = {"source": str(rows), "filter": "./keep.py:none"}
    failed(lonely_yard("run", spec(dataset=dataset)), "filter", "20")


def test_a_model_folder_without_weights_is_refused(
    lonely_yard: Yard, spec: Callable[..., Path], tmp_path: Path
) -> None:
    model = write_tiny(tmp_path / "model")
    (model / "model.safetensors").unlink()
    refused(lonely_yard("run", spec(model=str(model))), lonely_yard, str(model), "weights")


def test_an_adapter_for_another_base_is_refused(lonely_yard: Yard, spec: Callable[..., Path], tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "Qwen/Qwen2.5-7B", "peft_type": "LORA", "r": 8})
    )
    (adapter / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    refused(lonely_yard("run", spec(adapter=str(adapter))), lonely_yard, "Qwen/Qwen2.5-7B")


def test_a_key_that_the_installed_version_does_not_know_is_refused(
    lonely_yard: Yard, spec: Callable[..., Path]
) -> None:
    done = lonely_yard("run", spec(engine={"lora_rnak": 8}))
    refused(done, lonely_yard, "lora_rnak", "did you mean 'lora_rank'?")


def test_ppo_is_refused_with_the_reason_and_the_way_out(lonely_yard: Yard, spec: Callable[..., Path]) -> None:
    refused(lonely_yard("run", spec(engine={"stage": "ppo"})), lonely_yard, "ppo", "trl", "dpo")


def test_an_impossible_batch_size_is_answered_with_the_nearest_possible(
    lonely_yard: Yard, spec: Callable[..., Path]
) -> None:
    done = lonely_yard("run", spec(effective_batch_size=10, engine={"per_device_train_batch_size": 4}))
    refused(done, lonely_yard, "effective_batch_size", "8", "12")


def test_a_run_that_does_not_exist_is_told(lonely_yard: Yard) -> None:
    for command in ("show", "logs", "cancel", "resume", "rm"):
        refused(lonely_yard(command, "train-nothing-261120-1830-abc"), lonely_yard, "there is no run")


def test_an_ambiguous_run_is_told_with_the_candidates(lonely_yard: Yard) -> None:
    for name in ("train-a-261120-1830-abc", "train-a-261120-1831-abd"):
        (lonely_yard.runs / name).mkdir(parents=True)
        (lonely_yard.runs / name / "spec.json").write_text("{}")
    done = lonely_yard("show", "train-a")
    assert done.code == 2
    assert "train-a-261120-1830-abc" in done.err and "train-a-261120-1831-abd" in done.err


def test_errors_are_json_where_json_was_asked_for(lonely_yard: Yard, spec: Callable[..., Path]) -> None:
    done = lonely_yard("run", spec(datset="x"), "--json")
    assert done.code == 2
    assert done.json["error"]["way_out"] == "did you mean 'dataset'?"
    assert done.json["error"]["exit_code"] == 2


def test_without_a_hub_it_is_said_within_ten_seconds_with_three_ways_out(
    lonely_yard: Yard, spec: Callable[..., Path]
) -> None:
    path = spec(model="nobody/no-such-model")
    start = time.monotonic()
    done = lonely_yard("run", path, env={"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"})
    assert time.monotonic() - start < 10
    refused(done, lonely_yard, "hub", "HF_HOME", "HF_ENDPOINT", "folder", code=3)


@pytest.fixture
def small_disk(tmp_path: Path):
    place = tmp_path / "small disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_ends_the_run_with_a_word_and_no_torn_file(
    lonely_yard: Yard, spec: Callable[..., Path], small_disk: Path
) -> None:
    settings = lonely_yard.workspace / "tuneyard.yaml"
    settings.write_text(settings.read_text() + yaml.safe_dump({"runs": str(small_disk / "runs")}))
    dataset = {"source": "builtin:arithmetic", "digits": 3, "size": 50_000}
    done = lonely_yard("run", spec(dataset=dataset))
    failed(done, "no space left", "yard rm")
    for path in small_disk.rglob("*.json"):
        if path.name != "supervisor.json":
            json.loads(path.read_bytes())


@pytest.mark.slow
def test_paths_of_every_kind_train(lonely_yard: Yard, spec: Callable[..., Path], tmp_path: Path) -> None:
    place = tmp_path / 'it\'s "odd"\nüber $HOME; rm -rf x'
    place.mkdir()
    model = write_tiny(place / "model")
    rows = place / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    run, result = lonely_yard.run(spec(model=str(model), dataset=str(rows)))
    assert result["status"] == "succeeded"
    assert (run.model / "model.safetensors").is_file()
