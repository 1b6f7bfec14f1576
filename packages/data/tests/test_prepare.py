"""The data of a run are written before it starts, kept when it is resumed, and refused where they are of no use."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tuneyard.core.errors import RequestError, SetupError
from tuneyard.data.prepare import prepare

ROWS = [{"instruction": f"Say {n}.", "input": "", "output": str(n)} for n in range(20)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def run_with(folder: Path, dataset: Any, **changes: Any) -> Path:
    run = folder / "train-x-261120-1830-abc"
    run.mkdir(parents=True, exist_ok=True)
    spec = {"kind": "train", "model": "builtin:tiny", "dataset": dataset, **changes}
    (run / "spec.json").write_text(json.dumps(spec))
    return run


def command(run: Path) -> tuple[int, dict[str, Any], str]:
    """`python -m tuneyard.data prepare`: exit code, the JSON in its last line, what it said besides."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tuneyard.data", "prepare", str(run)], capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_every_dataset_of_a_spec_gets_its_name(tmp_path: Path, rows: Path) -> None:
    arithmetic = {"source": "builtin:arithmetic", "size": 10}
    eval_dataset = [{**arithmetic, "split": "test"}, {"source": str(rows), "limit": 3}]
    run = run_with(tmp_path, [arithmetic, str(rows)], eval_dataset=eval_dataset)
    manifest = prepare(run)
    assert [(e.name, e.role, e.file, e.rows) for e in manifest.datasets] == [
        ("train", "train", "train.jsonl", 10),
        ("train-2", "train", "train-2.jsonl", 20),
        ("eval", "eval", "eval.jsonl", 10),
        ("eval-2", "eval", "eval-2.jsonl", 3),
    ]
    names = {"dataset_info.json", "manifest.json", "train.jsonl", "train-2.jsonl", "eval.jsonl", "eval-2.jsonl"}
    assert set(os.listdir(run / "data")) == names


def test_the_command_says_what_it_wrote(weird_path: Path, rows: Path) -> None:
    code, said, log = command(run_with(weird_path, str(rows)))
    assert (code, said) == (0, {"datasets": {"train": 20}})
    assert "20 rows" in log


def test_data_that_are_whole_are_kept(tmp_path: Path, rows: Path) -> None:
    run = run_with(tmp_path, str(rows))
    first = prepare(run)
    written = (run / "data" / "manifest.json").stat().st_mtime_ns
    rows.unlink()
    assert prepare(run) == first
    assert (run / "data" / "manifest.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("harm", ["no manifest", "cut manifest", "cut rows", "changed rows", "another dataset"])
def test_data_that_are_half_made_or_not_what_is_asked_for_are_made_anew(tmp_path: Path, rows: Path, harm: str) -> None:
    run = run_with(tmp_path, str(rows))
    whole = prepare(run)
    data = run / "data"
    if harm == "no manifest":
        (data / "manifest.json").unlink()
    elif harm == "cut manifest":
        (data / "manifest.json").write_text('{"schema_version": 1, "data')
    elif harm == "cut rows":
        (data / "train.jsonl").write_text((data / "train.jsonl").read_text()[:-20])
    elif harm == "changed rows":
        (data / "train.jsonl").write_text((data / "train.jsonl").read_text().replace("Say 1.", "Say 2."))
    else:
        run_with(tmp_path, {"source": str(rows), "limit": 5})
        assert prepare(run).datasets[0].rows == 5
        return
    (data / "left behind").touch()
    assert prepare(run) == whole
    assert not (data / "left behind").exists()


@pytest.mark.parametrize(
    ("stage", "row", "words"),
    [
        ("dpo", {"prompt": "a", "response": "b"}, ["stage dpo trains on preference data", "this is alpaca", "sft"]),
        ("sft", {"prompt": "a", "chosen": "b", "rejected": "c"}, ["sft trains on alpaca or sharegpt", "dpo or rm"]),
        ("kto", {"prompt": "a", "chosen": "b", "rejected": "c"}, ["kto trains on kto data", "dpo or rm"]),
        ("sft", {"text": "a"}, ["this is text", "pt"]),
    ],
)
def test_data_of_no_use_for_the_stage_are_refused(
    tmp_path: Path, stage: str, row: dict[str, str], words: list[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    run = run_with(tmp_path, str(tmp_path / "rows.jsonl"), engine={"stage": stage})
    with pytest.raises(RequestError) as caught:
        prepare(run)
    for word in words:
        assert word in str(caught.value)
    assert not (run / "data").exists()


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        ('{"instruction": "a", "output": "b"}\n{"instruction": "Say 6."', {}, ["rows.jsonl:2", '"Say 6."']),
        ("", {}, ["rows.jsonl", "empty"]),
        ('{"a": "b"}\n', {"columns": {"prompt": "b"}}, ["rows.jsonl:1", "the columns are a"]),
        ('{"instruction": "a", "output": "b"}\n', {"filter": "keep.py:none"}, ["rows.jsonl", "1 were read"]),
        ('{"instruction": "a", "output": "b"}\n', {"sha256": "0" * 64}, ["rows.jsonl", "sha256"]),
    ],
)
def test_bad_data_are_told_as_json_in_the_last_line_and_leave_nothing(
    tmp_path: Path, rows: Path, content: str, changes: dict[str, Any], words: list[str]
) -> None:
    rows.write_text(content)
    (tmp_path / "keep.py").write_text("def none(record):\n    return False\n")
    if "filter" in changes:
        changes = {"filter": str(tmp_path / changes["filter"])}
    run = run_with(tmp_path, {"source": str(rows), **changes})
    code, said, log = command(run)
    assert code == 2
    assert said["error"]["where"].endswith(words[0])
    assert words[1] in said["error"]["message"]
    assert "Traceback" not in log
    assert not (run / "data").exists()


def test_a_filter_that_was_edited_since_the_run_was_made_is_told_while_it_still_matters(
    tmp_path: Path, rows: Path
) -> None:
    file = tmp_path / "keep.py"
    file.write_text("def some(record):\n    return len(record.prompt) < 7\n")
    code = {"path": str(file), "name": "some", "sha256": "0" * 64}
    run = run_with(tmp_path, {"source": str(rows), "filter": f"{file}:some"}, code=[code])
    _, said, log = command(run)
    assert said == {"datasets": {"train": 10}}
    assert f"warning: {file} was edited after the run was made (sha256 {'0' * 12}… then" in log
    [kept] = (run / "code").iterdir()
    assert kept.read_bytes() == file.read_bytes()
    assert "was edited" not in command(run)[2]  # the data are there


def test_a_full_disk_is_a_set_up_that_is_wrong(full_disk: Path, rows: Path) -> None:
    rows.write_text(rows.read_text() * 200)
    run = run_with(full_disk, str(rows))
    code, said, _ = command(run)
    assert (code, said["error"]["kind"]) == (3, "setup")
    assert not (run / "data").exists()


@pytest.mark.parametrize("name", ["a[1]b", "a::b"])
def test_a_folder_that_llamafactory_cannot_read_from_is_refused(tmp_path: Path, rows: Path, name: str) -> None:
    with pytest.raises(SetupError, match=r"has \[ \] or :: in it"):
        prepare(run_with(tmp_path / name, str(rows)))


def test_images_are_looked_for_in_media_dir_too(tmp_path: Path, rows: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.png").write_bytes(b"\x89PNG")
    talk = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "a"}]
    rows.write_text(json.dumps({"conversations": talk, "images": ["a.png"]}) + "\n")
    run = run_with(tmp_path, str(rows), engine={"media_dir": str(tmp_path / "media")})
    prepare(run)
    written = json.loads((run / "data" / "train.jsonl").read_text())
    assert written["images"] == [str(tmp_path / "media" / "a.png")]


def test_a_run_of_another_kind_has_no_data(tmp_path: Path) -> None:
    run = tmp_path / "eval-x-261120-1830-abc"
    run.mkdir()
    (run / "spec.json").write_text(json.dumps({"kind": "eval", "tasks": ["gsm8k"]}))
    with pytest.raises(RequestError, match="kind eval has no data"):
        prepare(run)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    code, said, _ = command(tmp_path)
    assert (code, said["error"]["message"]) == (2, "no such file")


def test_the_usage_is_told() -> None:
    done = subprocess.run([sys.executable, "-m", "tuneyard.data"], capture_output=True, text=True, check=False)
    assert (done.returncode, "prepare" in done.stderr) == (0, True)


def test_importing_the_package_is_quick_since_it_leaves_large_libraries_alone() -> None:
    code = (
        "import sys, tuneyard.data.prepare, tuneyard.data.builtin, tuneyard.data.hub\n"
        "print(*sorted({'pyarrow', 'huggingface_hub', 'numpy', 'multiprocessing', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
