"""The command `yard`, as people and programs call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneyard.control import cli
from tuneyard.control.workspace import Workspace
from tuneyard.core.run_folder import RunFolder

YARD = [sys.executable, "-c", "from tuneyard.control.cli import main; main()"]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Yard = Callable[..., Done]


@pytest.fixture
def yard(desk: Workspace, capfd: pytest.CaptureFixture[str]) -> Yard:
    """The command, run in this process."""

    def run(*words: str | Path) -> Done:
        capfd.readouterr()
        code = cli.run([str(word) for word in words])
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture
def spec(desk: Workspace) -> Callable[..., Path]:
    """A training spec that takes no time."""

    def write(name: str = "spec.yaml", **engine: Any) -> Path:
        dataset = {"source": "builtin:arithmetic", "size": 5}
        content = {"kind": "train", "model": "builtin:tiny", "dataset": dataset, "engine": {"finetuning_type": "full"}}
        path = desk.path / name
        path.write_text(yaml.safe_dump({**content, "engine": {**content["engine"], **engine}}))
        return path

    return write


def wait_for(run: RunFolder, *states: str) -> None:
    deadline = time.monotonic() + 60
    while run.status().state not in states:
        assert time.monotonic() < deadline, run.status()
        time.sleep(0.02)


def started(desk: Workspace, yard: Yard, *words: str | Path) -> RunFolder:
    done = yard("run", *words, "--detach", "--json")
    assert done.code == 0, done.out + done.err
    return RunFolder(desk.runs / done.json["id"])


def finished(desk: Workspace, yard: Yard, *words: str | Path) -> RunFolder:
    done = yard("run", *words, "--json")
    return RunFolder(desk.runs / done.json["id"])


# What is imported


def modules_of(*words: str) -> set[str]:
    program = (
        "import sys; from tuneyard.control.cli import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_looking_at_runs_imports_neither_pydantic_nor_yaml(desk: Workspace, yard: Yard, spec: Any) -> None:
    run = finished(desk, yard, spec())
    for words in (["runs"], ["runs", "--state", "failed"], ["show", run.id], ["show", run.id, "--json"], ["--help"]):
        assert not {"pydantic", "yaml", "llamafactory", "torch"} & modules_of(*words), words


def test_importing_the_python_interface_costs_nothing() -> None:
    program = "import sys, tuneyard.control; print('pydantic' in sys.modules); tuneyard.control.train"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Commands of other packages, and none


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a command."""
    folder = tmp_path / "site"
    (folder / "foreign-1.dist-info").mkdir(parents=True)
    (folder / "foreign-1.dist-info" / "METADATA").write_text("Name: foreign\nVersion: 1\n")
    (folder / "foreign-1.dist-info" / "entry_points.txt").write_text("[tuneyard.commands]\nfarm = foreign:main\n")
    (folder / "foreign.py").write_text("print('imported')\ndef main(arguments):\n    print(arguments)\n    return 7\n")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_a_command_of_another_package_is_loaded_only_when_it_is_named(foreign: Path, yard: Yard) -> None:
    assert "farm" in yard("--help").out
    assert "foreign" not in sys.modules
    done = yard("farm", "--x", "y")
    assert (done.code, done.out) == (7, "imported\n['--x', 'y']\n")
    assert "did you mean 'farm'?" in yard("frm").err


def test_an_unknown_command_or_option_is_told_with_what_there_is(yard: Yard) -> None:
    done = yard("rums")
    assert (done.code, done.out) == (2, "") and "did you mean 'runs'?" in done.err
    done = yard("runs", "--stat", "failed", "--json")
    assert done.code == 2 and done.json["error"]["kind"] == "request" and "usage:" in done.json["error"]["way_out"]


def test_help_names_every_command(yard: Yard) -> None:
    for words in ([], ["--help"], ["help"]):
        assert all(name in yard(*words).out for name in cli.COMMANDS)
    assert yard("--version").out.startswith("yard ")
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit) as left:
            yard(name, "--help")
        assert left.value.code == 0


def test_a_reader_that_goes_away_is_no_error(desk: Workspace) -> None:
    process = subprocess.Popen([*YARD, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == cli.CLOSED_PIPE


# run


def test_a_dry_run_shows_spec_and_arguments_and_leaves_nothing(desk: Workspace, yard: Yard, spec: Any) -> None:
    path = spec()
    before = sorted(desk.path.rglob("*"))
    done = yard("run", path, "engine.learning_rate=3e-4", "--dry-run", "--json")
    assert done.json["spec"]["engine"]["learning_rate"] == 3e-4
    assert done.json["library"]["arguments"] == done.json["spec"]["engine"]
    assert done.json["library"]["offline"] == "1"
    shown = yard("run", path, "--dry-run")
    assert "kind: train" in shown.out and "# its command: small library" in shown.out
    assert sorted(desk.path.rglob("*")) == before


def test_words_and_options_may_come_in_any_order(desk: Workspace, yard: Yard, spec: Any) -> None:
    done = yard("run", "seed=5", "--json", spec(), "engine.max_steps=1", "--kind", "train", "name=mine")
    assert done.code == 0, done.out
    assert done.json["id"].startswith("train-mine-")
    assert done.json["spec"]["seed"] == 5 and done.json["result"]["status"] == "succeeded"


def test_the_run_folder_keeps_what_was_given_and_what_was_made_of_it(desk: Workspace, yard: Yard, spec: Any) -> None:
    (desk.path / "stop.py").write_text("def stop(): ...\n")
    path = spec()
    path.write_text("# a remark\n" + path.read_text())
    run = finished(desk, yard, path, "callbacks=stop.py:stop", "seed=5")
    assert "# a remark" in run.given_spec.read_text() and "# seed=5" in run.given_spec.read_text()
    assert (run.code / "stop.py").read_text() == "def stop(): ...\n"
    assert run.read_spec()["callbacks"][0]["path"] == str(desk.path / "stop.py")


def test_a_run_can_be_run_again(desk: Workspace, yard: Yard, spec: Any) -> None:
    first = finished(desk, yard, spec(), "effective_batch_size=16")
    second = finished(desk, yard, f"run:{first.id}", "name=again")
    assert second.read_spec() == {**first.read_spec(), "name": "again"}


def test_a_failed_run_tells_why_and_what_to_do(desk: Workspace, yard: Yard, spec: Any) -> None:
    done = yard("run", spec(fail="the library is in a bad mood"))
    assert done.code == 2  # the worker says that the request is wrong
    for word in ("the library is in a bad mood", "way out: ask for something else", "yard resume train-"):
        assert word in done.out
    assert "hf_abcdef" not in done.out + done.err


def test_a_token_in_the_document_is_not_kept(desk: Workspace, yard: Yard, spec: Any) -> None:
    path = spec()
    path.write_text("# my token: hf_abcdefghijklmnopqrstuvwxyz\n" + path.read_text())
    run = finished(desk, yard, path)
    assert "hf_abcdef" not in run.given_spec.read_text()


def test_a_task_needs_no_spec(desk: Workspace, yard: Yard) -> None:
    done = yard("run", "--kind", "eval", "--task", "arithmetic", "model=builtin:tiny", "limit=4", "--json")
    assert done.code == 0, done.out
    assert done.json["spec"]["tasks"] == [{"task": "arithmetic", "path": None, "arguments": {}}]
    done = yard("run", "--kind", "eval", "tasks=arithmetic", "model=builtin:tiny", "--dry-run", "--json")
    assert done.json["spec"]["tasks"][0]["task"] == "arithmetic"
    assert yard("run", "--kind", "eval").code == 2
    assert yard("run").code == 2
    assert yard("run", "x.yaml", "--task", "arithmetic").code == 2


def test_a_spec_of_another_kind_is_refused(yard: Yard, spec: Any) -> None:
    done = yard("run", "--kind", "eval", spec())
    assert done.code == 2 and "kind 'train'" in done.err
    assert yard("run", "--task", "arithmetic", "--kind", "train", "model=builtin:tiny").code == 2


def test_without_a_spec_the_example_for_this_machine_is_trained(desk: Workspace, yard: Yard, spec: Any) -> None:
    example = desk.path / "examples" / "arithmetic" / "train.yaml"
    example.parent.mkdir(parents=True)
    spec().rename(example)
    done = yard("run", "--kind", "train", "--dry-run", "--json")
    assert done.code == 0, done.out
    assert "examples/arithmetic/train.yaml, because there is no GPU" in done.err
    settings = yaml.safe_load((desk.path / "tuneyard.yaml").read_text())
    (desk.path / "tuneyard.yaml").write_text(yaml.safe_dump({**settings, "defaults": {"train": "mine.yaml"}}))
    spec("mine.yaml", lora_rank=3)
    done = yard("run", "--kind", "train", "--dry-run", "--json")
    assert done.json["spec"]["engine"]["lora_rank"] == 3 and "as tuneyard.yaml says" in done.err


def test_with_gpu_but_without_hub_the_small_example_is_trained(
    desk: Workspace, yard: Yard, spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a")
    (desk.path / "examples" / "arithmetic").mkdir(parents=True)
    spec().rename(desk.path / "examples" / "arithmetic" / "train.yaml")
    assert "there is a GPU, but the hub" in yard("run", "--kind", "train", "--dry-run").err


def test_a_wrong_request_makes_no_folder(desk: Workspace, yard: Yard, spec: Any) -> None:
    assert yard("run", spec(), "engine.lora_rnak=1").code == 2
    assert yard("run", desk.path / "none.yaml").code == 2
    assert yard("run", desk.path).code == 2
    assert not desk.runs.exists()


def test_a_folder_of_runs_that_cannot_be_made_is_a_matter_of_the_set_up(desk: Workspace, yard: Yard, spec: Any) -> None:
    desk.runs.touch()
    done = yard("run", spec())
    assert done.code == 3, done.err
    assert str(desk.runs) in done.err and "Traceback" not in done.err
    listed = yard("runs", "--json")
    assert listed.code == 3 and listed.json["error"]["where"] == str(desk.runs)
    desk.runs.unlink()


# runs, show, logs


def test_runs_are_listed_newest_first_and_by_state(desk: Workspace, yard: Yard, spec: Any) -> None:
    good = finished(desk, yard, spec())
    bad = finished(desk, yard, spec(fail="no"))
    lines = yard("runs").out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[bad.id, "failed"], [good.id, "succeeded"]]
    assert "train_loss 1.25" in lines[2] and "request: no" in lines[1]
    assert [row["id"] for row in yard("runs", "--state", "failed", "--json").json] == [bad.id]
    assert "1 of 2 runs" in yard("runs", "--limit", "1").out
    assert yard("runs", "--kind", "eval").out == "no such runs\n"
    assert yard("runs", "--limit", "0").code == 2


def test_a_run_is_shown_with_metrics_artifacts_and_the_next_command(desk: Workspace, yard: Yard, spec: Any) -> None:
    run = finished(desk, yard, spec())
    shown = yard("show", run.id[:-1]).out
    for word in (
        "succeeded",
        "builtin:arithmetic",
        "sft, full",
        "train_loss",
        "1.25",
        str(run.model),
        "-e eval arithmetic",
    ):
        assert word in shown
    told = yard("show", run.id, "--json").json
    assert told["artifacts"]["model"] == str(run.model) and told["result"]["status"] == "succeeded"


def test_a_running_run_is_shown_with_its_progress(desk: Workspace, yard: Yard, spec: Any) -> None:
    run = started(desk, yard, spec(max_steps=10**6, pause=0.05))
    wait_for(run, "running")
    deadline = time.monotonic() + 30
    while "progress: working, " not in (shown := yard("show", run.id).out):
        assert time.monotonic() < deadline, shown
    assert f"yard cancel {run.id}" in shown and f"yard logs {run.id} -f" in shown
    assert yard("rm", run.id).code == 2
    yard("cancel", run.id)
    wait_for(run, "cancelled")
    assert f"yard resume {run.id}" in yard("show", run.id).out


def test_an_older_run_is_shown_as_it_is(desk: Workspace, yard: Yard) -> None:
    run = RunFolder(desk.runs / "train-old-260101-0000-abc")
    run.path.mkdir(parents=True)
    run.spec.write_text('{"schema_version": 0, "kind": "train", "fields": "of long ago"}')
    run.new_attempt().result.write_text('{"status": "succeeded", "seconds": 1, "colour": "blue"}')
    assert "succeeded" in yard("show", run.id).out
    run.spec.unlink()
    assert "succeeded" in yard("show", run.id).out or yard("show", run.id).code == 2


def write_logs(desk: Workspace, *texts: str) -> RunFolder:
    run = RunFolder(desk.runs / "train-x-260101-0000-abc")
    run.path.mkdir(parents=True)
    run.spec.write_text("{}")
    for text in texts:
        attempt = run.new_attempt()
        attempt.stderr.write_text(text)
        attempt.stdout.write_text("printed\n")
        attempt.result.write_text('{"status": "failed", "seconds": 1}')
    return run


def test_logs_are_bounded_and_masked(desk: Workspace, yard: Yard) -> None:
    run = write_logs(
        desk, "first\n", "".join(f"line {n}\n" for n in range(300)) + "key=hf_abcdefghijklmnopqrstuvwxyz\n"
    )
    lines = yard("logs", run.id).out.splitlines()
    assert len(lines) == 100 and lines[-2] == "line 299" and "hf_abc" not in lines[-1]
    assert yard("logs", run.id, "--lines", "2").out.splitlines()[0] == "line 299"
    assert yard("logs", run.id, "--attempt", "1").out == "first\n"
    assert yard("logs", run.id, "--stdout").out == "printed\n"
    assert yard("logs", run.id, "--lines", "1", "--json").json["lines"] == lines[-1:]
    assert yard("logs", run.id, "--attempt", "9").code == 2
    assert yard("logs", run.id, "--lines", "0").code == 2


def test_logs_can_be_followed_to_the_end(desk: Workspace, yard: Yard, spec: Any) -> None:
    run = started(desk, yard, spec(pause=0.3, max_steps=3, fail=None))
    wait_for(run, "running")
    latest = run.latest()
    assert latest is not None
    process = subprocess.Popen([*YARD, "logs", run.id, "-f", "--stdout"], stdout=subprocess.PIPE, text=True)
    with open(latest.stdout, "a") as log:
        log.write("token: hf_abcdefghijklmnopqrstuvwxyz\nwithout an end")
    out, _ = process.communicate(timeout=60)
    assert out.splitlines()[-2:] == ["token: ********", "without an end"]
    assert run.status().ended


def test_a_run_that_has_not_begun_has_no_logs(desk: Workspace, yard: Yard) -> None:
    run = RunFolder(desk.runs / "train-x-260101-0000-abc")
    run.path.mkdir(parents=True)
    run.spec.write_text("{}")
    assert "has not begun yet" in yard("logs", run.id).err


# cancel, resume, rm, compare, index


def test_what_acts_on_a_run_takes_its_whole_id(desk: Workspace, yard: Yard) -> None:
    run = write_logs(desk, "x")
    for command in ("cancel", "resume", "rm"):
        done = yard(command, run.id[:-1])
        assert done.code == 2 and f"write {run.id}" in done.err
    assert "has already ended" in yard("cancel", run.id).err


def test_a_failed_run_is_resumed_and_a_succeeded_one_is_not(desk: Workspace, yard: Yard, spec: Any) -> None:
    run = finished(desk, yard, spec(fail="no"))
    content = run.read_spec()
    content["engine"]["fail"] = None
    run.spec.write_text(json.dumps(content))
    done = yard("resume", run.id, "--json")
    assert done.code == 0 and done.json["attempt"] == 2 and done.json["state"] == "succeeded"
    done = yard("resume", run.id)
    assert done.code == 2 and "succeeded" in done.err
    assert yard("rm", run.id, "--json").json == {"id": run.id, "state": "deleted"}
    assert not run.path.exists()


def test_a_resume_says_which_code_was_edited(desk: Workspace, yard: Yard, spec: Any) -> None:
    file = desk.path / "stop.py"
    file.write_text("def stop(): ...\n")
    run = finished(desk, yard, spec(fail="no"), "callbacks=stop.py:stop")
    assert "was edited" not in yard("resume", run.id, "--json").err
    file.write_text("def stop(): return 1\n")
    said = yard("resume", run.id, "--json").err
    assert f"note: {file} was edited after the run was made" in said and f"yard run run:{run.id}" in said


def test_what_code_imports_from_beside_it_is_kept_with_the_run(desk: Workspace, yard: Yard, spec: Any) -> None:
    (desk.path / "stop.py").write_text("import beside\n\n\ndef stop(): ...\n")
    (desk.path / "beside.py").write_text("x = 1\n")
    (desk.path / "unused.py").write_text("x = 1\n")
    run = finished(desk, yard, spec(), "callbacks=stop.py:stop")
    assert sorted(path.name for path in run.code.iterdir()) == ["beside.py", "stop.py"]
    assert [Path(code["path"]).name for code in run.read_spec()["code"]] == ["stop.py", "beside.py"]


def test_a_resume_says_which_task_file_was_edited(desk: Workspace, yard: Yard) -> None:
    file = desk.path / "mine.yaml"
    file.write_text("task: mine\n")
    run = finished(desk, yard, "--kind", "eval", "tasks=mine.yaml", "model=builtin:tiny", "engine.fail=broken")
    assert (run.code / "mine.yaml").read_text() == "task: mine\n"
    file.write_text("task: mine\nnum_fewshot: 2\n")
    assert f"note: {file} was edited after the run was made" in yard("resume", run.id, "--json").err
    assert {path.read_text() for path in run.code.iterdir()} == {"task: mine\n", file.read_text()}


def test_a_run_that_another_was_made_from_is_kept(desk: Workspace, yard: Yard, spec: Any) -> None:
    first = finished(desk, yard, spec())
    second = finished(desk, yard, spec(), f"model=run:{first.id}")
    done = yard("rm", first.id)
    assert done.code == 2 and second.id in done.err
    assert yard("rm", second.id).code == 0 and yard("rm", first.id).code == 0


def test_two_evaluations_are_compared(desk: Workspace, yard: Yard) -> None:
    words = ["--kind", "eval", "--task", "arithmetic", "model=builtin:tiny"]
    a, b = (finished(desk, yard, *words, f"dtype='{right}'") for right in (3, 7))
    shown = yard("compare", a.id, b.id).out
    for word in (
        "quiz/exact_match on 10 documents",
        "A 0.3000",
        "B 0.7000",
        "+0.4000",
        "better in B: 4",
        "McNemar p = 0.125",
    ):
        assert word in shown
    earlier, later = sorted((a.id, b.id), key=lambda name: name[-15:])
    assert f"yard compare {earlier} {later}" in yard("show", later).out
    assert "next:" not in yard("show", earlier).out
    assert "Question 3" in shown and "the first 2 of 4" in yard("compare", a.id, b.id, "--documents", "2").out
    told = yard("compare", a.id, b.id, "--json").json
    assert told["differences"][0]["p"] == 0.125 and told["caveats"] == []
    shorter = finished(desk, yard, *words, "limit=5")
    assert "take the difference with care" in yard("compare", a.id, shorter.id).out


def test_the_index_can_be_made_anew(desk: Workspace, yard: Yard, spec: Any) -> None:
    finished(desk, yard, spec())
    told = yard("index", "rebuild", "--json").json
    assert told["runs"] == 1 and Path(told["path"]).is_relative_to(os.environ["XDG_CACHE_HOME"])
    assert "1 runs are in" in yard("index", "rebuild").out
    assert yard("index", "burn").code == 2
