"""GSM8K from a folder of its JSONL files: lm-eval's own task with nothing but the dataset replaced."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError, SetupError

SPLITS = ("train", "test")
"""Every split has a file of its name, `.jsonl`; train gives the worked examples of the prompt."""

HUB = ("openai/gsm8k", "gsm8k")
"""The names under which lm-eval's tasks know the dataset."""


def is_gsm8k(config: dict[str, Any]) -> bool:
    """Whether a task of lm-eval asks GSM8K's problems, as `gsm8k` and its variants do."""
    return config.get("dataset_path") in HUB


def task_file(task: Path, folder: Path) -> str:
    """The text of a task file that includes lm-eval's own and reads the files in `folder`.

    Args:
        task: lm-eval's task file.
        folder: holds train.jsonl and test.jsonl.

    Raises:
        RequestError: a file is missing, empty or broken; with the line.
    """
    files = {split: glob.escape(str(_checked(folder, split))) for split in SPLITS}  # `datasets` reads them as patterns
    overrides = {
        "include": str(task),
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
    }
    return json.dumps(overrides, indent=2, ensure_ascii=False) + "\n"  # JSON is YAML, and quotes every path rightly


def _checked(folder: Path, split: str) -> Path:
    path = folder / f"{split}.jsonl"
    if not folder.is_dir():
        raise RequestError("no such folder", where=str(folder), way_out="`data=DIR` with train.jsonl and test.jsonl")
    if not path.is_file():
        names = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        way_out = "GSM8K's files are train.jsonl and test.jsonl"
        raise RequestError(f"no such file; the folder holds {names}", where=str(path), way_out=way_out)
    with open(path, encoding="utf-8") as file:
        rows = sum(_is_row(line, number, path) for number, line in enumerate(file, 1))
    if not rows:
        raise RequestError("holds no document", where=str(path))
    return path


def _is_row(line: str, number: int, path: Path) -> bool:
    if not line.strip():
        return False
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RequestError(f"not valid JSON: {line.strip()[:80]!r}", where=f"{path}:{number}") from error
    if not (isinstance(row, dict) and isinstance(row.get("question"), str) and isinstance(row.get("answer"), str)):
        message = f"no `question` and `answer` in it: {line.strip()[:80]!r}"
        raise RequestError(message, where=f"{path}:{number}")
    return True


def not_reachable(error: SetupError) -> SetupError:
    """The three ways out for GSM8K itself, in place of those for any dataset."""
    return SetupError(
        error.message,
        where="gsm8k",
        way_out="`data=DIR` (or TUNEYARD_GSM8K=DIR) with train.jsonl and test.jsonl; "
        "or connect to the hub and run again; or `hf download --repo-type dataset openai/gsm8k` where the hub can be "
        "reached and copy its cache (HF_HOME) here",
    )
