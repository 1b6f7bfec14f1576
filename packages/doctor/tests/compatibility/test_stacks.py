"""Stacks: everything that a person may name, and what is said of what cannot be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.doctor.compatibility.declared import Stack
from tuneyard.doctor.compatibility.expand import expand_all
from tuneyard.doctor.compatibility.stacks import environment_names, read_stack

if TYPE_CHECKING:
    from conftest import Index

    from tuneyard.doctor.compatibility.uv import Solver

ROOT = Path(__file__).resolve().parents[4]


def read(text: str, folder: Path) -> Stack:
    return read_stack(text, None, folder, "3.11")


def shown(stack: Stack) -> list[tuple[str, str]]:
    return [(declared.shown, declared.where) for declared in stack.roots]


def test_requirements_of_the_command_line(tmp_path: Path) -> None:
    assert [text for text, _ in shown(read("a==1 b[x]>=2", tmp_path))] == ["a==1", "b[x]>=2"]


def test_a_requirements_file_with_all_it_may_hold(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("c>=3\n")
    (tmp_path / "bounds.txt").write_text("d<4\n")
    path = tmp_path / "req.txt"
    path.write_text(
        "# first\n--extra-index-url https://example.org/simple\na==1 \\\n    --hash=sha256:00  # pinned\n"
        "-r more.txt\n-c bounds.txt\n\nb @ https://example.org/b-1.tar.gz\n"
    )
    stack = read("req.txt", tmp_path)
    assert shown(stack) == [
        ("a==1", f"{path}:3"),
        ("c>=3", f"{tmp_path}/more.txt:1"),
        ("d<4", f"{tmp_path}/bounds.txt:1"),
        ("b @ https://example.org/b-1.tar.gz", f"{path}:8"),
    ]
    assert stack.roots[2].optional
    assert any("--extra-index-url is not used" in note for note in stack.notes)
    assert any("b comes from an address" in note for note in stack.notes)
    assert not stack.complete


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a>>1", "is no requirement"),
        ("-r missing.txt", "cannot be read"),
        ("-r req.txt", "includes itself"),
        ("--frobnicate", "unknown option"),
        ("./nowhere", "there is no"),
        ("./x.whl", "no wheel's name"),
    ],
)
def test_a_broken_requirements_file_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "req.txt").write_text(f"\n{content}\n")
    with pytest.raises(RequestError, match=message):
        read("req.txt", tmp_path)


def test_a_requirements_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "req.txt").write_bytes("a==1\n".encode("utf-16"))
    with pytest.raises(RequestError, match="not UTF-8"):
        read("req.txt", tmp_path)


PYPROJECT = """
[project]
name = "mine"
requires-python = ">=3.10"
dependencies = [
    "a>=1,<2",
    "sibling==0.1",
]
[project.optional-dependencies]
gpu = ["b==3"]
all = ["mine[gpu]", "c"]
"""


def test_a_pyproject_with_an_extra_and_a_neighbour(tmp_path: Path) -> None:
    for name, text in (
        ("mine", PYPROJECT),
        ("sibling", '[project]\nname = "Sibling"\ndependencies = ["d>=4", "mine"]\n'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text(text)
    stack = read("mine/pyproject.toml[all]", tmp_path)
    path = tmp_path / "mine" / "pyproject.toml"
    assert sorted(shown(stack)) == [
        ("a>=1,<2", f"{path}:6"),
        ("b==3", f"{path}:10"),
        ("c", f"{path}:11"),
        ("d>=4", f"{tmp_path}/sibling/pyproject.toml:3"),
    ]
    assert [(str(floor.versions), floor.where) for floor in stack.floors] == [(">=3.10", f"{path}:4")]
    assert [declared.name for declared in stack.to_solve()] == ["a", "d", "c", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[project", "no valid TOML"),
        ("[tool.poetry]\nname='x'\n", "Poetry's own table is not read"),
        ("[project]\nname='x'\ndynamic=['dependencies']\n", "only a build knows"),
        ("[project]\nname='x'\ndependencies='a'\n", "list of strings"),
        ("[project]\nname='x'\ndependencies=['a b c']\n", "is no requirement"),
        ("[project]\nname='x'\nrequires-python='three'\n", "no range of Python"),
    ],
)
def test_a_broken_pyproject_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(RequestError, match=message):
        read("pyproject.toml", tmp_path)


def test_an_unknown_extra_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    with pytest.raises(RequestError, match="did you mean 'gpu'"):
        read("pyproject.toml[gpus]", tmp_path)


def test_a_lock_is_read_by_its_versions(tmp_path: Path) -> None:
    (tmp_path / "pylock.toml").write_text('[[packages]]\nname = "a"\nversion = "1.2"\n\n[[packages]]\nname = "b"\n')
    assert shown(read("pylock.toml", tmp_path)) == [("a==1.2", f"{tmp_path}/pylock.toml:2")]


def test_a_wheel_tells_its_version_and_what_it_needs(tmp_path: Path, index: Index) -> None:
    wheel = index.add("mine", "2.0", "a>=1", 'b; extra == "x"', 'c; sys_platform == "never"', extras=("x",))
    stack = read(str(wheel), tmp_path)
    assert [declared.shown for declared in stack.declared] == ["a>=1", "mine==2.0"]
    assert [declared.name for declared in stack.to_solve()] == ["a"]


@pytest.mark.parametrize("text", ["missing.txt", "no/such/folder", "pip install"])
def test_what_names_nothing_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RequestError):
        read(text, tmp_path)


def test_a_file_that_declares_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(RequestError, match="neither an environment nor a file"):
        read("model.bin", tmp_path)


def test_an_environment_is_read_without_running_it(tmp_path: Path, index: Index, solver: Solver) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    index.add("inner", "1.5", "leaf<9")
    index.add("outer", "1.0", "inner>=1,<2")
    python = str(tmp_path / "env" / "bin" / "python")
    done = solver.run(["pip", "install", "--python", python, *solver.options, "--no-deps", "outer", "inner"])
    assert done.returncode == 0, done.stderr
    (tmp_path / "env" / "bin" / "python").unlink()
    (tmp_path / "env" / "bin" / "python").write_text("#!/bin/sh\nexit 9\n")
    for name in (str(tmp_path / "env"), python):
        stack = read(name, tmp_path)
        assert [declared.shown for declared in stack.roots] == ["outer==1.0"]
        assert [(d.shown, d.where) for d in stack.inner] == [
            ("inner>=1,<2", "outer 1.0, Requires-Dist"),
            ("leaf<9", "inner 1.5, Requires-Dist"),
        ]


def test_an_environment_without_packages_is_a_matter_of_set_up(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    with pytest.raises(SetupError, match="no installed packages"):
        read("env", tmp_path)


def test_the_workspaces_environments_are_read_from_the_manifest() -> None:
    workspace = Workspace(ROOT)
    assert environment_names(workspace) == ["default", "train", "eval", "serve"]
    stack = read_stack("train", workspace, ROOT, "3.11")
    declared = {d.shown: d.where for d in stack.roots}
    assert declared["llamafactory==0.9.5"].startswith("packages/train/pyproject.toml:")
    assert declared["pytest==9.2.0"].startswith("pixi.toml:")
    assert not any(name.startswith("tuneyard-") for name in declared)
    assert str(stack.python) != ""


def test_an_environment_that_is_not_built_is_compared_all_the_same(tmp_path: Path) -> None:
    import shutil

    for name in ("pixi.toml", "pixiw"):
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("packages/core", "packages/data", "packages/control", "packages/doctor", "packages/train"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(ROOT / folder / "pyproject.toml", tmp_path / folder / "pyproject.toml")
    for path in ROOT.glob("packages/*/pyproject.toml"):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    stack = read_stack("train", Workspace(tmp_path), tmp_path, "3.11")
    assert any("./pixiw install -e train" in note for note in stack.notes)
    assert any(d.name == "llamafactory" for d in stack.roots)


def test_an_extra_may_ask_for_another_of_the_same_distribution(index: Index, solver: Solver, tmp_path: Path) -> None:
    extras = ("gpu", "all")
    index.add("top", "1.0", "base", 'kernel==2; extra == "gpu"', 'top[gpu]; extra == "all"', extras=extras)
    index.add("base", "1")
    index.add("kernel", "2")
    stack = read("top[all]==1.0", tmp_path)
    expand_all(stack, solver)
    assert [(d.shown, d.where) for d in stack.inner] == [
        ("base", "top 1.0, Requires-Dist"),
        ("kernel==2", "top 1.0, Requires-Dist of the extra gpu"),
    ]


def test_markers_are_decided_for_the_python_that_is_asked_about(index: Index, solver: Solver, tmp_path: Path) -> None:
    index.add("top", "1.0", 'old; python_version < "3.11"', 'new; python_version >= "3.11"')
    index.add("old", "1")
    index.add("new", "1")
    for target, expected in (("3.10", ["old"]), ("3.12", ["new"])):
        stack = read_stack("top==1.0", None, tmp_path, target)
        expand_all(stack, solver)
        assert [d.name for d in stack.inner] == expected
