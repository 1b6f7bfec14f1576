"""Run folders made by hand, the worker run in this process or in one of its own, and small tasks with gold answers."""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Neither the hub nor this user's caches take part in a test.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="tuneyard-hf-")
os.environ["XDG_CACHE_HOME"] = os.environ.get("TUNEYARD_TEST_CACHE") or tempfile.mkdtemp(prefix="tuneyard-cache-")

from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.run_folder import RunFolder, create_run
from tuneyard.core.specs import EvalSpec
from tuneyard.core.worker import main
from tuneyard.eval.__main__ import WORKER

SHARED = Path(__file__).parents[4] / "shared" / "data"

QUIZ = """\
task: quiz
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 8}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 2.0}
"""
"""A task of lm-eval whose documents are in a file beside it."""

CHOICE = """\
task: choice
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["yes", "no"]
doc_to_target: "{{label}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""

REPLAY = '''
"""A language model of lm-eval that answers from a file; run as a program, it is lm-eval's command with it."""

import glob
import json
import os
from pathlib import Path

from lm_eval.api.model import LM

ANSWERS = Path(__file__).with_name("answers.json")


class Replay(LM):
    def __init__(self, **ignored):
        super().__init__()
        self.answers = json.loads(ANSWERS.read_text())

    def generate_until(self, requests):
        return [self.answer(request.args[0]) for request in requests]

    def answer(self, prompt):
        return next(answer for question, answer in self.answers.items() if prompt.endswith(question))

    def loglikelihood(self, requests):
        return [(float(-len(r.args[1])), True) for r in requests]

    def loglikelihood_rolling(self, requests):
        return [float(-len(r.args[0])) for r in requests]


def lm():
    return Replay()


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.registry import register_model

    register_model("replay")(Replay)
    cli_evaluate()
'''


@dataclass(frozen=True)
class Outcome:
    """An ended evaluation."""

    run: RunFolder
    code: int

    @property
    def result(self) -> dict[str, Any]:
        attempt = self.run.latest()
        result = attempt.read_result() if attempt else None
        assert result is not None
        return result

    @property
    def failure(self) -> dict[str, Any]:
        assert self.code and self.result["status"] == "failed", self.result
        return self.result["failure"]

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        assert self.code == 0, self.result["failure"]
        return self.result["metrics"]

    @property
    def samples(self) -> list[dict[str, Any]]:
        return lines(self.run.samples)

    @property
    def evaluation(self) -> dict[str, Any]:
        return json.loads(self.run.evaluation.read_text())

    @property
    def notes(self) -> str:
        return "\n".join(self.evaluation["notes"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        attempt = self.run.latest()
        assert attempt is not None
        return [event for event in lines(attempt.events) if event["event"] == kind]


@dataclass(frozen=True)
class Runs:
    """Makes run folders as control would leave them for the worker, and runs the worker."""

    root: Path
    tiny: Path

    def new(self, *tasks: Any, **spec: Any) -> RunFolder:
        """An evaluation of the tiny model with one attempt."""
        model = spec.pop("model", self.tiny)
        document = {"kind": "eval", "model": reference(model), "tasks": list(tasks), "gpus": 0, **spec}
        run = create_run(self.root, "eval", "test")
        run.spec.write_text(EvalSpec.model_validate(document).model_dump_json())
        run.new_attempt()
        return run

    def evaluate(self, *tasks: Any, **spec: Any) -> Outcome:
        """Run the worker in this process."""
        return run_here(self.new(*tasks, **spec))

    def trained(self, fingerprint: Fingerprint | None = None, **spec: Any) -> RunFolder:
        """A training run without its artifacts, as far as an evaluation reads it."""
        run = create_run(self.root, "train", "test")
        run.spec.write_text(json.dumps({"kind": "train", "engine": {}, "dataset": [], **spec}))
        run.artifacts.mkdir()
        if fingerprint is not None:
            run.fingerprint.write_text(fingerprint.model_dump_json())
        return run


def reference(model: Any) -> Any:
    return {"reference": "builtin:tiny", "path": str(model)} if isinstance(model, Path) else model


def run_here(run: RunFolder) -> Outcome:
    with pytest.raises(SystemExit) as ended:
        main(WORKER, ["run", str(run.path)])
    return Outcome(run, int(ended.value.code or 0))


def worker(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The worker as a process of its own."""
    command = [sys.executable, "-m", "tuneyard.eval", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, **variables}
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_quiz(folder: Path, rows: int = 6) -> Path:
    """The task file of a quiz of sums."""
    data = write_lines(folder / "quiz.jsonl", [{"question": f"{n}+1=", "answer": str(n + 1)} for n in range(rows)])
    file = folder / "quiz.yaml"
    file.write_text(QUIZ % json.dumps(glob.escape(str(data))), encoding="utf-8")
    return file


def write_choice(folder: Path) -> Path:
    data = write_lines(folder / "choice.jsonl", [{"question": f"{n} even?", "label": n % 2} for n in range(4)])
    file = folder / "choice.yaml"
    file.write_text(CHOICE % json.dumps(str(data)), encoding="utf-8")
    return file


def write_replay(folder: Path, answers: dict[str, str]) -> str:
    """A replayed model: end of the prompt -> response. Returns its reference for `lm`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answers.json").write_text(json.dumps(answers))
    (folder / "replay.py").write_text(REPLAY)
    return f"{folder / 'replay.py'}:lm"


def of_file(path: Path) -> dict[str, str]:
    """A task file as control resolves it."""
    return {"task": str(path), "path": str(path)}
