"""Run folders made by hand, and the worker run in this process or in one of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import TrainSpec, parse_spec
from tuneyard.core.worker import Job

os.environ["HF_HUB_OFFLINE"] = "1"

SUMS = [(a, b) for a in range(8) for b in range(8)]

DATASETS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "alpaca": (
        {},
        [{"instruction": f"What is {a}+{b}?", "input": "", "output": str(a + b)} for a, b in SUMS],
    ),
    "pairs": (
        {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}},
        [{"instruction": f"What is {a}+{b}?", "chosen": str(a + b), "rejected": str(a + b + 1)} for a, b in SUMS],
    ),
    "kto": (
        {"columns": {"prompt": "instruction", "response": "output", "kto_tag": "good"}},
        [{"instruction": f"{a}+{b}?", "output": str(a + b + a % 2), "good": a % 2 == 0} for a, b in SUMS],
    ),
    "text": ({"columns": {"prompt": "text"}}, [{"text": f"{a} plus {b} makes {a + b}. " * 20} for a, b in SUMS]),
    "talk": (
        {
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
        },
        [
            {"messages": [{"role": "user", "content": f"{a}+{b}?"}, {"role": "assistant", "content": str(a + b)}]}
            for a, b in SUMS
        ],
    ),
}
"""Form -> entry of dataset_info.json, rows."""

QUICK = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "logging_steps": 1, "save_steps": 100}


@dataclass(frozen=True)
class Runs:
    """Makes run folders as control and data would leave them for the worker."""

    root: Path
    tiny: Path

    def new(self, engine: dict[str, Any], data: str = "alpaca", held_out: bool = False, **spec: Any) -> RunFolder:
        """A run of the tiny model with one attempt; `held_out` adds an evaluation dataset."""
        run = RunFolder(self.root / f"train-x-261120-1830-{len(list(self.root.glob('train-*'))):03d}")
        run.path.mkdir(parents=True)
        write_data(run.data, {"train": data} | ({"held_out": data} if held_out else {}))
        model = spec.pop("model", {"reference": "builtin:tiny", "path": str(self.tiny)})
        document = {"kind": "train", "model": model, "dataset": "rows.jsonl", "gpus": 0, **spec}
        run.spec.write_text(json.dumps({**document, "engine": {**QUICK, **engine}}))
        run.new_attempt()
        return run


def write_data(folder: Path, datasets: dict[str, str]) -> None:
    """A dataset folder as `tuneyard.data prepare` writes it: name -> form."""
    folder.mkdir()
    information, entries = {}, []
    for name, form in datasets.items():
        described, rows = DATASETS[form]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        information[name] = {"file_name": f"{name}.jsonl", **described}
        role = "train" if name == "train" else "eval"
        entries.append({"name": name, "role": role, "file": f"{name}.jsonl", "rows": len(rows)})
    (folder / "dataset_info.json").write_text(json.dumps(information))
    (folder / "manifest.json").write_text(json.dumps({"datasets": entries}))


def job_of(run: RunFolder) -> Job:
    """The job of the run's latest attempt, as the harness makes it."""
    attempt = run.latest()
    assert attempt is not None
    spec = parse_spec(run.read_spec(), "spec.json")
    assert isinstance(spec, TrainSpec)
    run.artifacts.mkdir(exist_ok=True)
    return Job(run, attempt, spec)


def train(run: RunFolder) -> Job:
    """Train in this process; the library is imported once for all tests that do."""
    from tuneyard.train.run import run as work

    job = job_of(run)
    work(job)
    return job


def start(run: RunFolder, **variables: str) -> subprocess.Popen[str]:
    """The worker in a process of its own, on the latest attempt."""
    command = [sys.executable, "-m", "tuneyard.train", "run", str(run.path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **variables}
    attempt = run.latest()
    assert attempt is not None
    with open(attempt.stdout, "ab") as out, open(attempt.stderr, "ab") as err:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=err, text=True)


def finish(run: RunFolder, **variables: str) -> tuple[int, dict[str, Any]]:
    """Exit code and result of the worker in a process of its own."""
    code = start(run, **variables).wait(timeout=300)
    attempt = run.latest()
    assert attempt is not None
    result = attempt.read_result()
    assert result is not None, attempt.stderr.read_text()[-3000:]
    return code, result


def events(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    """The events of one kind that the latest attempt told."""
    attempt = run.latest()
    assert attempt is not None
    lines = attempt.events.read_text().splitlines() if attempt.events.exists() else []
    return [event for line in lines if (event := json.loads(line))["event"] == kind]


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Return when `condition` holds.

    Raises:
        AssertionError: it does not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def speaking(tiny: Path, folder: Path, *tokens: str, chat_template: str | None = "") -> Path:
    """A copy of the tiny model that has other special tokens in place of its spare ones.

    Args:
        tiny: the model.
        folder: where the copy goes.
        tokens: at most three.
        chat_template: in place of its own. Default: its own; None: none.
    """
    shutil.copytree(tiny, folder)
    for file in (folder / "tokenizer.json", folder / "tokenizer_config.json"):
        text = file.read_text()
        for number, token in enumerate(tokens):
            text = text.replace(f"<|reserved_{number}|>", token)
        file.write_text(text)
    if chat_template is None:
        (folder / "chat_template.jinja").unlink()
    elif chat_template:
        (folder / "chat_template.jinja").write_text(chat_template)
    return folder


def local(folder: Path) -> dict[str, str]:
    """A resolved reference to a model's folder."""
    return {"reference": str(folder), "path": str(folder)}
