"""A killed evaluation goes on where it was: the same result, and no response asked for twice."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from eval_runs import Runs, of_file, run_here, worker, write_quiz
from lm_eval.api.instance import Instance

from tuneyard.core.run_folder import RunFolder
from tuneyard.eval.recording import RecordingLM
from tuneyard.eval.responses import Responses

KILLED = '''
"""HFLM that counts its batches in a file and, in the first attempt, dies in the third."""

import os
import signal
from pathlib import Path

from lm_eval.models.huggingface import HFLM

COUNT = Path(__file__).with_name("batches")


class Counting(HFLM):
    def _model_generate(self, *arguments, **settings):
        done = COUNT.stat().st_size if COUNT.exists() else 0
        with open(COUNT, "a") as file:
            file.write("x")
        if done == 2 and os.environ.get("DIE"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._model_generate(*arguments, **settings)


def lm(spec):
    return Counting(pretrained=str(Path(__file__).with_name("model")), device="cpu", batch_size=2)
'''


def killed(folder: Path, tiny: Path) -> str:
    folder.mkdir()
    (folder / "killed.py").write_text(KILLED)
    (folder / "model").symlink_to(tiny)
    return f"{folder / 'killed.py'}:lm"


def test_a_killed_evaluation_gives_the_same_result_when_resumed(runs: Runs, tiny: Path, tmp_path: Path) -> None:
    quiz = of_file(write_quiz(tmp_path, rows=11))
    lm = killed(tmp_path / "own", tiny)
    run = runs.new(quiz, model=None, lm=lm, batch_size=2)
    died = worker("run", run.path, DIE="1")
    assert died.returncode == -signal.SIGKILL and not run.attempt(1).result.exists()
    run.new_attempt()
    resumed = run_here(run)
    assert "4 responses were taken over from earlier attempts" in resumed.notes
    assert len((tmp_path / "own" / "batches").read_text()) == 3 + 4  # six batches of two, the third of them twice
    whole = runs.evaluate(quiz, model=None, lm=killed(tmp_path / "again", tiny), batch_size=2)
    assert resumed.samples == whole.samples and resumed.metrics == whole.metrics
    assert resumed.evaluation["tasks"] == whole.evaluation["tasks"]


DIES = """\
import os
import signal
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import generate, solver

ASKED = Path(__file__).with_name("asked")


@solver
def dies():
    async def solve(state, generate):
        if os.environ.get("DIE") and ASKED.exists() and ASKED.stat().st_size == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        state = await generate(state)
        with open(ASKED, "a") as file:
            file.write("x")
        return state
    return solve


@task
def sums():
    data = [Sample(f"{n}+1=", target=str(n + 1)) for n in range(8)]
    return Task(data, solver=dies(), scorer=match())
"""
"""A task of Inspect whose first attempt dies when three samples are answered."""


@pytest.mark.parametrize(("temperature", "taken_over"), [(None, True), (1.0, False)])
def test_a_killed_evaluation_of_inspect_asks_for_the_rest_alone(
    runs: Runs, tmp_path: Path, temperature: float | None, taken_over: bool
) -> None:
    file = tmp_path / "sums.py"
    file.write_text(DIES)
    settings = {"max_samples": 1, "max_tokens": 8, **({"temperature": temperature} if temperature else {})}
    run = runs.new(of_file(file), engine=settings)
    died = worker("run", run.path, DIE="1")
    assert died.returncode == -signal.SIGKILL and not run.attempt(1).result.exists()
    run.new_attempt()
    resumed = run_here(run)
    assert len(resumed.samples) == 8
    assert ("3 responses were taken over from earlier attempts" in resumed.notes) == taken_over
    if taken_over:  # greedy
        whole = runs.evaluate(of_file(file), engine=settings)
        assert resumed.samples == whole.samples and resumed.metrics == whole.metrics
        assert "taken over" not in whole.notes


def wait_for_progress(run: RunFolder) -> None:
    for _ in range(600):
        if run.attempt(1).events.exists() and "progress" in run.attempt(1).events.read_text():
            return
        time.sleep(0.1)
    pytest.fail("no progress within a minute")


@pytest.mark.parametrize("kind", ["lm-eval", "inspect"])
def test_a_worker_that_is_asked_to_end_ends_without_a_result(runs: Runs, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "slow.py"
    file.write_text(
        "from inspect_ai import Task, task\n"
        "from inspect_ai.dataset import Sample\n"
        "from inspect_ai.solver import generate\n"
        "from inspect_ai.scorer import match\n"
        "@task\n"
        "def slow(): return Task([Sample('1+1', target='2') for _ in range(4000)], solver=generate(), scorer=match())\n"
    )
    slow = of_file(file) if kind == "inspect" else {"task": "arithmetic", "arguments": {"size": 2000}}
    engine = {"max_tokens": 8} if kind == "inspect" else {}
    run = runs.new(slow, batch_size=1, engine=engine)
    command = [sys.executable, "-m", "tuneyard.eval", "run", str(run.path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_progress(run)
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert not run.attempt(1).result.exists()


class Batches:
    """A model that answers in batches and calls the hook, as HFLM does."""

    batch_size = 2
    rank, world_size, device, tokenizer_name = 0, 1, None, ""

    def __init__(self, die_in: int | None = None) -> None:
        self.asked: list[str] = []
        self.die_in = die_in

    def set_cache_hook(self, hook: Any) -> None:
        self.hook = hook

    def generate_until(self, requests: list[Instance]) -> list[str]:
        answers = []
        for number, request in enumerate(requests):
            if self.die_in is not None and number == self.die_in * self.batch_size + 1:
                raise KeyboardInterrupt
            prompt = str(request.args[0])
            self.asked.append(prompt)
            answers.append(prompt.upper())
            self.hook.add_partial("generate_until", request.args, prompt.upper())
        return answers


def requests(count: int, **settings: Any) -> list[Instance]:
    return [
        Instance("generate_until", {}, (f"q{n}", {"until": [], **settings}), n, ("quiz", n, 1)) for n in range(count)
    ]


def recording(model: Any, folder: Path, number: int, told: list[Any]) -> RecordingLM:
    earlier = [folder / f"{n}.jsonl" for n in range(1, number)]
    return RecordingLM(
        model, Responses(folder / f"{number}.jsonl", earlier), lambda *what: told.append(what), lambda *_: None
    )


def test_whole_batches_are_kept_and_asked_for_only_once(tmp_path: Path) -> None:
    first = Batches(die_in=2)
    with pytest.raises(KeyboardInterrupt):
        recording(first, tmp_path, 1, []).generate_until(requests(7))
    assert len(first.asked) == 5  # two whole batches and one response of the third
    second = Batches()
    lm = recording(second, tmp_path, 2, [])
    assert lm.generate_until(requests(7)) == [f"Q{n}" for n in range(7)]
    assert second.asked == ["q4", "q5", "q6"] and lm.reused == 4


def test_what_is_sampled_is_asked_anew(tmp_path: Path) -> None:
    recording(Batches(), tmp_path, 1, []).generate_until(requests(3, do_sample=True))
    again = Batches()
    recording(again, tmp_path, 2, []).generate_until(requests(3, do_sample=True))
    assert len(again.asked) == 3


def test_progress_ends_with_every_document(tmp_path: Path) -> None:
    told: list[Any] = []
    recording(Batches(), tmp_path, 1, told).generate_until(requests(5))
    phase, done, total, seconds = told[-1]
    assert (phase, done, total) == ("generating", 5, 5) and seconds >= 0


def test_a_half_written_line_is_left_out(tmp_path: Path) -> None:
    recording(Batches(), tmp_path, 1, []).generate_until(requests(4))
    file = tmp_path / "1.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    lm = recording(Batches(), tmp_path, 2, [])
    assert lm.generate_until(requests(4)) == ["Q0", "Q1", "Q2", "Q3"] and lm.reused == 2
