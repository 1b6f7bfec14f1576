"""What the files of the environments tell about what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.control.diagnose import EnvironmentReport, diagnose
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RequestError

PROJECT = """
[project]
name = "tuneyard-{name}"
dependencies = ["tuneyard-core==0.1.0", "{engine}[hf]==1.2.3", "transformers==5.6.0", "numpy>=2"]
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "pixi.toml").write_text("[environments]\ndefault = []\ntrain = []\neval = []\nserve = []\n")
    for name, engine in (("train", "llamafactory"), ("eval", "lm_eval")):
        folder = tmp_path / "packages" / name
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(PROJECT.format(name=name, engine=engine))
    return Workspace(tmp_path)


def build(workspace: Workspace, name: str, maker: str = "uv", **versions: str) -> Path:
    """An environment in which distributions are installed, as far as one can see."""
    prefix = workspace.path / ".pixi" / maker / name
    packages = prefix / "lib" / "python3.11" / "site-packages"
    for distribution, version in versions.items():
        (packages / f"{distribution}-{version}.dist-info").mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").symlink_to("/bin/sh")
    return prefix


def report(workspace: Workspace, name: str) -> EnvironmentReport:
    [found] = diagnose(workspace, name)
    return found


def test_what_is_not_built_is_told_with_the_command_that_builds_it(workspace: Workspace) -> None:
    assert [r.name for r in diagnose(workspace)] == ["eval", "serve", "train"]
    found = report(workspace, "serve")
    assert found.status == "not_built"
    [problem] = found.problems
    assert "./pixiw install -e serve" in str(problem.way_out)


def test_an_environment_as_it_must_be_has_no_problem(workspace: Workspace) -> None:
    prefix = build(workspace, "train", llamafactory="1.2.3", transformers="5.6.0", torch="2.13.0+cpu")
    (prefix / "pyvenv.cfg").write_text("home = /usr\nversion_info = 3.11.7\n")
    assert report(workspace, "train") == EnvironmentReport(
        "train",
        "ready",
        "pixiw",
        str(prefix),
        "3.11.7",
        {"llamafactory": "1.2.3"},
        {"torch": "2.13.0+cpu", "transformers": "5.6.0"},
        [],
    )


def test_another_version_and_a_missing_engine_are_told(workspace: Workspace) -> None:
    build(workspace, "eval", maker="envs", transformers="5.7.0")
    found = report(workspace, "eval")
    assert (found.status, found.made_by, found.python) == ("broken", "pixi", "3.11")
    told = {problem.id: problem.message for problem in found.problems}
    assert told == {
        "missing": "lm-eval is not installed",
        "version": "transformers 5.7.0 is installed, and 5.6.0 is what tuneyard was made for",
    }


def test_a_build_of_the_same_version_is_no_other_version(workspace: Workspace) -> None:
    build(workspace, "train", llamafactory="1.2.3+local", transformers="5.6.0")
    assert report(workspace, "train").problems == []


def test_train_and_eval_that_make_other_tokens_are_told(workspace: Workspace) -> None:
    build(workspace, "train", llamafactory="1.2.3", transformers="5.6.0", tokenizers="0.22.1")
    build(workspace, "eval", lm_eval="1.2.3", transformers="5.6.0", tokenizers="0.22.2")
    for asked in (None, "eval"):
        [problem] = [p for r in diagnose(workspace, asked) for p in r.problems if p.environment != "serve"]
        assert problem.id == "tokens"
        assert problem.message.startswith("tokenizers is 0.22.1 in train and 0.22.2 in eval")


def test_a_python_whose_link_leads_nowhere_is_broken(workspace: Workspace) -> None:
    prefix = build(workspace, "train", llamafactory="1.2.3", transformers="5.6.0")
    target = prefix / "gone"
    target.touch()
    (prefix / "bin" / "python").unlink()
    (prefix / "bin" / "python").symlink_to(target)
    found = report(workspace, "train")
    assert found.status == "broken"
    assert found.problems[0].id == "broken"


def test_an_interpreter_of_the_settings_is_told_as_such(workspace: Workspace, tmp_path: Path) -> None:
    own = build(workspace, "mine", llamafactory="1.2.3", transformers="5.6.0")
    workspace.settings_file.write_text(f"environments: {{train: {{interpreter: {own}/bin/python}}}}\n")
    assert report(Workspace(workspace.path), "train").status == "ready"
    workspace.settings_file.write_text("environments: {train: {interpreter: /no/such/python}}\n")
    assert report(Workspace(workspace.path), "train").status == "not_built"


def test_unknown_environments_and_a_broken_manifest_are_refused(workspace: Workspace) -> None:
    with pytest.raises(RequestError, match="unknown environment 'trian'"):
        diagnose(workspace, "trian")
    (workspace.path / "pixi.toml").write_text("not = toml = at all")
    with pytest.raises(RequestError, match="cannot be read"):
        diagnose(workspace)
