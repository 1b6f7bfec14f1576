"""Environments that are broken on purpose, each diagnosed with what is wrong with it."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tuneyard.doctor.inventory import judge, parse

if TYPE_CHECKING:
    from conftest import Clinic, Prefix

ROOT = Path(__file__).parents[3]


def engine(clinic: Clinic, source: str, **options: Any) -> Prefix:
    """An environment `train` whose engine is `source`."""
    prefix = clinic.environment(**options).install("llamafactory", "1.0", llamafactory__train__tuner=source)
    return prefix.install("tuneyard-train", "0.1.0", tuneyard__train__worker="")


def test_a_healthy_environment_has_no_finding(clinic: Clinic) -> None:
    clinic.pin("train", "tuneyard-core==0.1.0", "llamafactory[x]==1.0", "torch==2.13.0", "numpy>=2")
    prefix = clinic.healthy()
    seen = clinic.diagnose("train")
    assert (seen.code, seen.status(), seen.findings()) == (0, "ready", {})
    [told] = seen.told["environments"]
    assert told["made_by"] == "pixiw"
    assert told["prefix"] == str(prefix.path)
    assert told["engines"] == {"llamafactory": "1.0"}
    assert told["libraries"] == {"torch": "2.13.0+cpu"}
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "nothing was found" in clinic.run("train").out


def test_an_interpreter_of_the_users_own_is_diagnosed_like_ours(clinic: Clinic, tmp_path: Path) -> None:
    own = engine(clinic, "import os; os.kill(os.getpid(), 11)", at=tmp_path / "conda" / "envs" / "mine")
    clinic.name_interpreter("train", own.python)
    seen = clinic.diagnose("train")
    assert seen.told["environments"][0]["made_by"] == "settings"
    assert "import-crashes" in seen.findings()
    assert seen.code == 1


def test_what_is_not_built_is_told_with_the_command_that_builds_it(clinic: Clinic) -> None:
    seen = clinic.diagnose("eval")
    assert (seen.code, seen.status("eval")) == (3, "not_built")
    assert seen.findings("eval")["not-built"]["severity"] == "broken"
    assert "./pixiw install -e eval" in seen.findings("eval")["not-built"]["way_out"]
    clinic.healthy("train")
    beside = clinic.diagnose()
    assert (beside.code, beside.findings("eval")["not-built"]["severity"]) == (0, "note")


def test_where_nothing_is_built_what_is_declared_is_still_compared(clinic: Clinic) -> None:
    for name in ("pixi.toml", "pixiw", "packages", "agents", "locks"):
        (clinic.path / name).unlink(missing_ok=True)
        (clinic.path / name).symlink_to(ROOT / name)
    seen = clinic.run()
    assert seen.code == 3
    assert "./pixiw install -e train" in seen.out
    assert "train  with  serve: conflict" in seen.out


def test_an_interpreter_that_is_not_there(clinic: Clinic) -> None:
    clinic.name_interpreter("train", "/no/such/python")
    seen = clinic.diagnose("train")
    assert (seen.code, list(seen.findings())) == (3, ["interpreter-missing"])


@pytest.mark.parametrize(
    "content", ["#!/no/such/program\n", "no program at all", "#!/bin/sh\nexit 7\n", "#!/bin/sh\nkill -9 $$\n"]
)
def test_an_interpreter_that_does_not_work(clinic: Clinic, tmp_path: Path, content: str) -> None:
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(content)
    python.chmod(0o755)
    clinic.name_interpreter("train", python)
    seen = clinic.diagnose("train")
    assert (seen.code, seen.status(), list(seen.findings())) == (3, "unprobed", ["interpreter-broken"])
    assert str(python) in seen.findings()["interpreter-broken"]["evidence"]


def test_a_missing_engine_and_a_wrong_version(clinic: Clinic) -> None:
    clinic.pin("train", "llamafactory==1.0", "transformers==5.6.0", "torch==2.13.0", "peft==0.18.1")
    prefix = clinic.environment().install("transformers", "5.7.0").install("torch", "2.13.0+cpu", torch="")
    prefix.install("tuneyard-train", "0.1.0", tuneyard__train__worker="")
    found = clinic.diagnose("train").findings()
    assert found["engine-missing"]["message"] == "llamafactory is not installed"
    assert found["distribution-missing"]["message"] == "peft is not installed"
    assert "transformers 5.7.0 is installed, and 5.6.0 is" in found["version-differs"]["message"]
    assert "torch" not in " ".join(
        finding["message"] for finding in found.values()
    )  # another build is no other version


def test_a_worker_that_is_not_installed(clinic: Clinic) -> None:
    clinic.pin("train", "llamafactory==1.0")
    clinic.environment().install("llamafactory", "1.0", llamafactory__train__tuner="")
    found = clinic.diagnose("train").findings()
    assert list(found) == ["worker-missing"]
    assert "-m pip install -e packages/core" in found["worker-missing"]["way_out"]


def test_a_torchvision_for_another_torch(clinic: Clinic) -> None:
    broken = 'raise RuntimeError("operator torchvision::nms does not exist")'
    clinic.healthy().install("torchvision", "0.20.0", ("torch==2.5.0",), torchvision=broken)
    seen = clinic.diagnose("train")
    found = seen.findings()["torchvision-mismatch"]
    assert (seen.code, found["severity"]) == (1, "broken")
    assert "operator torchvision::nms does not exist" in found["message"]
    assert list(seen.findings()) == ["torchvision-mismatch"]  # the same is not told twice


def test_a_torchvision_whose_metadata_alone_gives_it_away(clinic: Clinic) -> None:
    clinic.healthy().install("torchvision", "0.20.0", ("torch==2.5.0",), torchvision="")
    found = clinic.diagnose("train").findings()["torchvision-mismatch"]
    assert "asks for torch==2.5.0, and torch 2.13.0+cpu is installed" in found["message"]


@pytest.mark.parametrize("name", ["torchaudio", "flash-attn", "bitsandbytes"])
def test_compiled_modules_for_another_torch(clinic: Clinic, name: str) -> None:
    module = name.replace("-", "_")
    broken = f'raise ImportError("{module}.so: undefined symbol: _ZN3c104cuda9SetDeviceEi")'
    sources: dict[str, Any] = {module: broken}
    clinic.healthy().install(name, "1.0", **sources)
    found = clinic.diagnose("train").findings()
    assert list(found) == [f"{name}-mismatch"]
    assert "undefined symbol" in found[f"{name}-mismatch"]["message"]


def test_a_missing_torchaudio(clinic: Clinic) -> None:
    engine(clinic, "import torchaudio")
    found = clinic.diagnose("train").findings()
    assert list(found) == ["torchaudio-missing"]
    assert found["torchaudio-missing"]["severity"] == "broken"


def test_a_missing_torchaudio_that_the_worker_does_without_is_a_note(clinic: Clinic) -> None:
    stand_in = """
        import sys, types
        def stand_in():
            sys.modules["torchaudio"] = types.ModuleType("torchaudio")
            return True
    """
    engine(clinic, "import torchaudio").install("stand-ins", tuneyard__train__stand_ins=stand_in)
    seen = clinic.diagnose("train")
    assert (seen.code, seen.findings()["torchaudio-missing"]["severity"]) == (0, "note")


def test_a_module_that_crashes(clinic: Clinic) -> None:
    engine(clinic, "import ctypes\nctypes.string_at(0)\n")
    found = clinic.diagnose("train").findings()["import-crashes"]
    assert "importing llamafactory.train.tuner was ended by SIGSEGV" in found["message"]
    assert "tuner.py" in found["evidence"]


def test_what_comes_after_a_module_that_crashes_is_still_tried(clinic: Clinic) -> None:
    prefix = clinic.healthy().install("torchvision", "0.28.0", torchvision="import os; os.abort()")
    prefix.install("bitsandbytes", "1.0", bitsandbytes='raise ImportError("bitsandbytes: undefined symbol: x")')
    found = clinic.diagnose("train").findings()
    assert set(found) == {"import-crashes", "bitsandbytes-mismatch"}
    assert "torchvision was ended by SIGABRT" in found["import-crashes"]["message"]


def test_a_module_that_hangs_is_ended_and_shown_where(clinic: Clinic) -> None:
    engine(clinic, "import time\n\n\ndef wait_for_ever():\n    time.sleep(600)\n\n\nwait_for_ever()\n")
    started = time.monotonic()
    found = clinic.diagnose("train", "--time-limit", "3").findings()["import-hangs"]
    assert time.monotonic() - started < 60
    assert "did not end within 3 s" in found["message"]
    assert "in wait_for_ever" in found["evidence"]


def test_a_module_that_hangs_and_takes_no_notice_of_signals(clinic: Clinic) -> None:
    engine(clinic, "import signal, time\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\nwhile True: pass\n")
    assert "import-hangs" in clinic.diagnose("train", "--time-limit", "2").findings()


def test_a_module_that_prints_ten_megabytes(clinic: Clinic) -> None:
    engine(clinic, 'import sys\nfor n in range(100_000): print("x" * 99)\nprint("the end", file=sys.stderr)\n')
    seen = clinic.diagnose("train")
    found = seen.findings()["import-prints"]
    assert (seen.code, found["severity"]) == (0, "risky")
    assert "10.0 MB" in found["message"]
    assert "the end" in found["evidence"]
    assert len(seen.out) < 20_000


def test_a_module_that_forks(clinic: Clinic) -> None:
    engine(clinic, "import os\nos.fork()\n")
    found = clinic.diagnose("train").findings()
    assert list(found) == ["import-forks"]
    assert "1 fork " in found["import-forks"]["evidence"]


def test_a_module_that_leaves_a_process_behind(clinic: Clinic, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    source = f"""
        import subprocess
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        open({str(note)!r}, "w").write(str(child.pid))
    """
    engine(clinic, source)
    assert list(clinic.diagnose("train").findings()) == ["import-leaves-processes"]
    status = Path(f"/proc/{note.read_text()}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("source", "told"), [("import os; os._exit(3)", "exit code 3"), ("import sys; sys.exit('no')", "ends the process")]
)
def test_a_module_that_ends_the_process(clinic: Clinic, source: str, told: str) -> None:
    engine(clinic, source)
    found = clinic.diagnose("train").findings()
    assert list(found) == ["import-exits"]
    assert told in found["import-exits"]["message"]


def test_an_error_is_told_with_what_it_came_from(clinic: Clinic) -> None:
    source = """
        try:
            import a_module_that_is_not_there
        except ImportError as error:
            raise ImportError("Could not import module 'PreTrainedModel'") from error
    """
    engine(clinic, source)
    found = clinic.diagnose("train").findings()["import-fails"]
    assert found["message"].endswith("there is no module 'a_module_that_is_not_there'")
    assert "PreTrainedModel" in found["evidence"]
    assert "a_module_that_is_not_there" in found["way_out"]


def test_requirements_that_nothing_installed_fulfils(clinic: Clinic) -> None:
    prefix = clinic.healthy().install("datasets", "3.0")
    prefix.install(
        "trl", "1.0", ("datasets>=4", 'colorama; sys_platform == "win32"', 'deepspeed; extra == "ds"', "torchvision")
    )
    found = clinic.diagnose("train").findings()
    assert list(found) == ["requirement-unmet"]
    assert "trl 1.0 asks for datasets>=4, and datasets 3.0 is installed" in found["requirement-unmet"]["message"]


def test_cuda_libraries_of_two_cudas(clinic: Clinic) -> None:
    clinic.healthy().install("nvidia-cublas-cu12", "12.8").install("nvidia-cudnn-cu13", "9.1")
    found = clinic.diagnose("train").findings()["cuda-libraries-mixed"]
    assert "CUDA 12 and 13" in found["message"]


def test_an_install_that_was_cut_short(clinic: Clinic) -> None:
    prefix = clinic.healthy().install("peft", "0.18.1").install("peft", "0.17.0")
    (prefix.packages / "half-1.0.dist-info").mkdir()
    found = clinic.diagnose("train").findings()
    assert set(found) == {"installed-twice", "metadata-unreadable"}
    assert found["installed-twice"]["evidence"].startswith("0.17.0, 0.18.1 ")


def test_train_and_eval_that_disagree(clinic: Clinic) -> None:
    clinic.healthy("train").install("tokenizers", "0.22.1")
    clinic.healthy("eval").install("tokenizers", "0.22.2")
    seen = clinic.diagnose()
    assert seen.findings("eval")["versions-disagree"]["severity"] == "risky"
    assert "tokenizers 0.22.1 and 0.22.2" in seen.findings("eval")["versions-disagree"]["message"]


def test_a_python_that_the_workers_cannot_run_in(clinic: Clinic) -> None:
    markers = {"python_version": "3.9"}
    told = dict.fromkeys(("executable", "platform", "compiler", "nvcc", "include"), "/opt/python")
    told |= {"python": "3.9.18", "markers": markers, "distributions": [], "worker": True, "core": None}
    from tuneyard.control.workspace import Workspace

    found = judge(Workspace(clinic.path), "train", parse({**told, "headers": True, "variables": []}))
    assert [(f.id, f.severity) for f in found] == [("python-version", "broken")]


def test_secrets_are_masked(clinic: Clinic) -> None:
    engine(clinic, 'import os\nprint("x" * 70_000)\nraise ValueError(os.environ["WANDB_API_KEY"])')
    seen = clinic.diagnose("train", WANDB_API_KEY="0123456789abcdef0123")
    assert "import-fails" in seen.findings()
    assert "0123456789abcdef0123" not in seen.out


def test_bad_requests_are_refused_before_anything_is_probed(clinic: Clinic) -> None:
    clinic.healthy()
    for words, told in (
        (["trian"], "did you mean 'train'?"),
        (["--since", "train-x-261121-0956-abc"], "no run"),
        (["--time-limit", "0"], "is no number of seconds"),
        (["--no-such-option"], "unrecognized arguments"),
    ):
        seen = clinic.run(*words)
        assert seen.code == 2, seen
        assert told in seen.err
        assert clinic.diagnose(*words).told["error"]["exit_code"] == 2
    (clinic.path / "pixi.toml").write_text("not = toml = at all")
    assert clinic.run().code == 2


def test_a_broken_pyproject_is_refused(clinic: Clinic) -> None:
    clinic.healthy()
    clinic.pin("train", "torch==2.13.0")
    (clinic.path / "packages" / "train" / "pyproject.toml").write_text("[project\n")
    seen = clinic.run("train")
    assert seen.code == 2
    assert "pyproject.toml: cannot be read" in seen.err


def test_ctrl_c_ends_what_runs_at_once(clinic: Clinic, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    engine(clinic, f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    process = clinic.start("train")
    deadline = time.monotonic() + 60
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not Path(f"/proc/{note.read_text()}").exists()


def test_two_missing_engines_are_both_told(clinic: Clinic) -> None:
    clinic.pin("eval", "lm-eval==0.4.13", "inspect-ai==0.3.285")
    clinic.environment("eval").install("tuneyard-eval", "0.1.0", tuneyard__eval__worker="")
    told = [f["message"] for f in clinic.diagnose("eval").told["findings"] if f["id"] == "engine-missing"]
    assert told == ["lm-eval is not installed", "inspect-ai is not installed"]
