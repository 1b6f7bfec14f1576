"""Running a study with small real workers: order, failures, memory, kills, identical runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.control.index import run_ids
from tuneyard.control.study_mark import read_mark, runs_of_study
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import SetupError
from tuneyard.core.processes import kill_run
from tuneyard.core.run_folder import RunFolder
from tuneyard.study.commands.cancel import cancel
from tuneyard.study.execute import Execution, Tally
from tuneyard.study.generate import generate
from tuneyard.study.jobs import training
from tuneyard.study.journal import Journal
from tuneyard.study.state import states_of
from tuneyard.study.study import Study, open_study

if TYPE_CHECKING:
    from conftest import Write


pytestmark = pytest.mark.slow


def run(study: Study, **options: Any) -> Tally:
    told: list[str] = []
    return Execution(study, told.append, **options).run()


def states(study: Study) -> dict[str, str]:
    return {each.job.key: each.state for each in states_of(study)}


def runs(study: Study) -> list[RunFolder]:
    return [RunFolder(study.workspace.runs / name) for name in run_ids(study.workspace.runs)]


def run_of(study: Study, number: int) -> RunFolder:
    entry = Journal(study.folder.journal).entry(training(study, study.point(number)))
    assert entry is not None
    assert entry.run is not None
    return RunFolder(study.workspace.runs / entry.run)


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.02)
    return value


def test_everything_is_trained_evaluated_and_linked(write: Write) -> None:
    study = write()
    tally = run(study)
    assert (tally.succeeded, tally.failed, tally.refused) == (9, 0, 0)
    assert set(states(study).values()) == {"succeeded"}
    assert sorted(states(study)) == sorted(
        ["baseline/lm-eval", *(f"00{n}/{stage}" for n in range(4) for stage in ("train", "lm-eval"))]
    )
    result = study.folder.results / "run_002"
    assert json.loads((result / "adapter" / "quality.json").read_text()) == [32, 1]
    assert (result / "run").resolve() == run_of(study, 2).path.resolve()
    assert (study.folder.eval_results / "run_002" / "quiz" / "samples.jsonl").is_file()
    assert len(runs_of_study(study.workspace.runs, "rank")) == 9


def test_yard_runs_lists_those_of_a_study(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    from tuneyard.control.cli import run as yard

    run(write("one", variables={"lora_rank": [8]}, seeds=[1], evaluation=None))
    run(write("two", experiment={"name": "two"}, variables={"lora_rank": [16]}, seeds=[1]))
    assert yard(["runs", "--study", "two", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert sorted(row["kind"] for row in listed) == ["eval", "eval", "train"]
    assert yard(["runs", "--study", "two", "--kind", "train", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    assert yard(["runs", "--study", "nobody's"]) == 0
    assert "no such runs" in capsys.readouterr().out


def test_an_evaluation_does_not_wait_for_the_trainings_that_are_left(write: Write) -> None:
    study = write(seeds=[1, 2, 3, 4])
    run(study, at_once=1)
    lines = [json.loads(line) for line in study.folder.journal.read_text().splitlines()]
    order = [line["job"] for line in lines]
    assert order.index("000/lm-eval") == order.index("000/train") + 1


def test_what_is_done_is_not_done_again(write: Write) -> None:
    study = write()
    run(study)
    before = [each.id for each in runs(study)]
    assert run(study).succeeded == 9
    assert [each.id for each in runs(study)] == before


def test_identical_runs_are_run_once_within_a_study_and_between_two(write: Write) -> None:
    first = write("one", variables={"lora_rank": [8, 16]}, seeds=[1, 1], evaluation=None)
    assert run(first).succeeded == 4
    assert len(runs(first)) == 2
    second = write("two", experiment={"name": "other"}, variables={"lora_rank": [16, 32]}, seeds=[1], evaluation=None)
    assert run(second).succeeded == 2
    assert len(runs(first)) == 3
    lines = [json.loads(line) for line in second.folder.journal.read_text().splitlines()]
    assert [line["what"] for line in lines] == ["reused", "started"]


def test_a_changed_dataset_file_makes_another_run(write: Write, desk: Workspace) -> None:
    rows = desk.path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    base = {"kind": "train", "model": "builtin:tiny", "dataset": str(rows)}
    study = write(base=base, variables={"lora_rank": [8]}, seeds=[1], evaluation=None)
    run(study)
    rows.write_text('{"instruction": "a", "output": "c, and more"}\n')
    study.folder.journal.unlink()
    run(study)
    assert len(runs(study)) == 2


def test_data_are_prepared_once_for_all_runs_and_anew_where_their_file_has_changed(
    write: Write, desk: Workspace
) -> None:
    rows = desk.path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    base = {"kind": "train", "model": "builtin:tiny", "dataset": str(rows)}
    study = write(base=base, variables={"lora_rank": [8, 16]}, seeds=[1, 2], evaluation=None)
    generate(study)
    run(study)
    files = [each.data / name for each in runs(study) for name in ("train.jsonl", "manifest.json")]
    assert len({path.stat().st_ino for path in files}) == 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}
    assert "rows of" not in "".join(each.attempt(1).stderr.read_text() for each in runs(study))

    rows.write_text('{"instruction": "a", "output": "c, and more"}\n')
    study.folder.journal.unlink()
    run(study)
    assert len(runs(study)) == 8
    assert sum("c, and more" in (each.data / "train.jsonl").read_text() for each in runs(study)) == 4


def test_a_run_that_fails_in_the_middle_leaves_the_others_alone(write: Write) -> None:
    study = write(controls={"fail_at": 2})
    tally = run(study)
    assert tally.failed == 2
    found = states(study)
    assert Counter(found.values()) == {"succeeded": 5, "failed": 2, "planned": 2}
    assert found["001/train"] == "failed"
    assert found["003/lm-eval"] == "planned"


def test_resume_tries_again_what_failed_and_run_does_not(write: Write, desk: Workspace) -> None:
    study = write(controls={"fail_at": 2}, evaluation=None)
    run(study)
    failed = run_of(study, 1)
    run(study)
    assert [a.number for a in failed.attempts()] == [1]
    run(study, again=True)
    assert [a.number for a in failed.attempts()] == [1, 2]


def test_a_run_without_memory_is_tried_once_more_with_half_the_batch(write: Write) -> None:
    study = write(variables={"lora_rank": [2, 32, 100]}, seeds=[1], controls={"memory": 100}, evaluation=None)
    tally = run(study)
    assert (tally.succeeded, tally.failed) == (2, 1)
    engine = run_of(study, 1).read_spec()["engine"]
    assert engine["per_device_train_batch_size"] == 2
    assert engine["gradient_accumulation_steps"] == 2
    # rank 100 fits with one example only: it was halved once, and failed
    assert run_of(study, 2).read_spec()["engine"]["per_device_train_batch_size"] == 2
    assert len(runs(study)) == 5
    assert run(study).failed == 1
    assert len(runs(study)) == 5


def test_half_a_batch_keeps_the_effective_one(write: Write) -> None:
    base = {
        "kind": "train",
        "model": "builtin:tiny",
        "dataset": {"source": "builtin:arithmetic", "digits": 2, "size": 20},
        "effective_batch_size": 6,
        "engine": {"memory": 24, "max_steps": 2},
    }
    study = write(base=base, variables={"lora_rank": [8]}, seeds=[1], evaluation=None)
    assert run(study).succeeded == 1
    spec = run_of(study, 0).read_spec()
    engine = spec["engine"]
    assert spec["effective_batch_size"] == 6
    assert engine["per_device_train_batch_size"] * engine["gradient_accumulation_steps"] == 6
    assert engine["per_device_train_batch_size"] == 3


def test_two_cannot_run_one_study(write: Write) -> None:
    study = write(controls={"pause": 0.2}, evaluation=None)
    process = background(study)
    until(study.folder.journal.exists)
    with pytest.raises(SetupError, match="another process runs this study"):
        run(study)
    process.kill()
    process.wait()


def background(study: Study) -> subprocess.Popen[bytes]:
    """`yard study run` as a process of its own."""
    code = "import sys; from tuneyard.study.command import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "run", str(study.file), "--no-report"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def kill_everything(process: subprocess.Popen[bytes], study: Study) -> None:
    """The study, the supervisors and the workers, none of whom may say a word more."""
    process.kill()
    process.wait()
    for each in runs(study):
        latest = each.latest()
        record = latest.read_supervisor() if latest else None
        if record and latest and latest.supervisor_lives():
            parent = int(Path(f"/proc/{record['pid']}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(parent, signal.SIGKILL)
            os.kill(record["pid"], signal.SIGKILL)
        kill_run(each.id)


def scores(study: Study) -> dict[str, float]:
    found = {}
    for each in states_of(study):
        latest = each.run.latest() if each.run else None
        result = latest.read_result() if latest else None
        if result and "quiz/exact_match,none" in result["metrics"]:
            found[each.job.key] = result["metrics"]["quiz/exact_match,none"]["value"]
    return found


def test_killing_everything_twice_changes_no_result(write: Write) -> None:
    undisturbed = write("calm", experiment={"name": "calm"})
    run(undisturbed)
    study = write("killed", experiment={"name": "killed"}, controls={"pause": 0.1})
    for finished in (1, 4):
        process = background(study)
        until(lambda finished=finished: sum(s == "succeeded" for s in states(study).values()) >= finished)
        kill_everything(process, study)
    assert set(states(study).values()) != {"succeeded"}
    tally = run(study)
    assert tally.failed == tally.refused == 0
    assert scores(study) == scores(undisturbed)
    # whatever folder a kill left half made, no training was done twice
    done = [each for each in runs(study) if each.kind == "train" and each.status().state == "succeeded"]
    assert sum((read_mark(each) or {}).get("study") == "killed" for each in done) == 4


def test_killing_the_study_alone_leaves_its_runs_going(write: Write) -> None:
    study = write(controls={"pause": 0.3}, evaluation=None, seeds=[1])
    process = background(study)
    first = until(lambda: next((r for r in runs(study) if r.status().state == "running"), None))
    process.kill()
    process.wait()
    assert first.status().state == "running"
    assert run(study).succeeded == 2
    assert [a.number for a in first.attempts()] == [1]


def test_a_run_whose_line_in_the_journal_was_lost_is_found_again(write: Write) -> None:
    study = write(seeds=[1], evaluation=None)
    run(study)
    lines = study.folder.journal.read_text().splitlines()
    study.folder.journal.write_text(lines[0] + "\n")
    run(study)
    assert len(runs(study)) == 2
    entry = Journal(study.folder.journal).entry(training(study, study.point(1)))
    assert entry is not None
    assert entry.run in [each.id for each in runs(study)]


def test_cancel_ends_what_runs_and_starts_no_more(write: Write) -> None:
    study = write(controls={"pause": 0.3}, seeds=[1, 2, 3], evaluation=None)
    process = background(study)
    until(lambda: any(each.status().state == "running" for each in runs(study)))
    asked = cancel(study)
    assert process.wait(30) == 130
    assert asked
    until(lambda: all(each.status().ended for each in runs(study)))
    assert len(runs(study)) < 6
    assert run(study, again=True).succeeded == 6


def test_a_run_that_was_removed_is_made_anew(write: Write) -> None:
    from tuneyard.control.launch import remove

    study = write(variables={"lora_rank": [8]}, seeds=[1], evaluation=None)
    run(study)
    remove(study.workspace, run_of(study, 0))
    assert states(study)["000/train"] == "planned"
    assert run(study).succeeded == 1


def test_an_experiment_that_grew_keeps_what_it_has(write: Write) -> None:
    study = write(seeds=[1])
    run(study)
    grown = write(seeds=[1, 2])
    run(grown)
    trained = [each for each in runs(grown) if each.kind == "train"]
    assert len(trained) == 4


def test_one_run_of_an_array_task_is_that_run_and_no_other(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    from tuneyard.study.command import main

    study = write()
    assert main(["one", str(study.file), "eval", "3"]) == 1
    assert "Cannot load model" in capsys.readouterr().err
    assert main(["one", str(study.file), "train", "3"]) == 0
    assert main(["one", str(study.file), "eval", "3"]) == 0
    found = states(open_study(study.file, study.workspace))
    assert Counter(found.values()) == {"succeeded": 2, "planned": 7}


def test_every_run_carries_the_mark_of_its_study(write: Write) -> None:
    study = write(variables={"lora_rank": [8]}, seeds=[1])
    run(study)
    mark = read_mark(run_of(study, 0))
    assert mark is not None
    assert mark["study"] == "rank"
    assert mark["job"] == "000/train"
