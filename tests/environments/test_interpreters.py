"""An environment may be an interpreter that the user already has: tuneyard.yaml, environments.<name>.interpreter."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from conftest import Workshop

FORM = "environments:\n  {name}:\n    interpreter: {path}\n"


@pytest.fixture
def existing(tmp_path: Path, workshop: Workshop) -> Path:
    """The interpreter of an environment that tuneyard did not make."""
    prefix = tmp_path / "conda" / "envs" / "mine"
    command = [workshop.environ["UV"], "venv", "--quiet", "--no-project", "--python", "3.11", str(prefix)]
    subprocess.run(command, env=workshop.environ, check=True)
    return prefix / "bin" / "python"


def name_it(workshop: Workshop, path: object, name: str = "default") -> None:
    (workshop.root / "tuneyard.yaml").write_text(FORM.format(name=name, path=path))


def test_it_is_used_and_nothing_is_built(workshop: Workshop, existing: Path) -> None:
    name_it(workshop, existing)
    done = workshop.run("run", "python", "-c", "import sys; print(sys.prefix)")
    assert done.stdout == f"{existing.parents[1]}\n"
    assert str(existing.parents[1]) in done.stderr
    assert not (workshop.root / ".pixi").exists()


def test_other_environments_are_built_as_ever(workshop: Workshop, existing: Path) -> None:
    name_it(workshop, existing)
    assert workshop.version_of_leaf() == "1.0"


def test_it_works_on_a_machine_that_is_no_platform_of_the_manifest(workshop: Workshop, existing: Path) -> None:
    manifest = workshop.root / "pixi.toml"
    manifest.write_text(manifest.read_text().replace('platform = "linux-64"', 'platform = "linux-aarch64"'))
    if workshop.run("run", "python", "-c", "").returncode == 0:
        pytest.skip("the CUDA platform is a Linux one")
    name_it(workshop, existing)
    done = workshop.run("run", "python", "-c", "print(1)")
    assert done.stdout == "1\n", done.stderr


def test_a_relative_path_counts_from_the_settings(workshop: Workshop, existing: Path, tmp_path: Path) -> None:
    name_it(workshop, "../conda/envs/mine/bin/python")
    done = workshop.run("run", "python", "-c", "print(1)", cwd=tmp_path)
    assert done.stdout == "1\n", done.stderr


def test_the_settings_of_another_workspace_count_where_it_is_chosen(
    workshop: Workshop, existing: Path, tmp_path: Path
) -> None:
    (tmp_path / "tuneyard.yaml").write_text(FORM.format(name="default", path=existing))
    done = workshop.run("run", "python", "-c", "print(1)", TUNEYARD_WORKSPACE=str(tmp_path))
    assert str(existing.parents[1]) in done.stderr


@pytest.mark.parametrize("arguments", [("run", "tiny"), ("install",)])
def test_one_without_our_packages_is_refused_with_the_command_that_installs_them(
    workshop: Workshop, existing: Path, arguments: tuple[str, ...]
) -> None:
    name_it(workshop, existing)
    done = workshop.run(*arguments)
    assert done.returncode == 3
    assert f"{existing} -m pip install -e " in done.stderr
    assert "packages/tiny" in done.stderr


def test_install_accepts_one_that_has_them(ready: Workshop, workshop: Workshop) -> None:
    (workshop.root / "link").symlink_to(ready.builds("default")[0])
    name_it(workshop, "./link/bin/python")
    done = workshop.run("install")
    assert done.returncode == 0, done.stderr


def test_a_version_other_than_the_pin_is_said(workshop: Workshop) -> None:
    workshop.offer("leaf", "2.0")
    workshop.version_of_leaf()
    (workshop.root / "link").symlink_to(workshop.builds("extra")[0])
    name_it(workshop, "./link/bin/python", "extra")
    manifest = workshop.root / "pixi.toml"
    manifest.write_text(manifest.read_text().replace('leaf = "*"', 'leaf = "==2.0"'))
    done = workshop.run("install", "-e", "extra")
    assert done.returncode == 0, done.stderr
    assert "has leaf 1.0; pixi.toml asks for leaf==2.0" in done.stderr


def test_one_that_does_not_exist_is_said(workshop: Workshop) -> None:
    name_it(workshop, "/nonexistent/python")
    done = workshop.run("run", "tiny")
    assert done.returncode == 3
    assert "tuneyard.yaml names /nonexistent/python" in done.stderr


# The reader, against PyYAML


PATHS = st.text(alphabet="/abc .-_~:#'\"\\{}[]&*!|>%@`,é0\t", min_size=1, max_size=12)
LINES = st.one_of(
    st.builds("  {}:".format, st.sampled_from(["train", "eval", '"train"', "a b"])),
    st.builds(
        "{}interpreter:{}{}".format,
        st.sampled_from(["    ", "  ", "      ", ""]),
        st.sampled_from([" ", "  ", ""]),
        PATHS,
    ),
    st.builds("    interpreter: '{}'".format, PATHS),
    st.builds('    interpreter: "{}"'.format, PATHS),
    st.sampled_from(
        [
            "environments:",
            "environments: {train: {interpreter: /a/b}}",
            '"environments":',
            "{environments: {train: {interpreter: /a/b}}}",
            "runs: /tmp",
            "slurm:",
            "  partition: gpu",
            "# a comment",
            "  # interpreter: /a/b",
            "---",
            "",
        ]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(LINES, max_size=3), st.lists(LINES, max_size=5))
def test_it_reads_what_yaml_reads_or_refuses(launcher: Any, before: list[str], under: list[str]) -> None:
    lines = [*before, "environments:", "  train:", *under]
    keys = [line.strip() for line in lines if line.endswith(":")]
    assume(len(set(keys)) == len(keys))  # the settings' own reader refuses duplicate keys
    text = "\n".join(lines) + "\n"
    try:
        meant = yaml.safe_load(text)
    except yaml.YAMLError:
        return  # the settings' own reader says so before anything runs
    try:
        found = launcher.interpreters(text, "tuneyard.yaml")
    except launcher.SetupError as error:
        assert "four spaces and 'interpreter: /path/to/bin/python'" in str(error)
        return
    environments = meant.get("environments") if isinstance(meant, dict) else None
    named = {
        name: entry["interpreter"]
        for name, entry in (environments or {}).items()
        if isinstance(entry, dict) and "interpreter" in entry
    }
    assert found == named


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/opt/conda/envs/llama factory/bin/python", "/opt/conda/envs/llama factory/bin/python"),
        ('"/opt/a: b/bin/python"  # mine', "/opt/a: b/bin/python"),
        ("'/opt/#1/python'", "/opt/#1/python"),
        ("'/opt/ #1/python'", None),
        ("null", None),
        ("*anchor/python", None),
        ("~/envs/train/bin/python", "~/envs/train/bin/python"),
        ("/opt/ünï/python   # why", "/opt/ünï/python"),
        ("/usr/bin/python3.11", "/usr/bin/python3.11"),
    ],
)
def test_usual_ways_to_write_a_path_are_read(launcher: Any, value: str, path: str | None) -> None:
    text = "runs: /data/runs\n\n# ours\n" + FORM.format(name="train", path=value) + "slurm:\n  partition: gpu\n"
    if path is None:
        with pytest.raises(launcher.SetupError, match="line 6"):
            launcher.interpreters(text, "tuneyard.yaml")
    else:
        assert launcher.interpreters(text, "tuneyard.yaml") == {"train": path}
