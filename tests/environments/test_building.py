"""Environments that pixiw builds: exactly the lock's versions, once, and whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Workshop

ROOT = Path(__file__).parents[2]


def slow_uv(workshop: Workshop, folder: Path) -> str:
    """A uv that says when it starts to install and goes on only when it is told to."""
    script = folder / "slow-uv"
    script.write_text(
        f"""#!/bin/sh
case "$*" in
*"pip install"*--compile-bytecode*)
    touch {str(folder / "installing")!r}
    while [ ! -e {str(folder / "go on")!r} ]; do sleep 0.05; done ;;
esac
exec {workshop.environ["UV"]!r} "$@"
"""
    )
    script.chmod(0o755)
    return str(script)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_second_start_builds_nothing(built: Workshop) -> None:
    before = built.builds("default")
    assert "building" not in built.run("run", "tiny").stderr
    assert built.builds("default") == before


def test_changed_code_is_used_at_once_and_rebuilds_nothing(built: Workshop) -> None:
    code = built.root / "packages/tiny/src/tiny/__init__.py"
    code.write_text("def main():\n    print('changed')\n")
    done = built.run("run", "tiny")
    assert done.stdout == "changed\n"
    assert "building" not in done.stderr


def test_a_changed_entry_point_rebuilds(built: Workshop) -> None:
    pyproject = built.root / "packages/tiny/pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('tiny = "tiny:main"', 'small = "tiny:main"'))
    done = built.run("run", "small")
    assert done.returncode == 0
    assert "building" in done.stderr
    assert not (built.root / ".pixi/uv/default/bin/tiny").exists()


def test_a_task_edit_rebuilds_nothing(built: Workshop) -> None:
    manifest = built.root / "pixi.toml"
    manifest.write_text(manifest.read_text().replace("from the manifest", "edited"))
    done = built.run("run", "tiny")
    assert json.loads(done.stdout)["arguments"] == ["edited"]
    assert "building" not in done.stderr


def test_what_runs_keeps_its_environment_while_a_newer_one_is_built(workshop: Workshop) -> None:
    workshop.version_of_leaf()
    late_import = "import sys; print('ready', flush=True); sys.stdin.read(); import leaf; print(leaf.version)"
    command = [str(workshop.builds("extra")[0] / "bin" / "python"), "-c", late_import]
    workshop.offer("leaf", "2.0")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        workshop.lock("extra", "leaf==2.0\n")
        assert workshop.version_of_leaf() == "2.0"
        assert running.communicate()[0] == "1.0\n"


def test_an_earlier_build_is_taken_up_again(workshop: Workshop) -> None:
    workshop.offer("leaf", "2.0")
    for version, builds in (("1.0", 1), ("2.0", 2), ("1.0", 2)):
        workshop.lock("extra", f"leaf=={version}\n")
        assert workshop.version_of_leaf() == version
        assert len(workshop.builds("extra")) == builds


def test_superseded_builds_go_when_no_job_can_run_from_them_any_more(workshop: Workshop, launcher: Any) -> None:
    workshop.version_of_leaf()
    (old,) = workshop.builds("extra")
    workshop.offer("leaf", "2.0")
    workshop.lock("extra", "leaf==2.0\n")
    workshop.version_of_leaf()
    long_ago = time.time() - 86400 * (launcher.KEEP_SUPERSEDED_DAYS + 1)
    os.utime(old / "complete", (long_ago, long_ago))
    workshop.offer("leaf", "3.0")
    workshop.lock("extra", "leaf==3.0\n")
    workshop.version_of_leaf()
    assert old not in workshop.builds("extra")
    assert len(workshop.builds("extra")) == 2


def test_a_killed_install_is_repaired_by_the_next_start(workshop: Workshop, tmp_path: Path) -> None:
    process = workshop.start("install", UV=slow_uv(workshop, tmp_path))
    wait_for(tmp_path / "installing")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (half_made,) = workshop.builds("default")
    assert not (workshop.root / ".pixi/uv/default").exists()
    done = workshop.run("run", "tiny")
    assert done.returncode == 0, done.stderr
    assert workshop.builds("default") == [half_made]


def test_the_next_start_waits_for_the_uv_that_a_killed_one_left(workshop: Workshop, tmp_path: Path) -> None:
    killed = workshop.start("install", UV=slow_uv(workshop, tmp_path))
    wait_for(tmp_path / "installing")
    killed.kill()
    process = workshop.start("run", "tiny")
    assert process.stderr is not None
    assert process.stderr.readline() == "pixiw: waiting: 'default' is being built by another process\n"
    (tmp_path / "go on").touch()
    _, err = process.communicate(timeout=120)
    killed.communicate()
    assert process.returncode == 0, err


def test_an_interrupt_leaves_nothing_half_made(workshop: Workshop, tmp_path: Path) -> None:
    process = workshop.start("install", UV=slow_uv(workshop, tmp_path))
    wait_for(tmp_path / "installing")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert workshop.builds("default") == []


def test_several_started_at_once_build_once(workshop: Workshop) -> None:
    processes = [workshop.start("run", "tiny") for _ in range(4)]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, ended
    assert sum("built environment" in err for _, err in ended) == 1


def test_a_removed_base_interpreter_is_noticed(built: Workshop) -> None:
    python = built.root / ".pixi/uv/default/bin/python"
    target = python.readlink()
    python.unlink()
    python.symlink_to("/nonexistent/python3.11")
    done = built.run("run", "tiny")
    assert done.returncode == 0, done.stderr
    assert python.readlink() == target


def test_a_moved_workspace_is_built_anew(built: Workshop, tmp_path: Path) -> None:
    built.root = built.root.rename(tmp_path / "moved")
    done = built.run("run", "tiny")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["PIXI_PROJECT_ROOT"] == str(built.root)


def test_everything_is_compiled_where_bytecode_is_not_written(workshop: Workshop) -> None:
    done = workshop.run("install", "-e", "extra", PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stderr
    assert list((workshop.root / ".pixi/uv/extra").glob("lib/*/site-packages/leaf/__pycache__/*.pyc"))
    (compiled,) = (workshop.root / "packages/tiny/src/tiny/__pycache__").glob("*.pyc")
    before = compiled.read_bytes()
    source = workshop.root / "packages/tiny/src/tiny/__init__.py"
    source.write_text("changed = True\n")
    os.utime(source, (later := source.stat().st_mtime + 2, later))  # Python tells versions apart by whole seconds
    assert workshop.run("install", "-e", "extra", PYTHONDONTWRITEBYTECODE="1").returncode == 0
    assert compiled.read_bytes() != before


def test_what_was_built_needs_no_index(built: Workshop) -> None:
    done = built.run("run", "tiny", PIP_INDEX_URL="http://127.0.0.1:9/simple", UV="/nonexistent")
    assert done.returncode == 0, done.stderr


def test_without_an_index_nothing_is_left_and_the_command_that_mends_it_is_named(workshop: Workshop) -> None:
    done = workshop.run("run", "leaf", PIP_INDEX_URL="http://127.0.0.1:9/simple", UV_HTTP_RETRIES="0")
    assert done.returncode == 3
    assert "./pixiw install -e extra" in done.stderr
    assert workshop.builds("extra") == []
    assert workshop.version_of_leaf() == "1.0"


def test_a_folder_that_may_not_be_written_is_said(workshop: Workshop) -> None:
    (workshop.root / ".pixi").write_text("a file where the folder should be")
    done = workshop.run("run", "tiny")
    assert done.returncode == 3
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lock_that_lacks_a_dependency_is_refused(workshop: Workshop) -> None:
    workshop.lock("extra", "other==1.0\n")
    done = workshop.run("run", "leaf")
    assert done.returncode == 3
    assert "pixi.toml asks for 'leaf'" in done.stderr
    assert "python3 locks/make.py" in done.stderr


def test_a_lock_with_another_version_than_the_pin_is_refused(workshop: Workshop) -> None:
    manifest = workshop.root / "pixi.toml"
    manifest.write_text(manifest.read_text().replace('leaf = "*"', 'leaf = "==2.0"'))
    done = workshop.run("run", "leaf")
    assert done.returncode == 3
    assert "'leaf==2.0'" in done.stderr
    assert "leaf 1.0" in done.stderr


def test_a_missing_lock_is_said(workshop: Workshop) -> None:
    for path in (workshop.root / "locks").iterdir():
        path.unlink()
    done = workshop.run("run", "leaf")
    assert done.returncode == 3
    assert "locks/make.py" in done.stderr


@pytest.mark.skipif(not os.path.exists("/proc"), reason="the CUDA platform is a Linux one")
def test_with_cuda_a_cpu_build_is_kept_out_and_without_cuda_it_is_taken(workshop: Workshop) -> None:
    workshop.offer("leaf", "1.0+cpu")
    workshop.lock("extra", "leaf==1.0+cpu\n", "linux-64-cpu")
    assert workshop.version_of_leaf(CONDA_OVERRIDE_CUDA="") == "1.0+cpu"
    assert workshop.version_of_leaf(CONDA_OVERRIDE_CUDA="13.0") == "1.0"
    assert workshop.version_of_leaf(CONDA_OVERRIDE_CUDA="12.8") == "1.0+cpu"


def test_an_index_of_plain_files_makes_no_package_vanish(workshop: Workshop, tmp_path: Path) -> None:
    """Not by an older version, nor by a file for another machine, nor by having no upload dates."""
    more = tmp_path / "more"
    workshop.offer("leaf", "2.0")
    workshop.offer("leaf", "1.0", index=more)
    workshop.offer("leaf", "2.0", tag="cp38-cp38-win_amd64", index=more)
    workshop.offer("twig", "1.0", index=more)
    workshop.lock("extra", "leaf==2.0\ntwig==1.0\n")
    settings = {"PIP_EXTRA_INDEX_URL": more.as_uri(), "UV_EXCLUDE_NEWER": "2020-01-01T00:00:00Z"}
    assert workshop.version_of_leaf(**settings) == "2.0"
    assert workshop.run("run", "-e", "extra", "python", "-c", "import twig").returncode == 0


def test_a_package_that_only_find_links_offers_is_found(workshop: Workshop, tmp_path: Path) -> None:
    workshop.offer("twig", "1.0", index=tmp_path / "more")
    workshop.lock("extra", "leaf==1.0\ntwig==1.0\n")
    assert workshop.version_of_leaf(PIP_FIND_LINKS=str(tmp_path / "more" / "twig")) == "1.0"


def test_the_manifests_index_is_asked_only_for_what_pips_own_do_not_offer(workshop: Workshop, tmp_path: Path) -> None:
    named = tmp_path / "named"
    manifest = workshop.root / "pixi.toml"
    manifest.write_text(
        manifest.read_text().replace('leaf = "*"', f'leaf = {{ version = "*", index = "{named.as_uri()}" }}')
    )
    assert workshop.version_of_leaf() == "1.0"  # though the named index does not exist
    workshop.offer("leaf", "1.0+cpu", index=named)
    workshop.lock("extra", "leaf==1.0+cpu\n")
    assert workshop.version_of_leaf() == "1.0+cpu"


def test_pips_no_index_is_kept_to(workshop: Workshop, tmp_path: Path) -> None:
    """Even though the index that is set would have the package."""
    done = workshop.run("run", "leaf", PIP_NO_INDEX="1")
    assert done.returncode == 3, done.stderr
    assert workshop.version_of_leaf(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(workshop.index / "leaf")) == "1.0"


def test_install_all_passes_over_what_is_not_made_for_this_machine(workshop: Workshop) -> None:
    done = workshop.run("install", "--all")
    assert done.returncode == 0, done.stderr
    assert "environment 'mac' is not made for this machine" in done.stderr
    assert workshop.builds("default")
    assert workshop.builds("extra")


@pytest.mark.parametrize("line", ["leaf 1.0", "<<<<<<< HEAD", "leaf==1.0==2.0"])
def test_a_broken_lock_is_said_with_its_line(workshop: Workshop, line: str) -> None:
    workshop.lock("extra", f"leaf==1.0\n{line}\n")
    done = workshop.run("run", "leaf")
    assert done.returncode == 3
    assert "line 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_pyproject_is_named(workshop: Workshop) -> None:
    (workshop.root / "packages/tiny/pyproject.toml").write_text("[project\n")
    done = workshop.run("run", "tiny")
    assert done.returncode == 3
    assert "packages/tiny/pyproject.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_builds_may_lie_on_another_disk(workshop: Workshop, tmp_path: Path, launcher: Any) -> None:
    """.pixi is a link; what has been in use until now is not taken for long superseded."""
    (tmp_path / "scratch").mkdir()
    (workshop.root / ".pixi").symlink_to(tmp_path / "scratch")
    workshop.version_of_leaf()
    (old,) = workshop.builds("extra")
    long_ago = time.time() - 86400 * (launcher.KEEP_SUPERSEDED_DAYS + 1)
    os.utime(old / "complete", (long_ago, long_ago))
    workshop.offer("leaf", "2.0")
    workshop.lock("extra", "leaf==2.0\n")
    assert workshop.version_of_leaf() == "2.0"
    assert old in workshop.builds("extra")


def test_a_password_of_an_index_is_not_shown_to_other_users(workshop: Workshop, tmp_path: Path) -> None:
    """It reaches uv by its environment: command lines are visible to everybody on the machine."""
    record = tmp_path / "command-lines"
    script = tmp_path / "recording-uv"
    script.write_text(f'#!/bin/sh\necho "$@" >> {str(record)!r}\nexec {workshop.environ["UV"]!r} "$@"\n')
    script.chmod(0o755)
    done = workshop.run(
        "run", "leaf", UV=str(script), UV_HTTP_RETRIES="0", PIP_EXTRA_INDEX_URL="http://me:secret@127.0.0.1:9/simple"
    )
    assert "pip install" in record.read_text()
    assert "secret" not in record.read_text() + done.stderr + done.stdout


@pytest.mark.slow
def test_the_real_manifest_builds_in_a_folder_with_an_awkward_name(tmp_path: Path) -> None:
    root = tmp_path / 'it\'s a "real" wörkspace $HOME'
    unwanted = shutil.ignore_patterns("__pycache__", "*.pyc", "tests")
    for name in ("packages", "agents/mcp", "locks"):
        shutil.copytree(ROOT / name, root / name, ignore=unwanted)
    for name in ("pixi.toml", "pixiw"):
        shutil.copy(ROOT / name, root / name)
    program = "import json, tuneyard.core, tuneyard.data; print(json.dumps(list(tuneyard.core.__path__)))"
    command = [str(root / "pixiw"), "run", "python", "-c", program]
    environ = {**os.environ, "PIXIW_LAUNCHER": "uv"}
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [str(root / "packages/core/src/tuneyard/core")]
    scripts = root / ".pixi/uv/default/bin"
    version = subprocess.run([str(scripts / "pytest"), "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("pytest ")


@pytest.mark.slow
def test_uv_is_installed_once_where_there_is_none(workshop: Workshop) -> None:
    """From the index that pip is set to here."""
    without_uv = {"UV": "", "PATH": "/usr/local/bin:/usr/bin:/bin"}
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    for name in ("PIP_CONFIG_FILE", "PIP_INDEX_URL"):
        workshop.environ.pop(name)
    workshop.environ.update(settings)
    first = workshop.run("run", "tiny", cwd=None, **without_uv)
    assert first.returncode == 0, first.stderr
    assert re.search(r"installing uv [\d.]+ into", first.stderr)
    assert os.access(workshop.root / ".pixi/uv-tool/bin/uv", os.X_OK)
    workshop.lock("default", "\n")
    second = workshop.run("run", "tiny", cwd=None, **without_uv)
    assert second.returncode == 0
    assert "installing uv" not in second.stderr


@pytest.mark.slow
def test_a_uv_that_cannot_be_installed_is_said(workshop: Workshop) -> None:
    done = workshop.run("run", "tiny", UV="", PATH="/usr/local/bin:/usr/bin:/bin")
    assert done.returncode == 3
    assert "Install uv yourself" in done.stderr
    assert not (workshop.root / ".pixi/uv-tool").exists()
