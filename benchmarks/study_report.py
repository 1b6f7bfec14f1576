"""Reading 1,000 runs for the report of a study, against parsing the same files once each and keeping nothing.

    python benchmarks/study_report.py [--pairs 5]

500 trainings and their 500 evaluations of 100 documents: 100 settings with five seeds each. Before anything is timed,
an audit hook counts what the whole command opens: no file of a run twice. Prints a row of the table in
docs/benchmarks.md, and how long the whole command takes, most of which is the statistics.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import yaml
from measure import HEADER, Comparison, compare, pairs_from_command_line

from tuneyard.control.workspace import Workspace
from tuneyard.core.evaluation import EvaluatedTask, Evaluation, Sample
from tuneyard.core.events import Progress
from tuneyard.core.results import Metric, Result
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import EvalSpec, TrainSpec
from tuneyard.study.jobs import TRAIN
from tuneyard.study.journal import Journal
from tuneyard.study.report.collect import collect
from tuneyard.study.state import jobs_of
from tuneyard.study.study import Study, open_study

BOUND = 3.0
"""The most that reading the runs may cost, as a multiple of the rival."""

STEPS, DOCUMENTS = 100, 100

EXPERIMENT = {
    "experiment": {"name": "thousand"},
    "base": {"kind": "train", "model": "builtin:tiny", "dataset": "builtin:arithmetic"},
    "variables": {"lora_rank": [2 * n for n in range(1, 11)], "learning_rate": [n * 1e-4 for n in range(1, 11)]},
    "seeds": [1, 2, 3, 4, 5],
    "evaluation": {"tasks": ["arithmetic"], "baseline": False},
}

COUNTING = """
import json, sys
from collections import Counter
opened = Counter()
sys.addaudithook(lambda event, given: opened.update([str(given[0])]) if event == "open" else None)
from tuneyard.control.cli import main
try:
    main()
finally:
    print(json.dumps(opened), file=sys.stderr)
"""


def make_study(folder: Path) -> Study:
    """A study of which every run has ended, in a workspace of its own."""
    (folder / "pixi.toml").touch()
    (folder / "study").mkdir()
    (folder / "study" / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    workspace = Workspace(folder)
    study = open_study(folder / "study" / "experiment.yaml", workspace)
    journal, generator = Journal(study.folder.journal), random.Random(0)
    for number, job in enumerate(jobs_of(study)):
        run = RunFolder(workspace.runs / f"{job.kind}-thousand-260101-{number // 60:02d}{number % 60:02d}-aaa")
        run.attempt(1).folder.mkdir(parents=True)
        run.artifacts.mkdir()
        assert job.point is not None
        quality = 0.2 + job.point.params["lora_rank"] / 40
        make_training(run) if job.stage == TRAIN else make_evaluation(run, quality, generator)
        journal.write(job, "started", run.id)
    return study


def make_training(run: RunFolder) -> None:
    """What a training leaves that a report reads."""
    run.spec.write_text(TrainSpec.model_validate({**EXPERIMENT["base"], "engine": {"stage": "sft"}}).model_dump_json())
    steps = (Progress(time="", step=step, total=STEPS, loss=5 / step) for step in range(1, STEPS + 1))
    run.attempt(1).events.write_text("".join(f"{step.model_dump_json(exclude_none=True)}\n" for step in steps))
    _end(run, {"train_loss": Metric(value=1.25)})


def make_evaluation(run: RunFolder, quality: float, generator: random.Random) -> None:
    """What an evaluation leaves that a report reads: a score, and the row of every document."""
    run.spec.write_text(EvalSpec.model_validate({"model": "builtin:tiny", "tasks": "arithmetic"}).model_dump_json())
    rows = [_sample(number, float(generator.random() < quality)) for number in range(DOCUMENTS)]
    run.samples.write_text("".join(f"{row.model_dump_json()}\n" for row in rows))
    task = EvaluatedTask(task="arithmetic", documents_sha256="d", prompts_sha256="p", n=DOCUMENTS)
    document = Evaluation(framework="lm-eval", framework_version="0", model="builtin:tiny", tasks=[task])
    run.evaluation.write_text(document.model_dump_json())
    score = sum(row.scores["none"]["exact_match"] for row in rows) / DOCUMENTS
    _end(run, {"arithmetic/exact_match,none": Metric(value=score, standard_error=0.05, n=DOCUMENTS)})


def _sample(number: int, score: float) -> Sample:
    return Sample(
        task="arithmetic",
        id=str(number),
        document_sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        prompt=f"What is {number} + {number}?",
        response=str(number),
        target=str(2 * number),
        scores={"none": {"exact_match": score}},
    )


def _end(run: RunFolder, metrics: dict[str, Metric]) -> None:
    versions = {f"package-{n}": f"1.{n}" for n in range(100)}
    run.attempt(1).environment.write_text(json.dumps({"python": "3.11", "platform": "Linux", "versions": versions}))
    result = Result(
        run=run.id,
        attempt=1,
        status="succeeded",
        metrics=metrics,
        started="2026-01-01T00:00:00.000Z",
        ended="2026-01-01T00:01:00.000Z",
        seconds=60.0,
        versions={"transformers": "5.6.0"},
    )
    run.attempt(1).result.write_text(result.model_dump_json(indent=2))


def opens(study: Study) -> dict[str, int]:
    """File of a run -> how often the command that writes the report opens it."""
    command = [sys.executable, "-c", COUNTING, "study", "report", str(study.file)]
    variables = {**os.environ, "TUNEYARD_WORKSPACE": str(study.workspace.path)}
    start = time.perf_counter()
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    print(f"the whole report: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    opened = json.loads(done.stderr.splitlines()[-1])
    return {path: count for path, count in opened.items() if path.startswith(f"{study.workspace.runs}/")}


def parse(paths: Iterable[str]) -> None:
    """Every file once, line by line where it has lines."""
    for path in paths:
        with open(path, "rb") as file:
            [json.loads(line) for line in file] if path.endswith(".jsonl") else json.load(file)


def measure(pairs: int = 5) -> Comparison:
    """Count what is opened, then time both in turn.

    Raises:
        AssertionError: a file of a run was opened twice.
    """
    with tempfile.TemporaryDirectory(prefix="study report ") as name:
        study = make_study(Path(name))
        opened = opens(study)
        twice = [path for path, count in opened.items() if count > 1]
        assert opened and not twice, twice[:3]
        return compare("reading 1,000 runs", lambda: _read(study), lambda: parse(opened), pairs=pairs)


def _read(study: Study) -> None:
    collect(study)


if __name__ == "__main__":
    print(HEADER)
    print(measure(pairs_from_command_line(__doc__ or "")).row(BOUND))
