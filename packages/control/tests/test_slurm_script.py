"""The scripts for SLURM: what is asked for stands in them, and nothing in them is read by a shell but as text."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.control.resolving.scheduled import Later, scheduled
from tuneyard.control.slurm.script import array_script, gpus_of, job_script, last_command, needs, options, seconds_of
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError
from tuneyard.core.run_folder import RunFolder

LINE = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=40)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    (tmp_path / "tuneyard.yaml").write_text("slurm: {partition: gpu, time: 8:00:00, cpus_per_task: 4}\n")
    monkeypatch.setenv("TUNEYARD_SLURM_PARTITION", "large")
    monkeypatch.setenv("TUNEYARD_SLURM_REQUEUE", "false")
    return Workspace(tmp_path)


def test_options_come_from_settings_then_variables_then_the_command_line(settings: Workspace) -> None:
    wanted = {"partition": "large", "time": "8:00:00", "cpus-per-task": 4, "requeue": False}
    assert options(settings) == wanted
    assert options(settings, {"partition": "debug", "qos": "high"}) == wanted | {"partition": "debug", "qos": "high"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"partitoin": "gpu"}, "partition"),
        ({"nodes": "2"}, "it belongs to the spec"),
        ({"array": "0-3"}, "a study's"),
        ({"wrap": "rm -rf /"}, "unknown option of sbatch"),
        ({"comment": "a\nb"}, "no value of an option"),
        ({"time": "soon"}, "no time of sbatch"),
    ],
)
def test_what_is_no_option_is_refused_by_name(settings: Workspace, given: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        options(settings, given)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 5400), ("30:00", 1800), ("8:00:00", 28800), ("2-12", 216000), ("1-00:30:00", 88200), ("infinite", math.inf)],
)
def test_a_time_is_read_as_sbatch_reads_it(text: str | int, seconds: float) -> None:
    assert seconds_of(text) == seconds


def test_gpus_are_the_specs_and_their_type_is_the_settings() -> None:
    assert gpus_of({"gres": "gpu:a100:2,tmp:5"}) == 2
    assert [gpus_of({"gres": text}) for text in ("", "gpu", "gpu:3", "gpu:a100", "tmp:5")] == [0, 1, 3, 1, 0]
    assert needs({"gpus": 4}, {"gres": "gpu:a100:2,tmp:5"})["gres"] == "gpu:a100:4,tmp:5"
    assert needs({"gpus": 0}, {"gres": "gpu:2"})["gres"] is None
    assert needs({"gpus": 1}, {})["gres"] == "gpu:1"


def test_the_notice_comes_before_the_end_and_never_before_half_of_the_time() -> None:
    assert needs({"cancel_grace": 100}, {})["signal"] == "B:USR1@160"
    assert needs({"cancel_grace": 100}, {"time": 2})["signal"] == "B:USR1@60"
    assert needs({"time_limit": 3600, "cancel_grace": 60}, {})["time"] == 76


def test_a_spec_for_later_counts_on_the_clusters_devices() -> None:
    from tuneyard.control.devices import resolve_gpus

    with scheduled(Later(gpus=2)):
        assert [resolve_gpus(wanted) for wanted in (None, "all", 8, 0)] == [2, 2, 8, 0]
        with pytest.raises(RequestError):
            resolve_gpus(-1)


@given(folder=LINE, value=LINE)
def test_no_name_or_value_is_more_than_text_to_the_shell(folder: str, value: str) -> None:
    run = RunFolder(Path("/cluster") / folder.replace("/", "_") / "runs" / "train-x-261120-1830-k3f")
    script = job_script(Workspace(run.path.parents[1]), run, {"comment": value}, {"HF_HOME": value})
    seen = _run(script.replace("exec ", "show ", 1), 'show() { printf "%s\\0" "$HF_HOME" "${@: -1}"; }')
    assert seen == [value, str(run.path)]


@given(folder=LINE)
def test_each_task_of_an_array_starts_its_own_run(folder: str) -> None:
    runs = {n: RunFolder(Path("/cluster") / folder.replace("/", "_") / f"{n}") for n in (0, 1, 2, 7)}
    script = array_script("a", runs, 2, {}, Path("/cluster/a.log"))
    assert "#SBATCH --array=0-2,7%2" in script
    lines = [line for line in script.splitlines() if not line.startswith("exec")]
    seen = _run("SLURM_ARRAY_TASK_ID=7\n" + "\n".join(lines) + '\nprintf "%s\\0" "$run"', "")
    assert seen == [str(runs[7].path)]


def _run(script: str, before: str) -> list[str]:
    answer = subprocess.run(["bash", "-c", f"{before}\n{script}"], capture_output=True, check=True, timeout=20)
    return answer.stdout.decode().split("\0")[:-1]


def test_a_name_with_a_line_break_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "two\nlines" / "train-x-261120-1830-k3f")
    with pytest.raises(RequestError, match="line break"):
        job_script(Workspace(tmp_path), run, {})


def test_nodes_are_refused_where_there_is_no_scheduler(desk: Workspace) -> None:
    from tuneyard.control.resolving.request import Request

    spec = {"kind": "train", "model": "builtin:tiny", "dataset": "builtin:arithmetic", "nodes": 2}
    batch = {**spec, "processes": 2, "effective_batch_size": 16, "engine": {"per_device_train_batch_size": 2}}
    with pytest.raises(RequestError, match="only on SLURM"):
        Request(spec, desk.path, "spec").resolve(desk)
    with scheduled(Later()):
        engine = Request(batch, desk.path, "spec").resolve(desk).spec.engine
    assert engine["gradient_accumulation_steps"] == 2


def test_the_script_is_shell_that_shlex_understands_too(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / 'it\'s "ünï"')
    words = shlex.split(job_script(Workspace(tmp_path), run, {}, {"A": "b c"}), comments=True)
    assert words[-1] == str(run.path) and "A=b c" in words
    assert json.dumps(str(run.path), ensure_ascii=False)[1:-1] in job_script(Workspace(tmp_path), run, {})


@given(words=st.lists(LINE))
def test_what_a_job_does_at_its_end_is_read_back_from_its_script(
    words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = RunFolder(tmp_path_factory.mktemp("it's"))
    assert last_command(run) == []
    run.job_script.write_text(job_script(Workspace(run.path), run, {}, {"A": "b 'c"}, words))
    assert last_command(run) == words


def test_it_is_done_by_the_interpreter_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/removed/bin/python")
        command = ["/removed/bin/python", "-m", "again"]
        run.job_script.write_text(job_script(Workspace(tmp_path), run, {}, None, command))
    assert last_command(run) == [sys.executable, "-m", "again"]


@pytest.mark.parametrize("text", ["sbatch other.sh\n", "echo 'a\n"])
def test_a_script_that_a_person_rewrote_has_nothing_to_read_back(tmp_path: Path, text: str) -> None:
    run = RunFolder(tmp_path)
    run.job_script.write_text(text)
    assert last_command(run) == []
