"""pixi.toml: what pixi accepts, what pixiw understands, and what the documentation promises."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT.parent / "shared" / "schemas" / "pixi-manifest-0.77.schema.json"
TASKS = {
    "default": {"yard", "mcp", "test", "check", "lint", "types", "format", "lock"},
    "train": {"yard", "train"},
    "eval": {"yard", "eval", "generate", "gsm8k", "arithmetic"},
    "serve": {"yard", "serve", "generate"},
}


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pixi.toml").read_text())


@pytest.mark.skipif(not SCHEMA.exists(), reason="pixi's schema is not beside this checkout (../shared/schemas)")
def test_pixis_own_schema_accepts_it(manifest: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())).validate(manifest)


def test_the_launcher_understands_all_of_it(launcher: Any, manifest: dict[str, Any]) -> None:
    assert launcher.not_understood(manifest) == []


@pytest.mark.parametrize(
    ("addition", "named"),
    [
        ("[system-requirements]\ncuda = '12'", "system-requirements"),
        ("[feature.train.activation.env]\nA = 'b'", "feature.train.activation"),
        ("[tasks.a]\ncmd = 'a && b'", "tasks.a: a command that needs a shell"),
        ("[tasks.a]\ncmd = 'a $HOME'", "tasks.a: a command that needs a shell"),
        ("[tasks.a]\ncmd = 'a'\ndepends-on = ['b']", "tasks.a.depends-on"),
        ("[feature.x.tasks]\na = 'echo'", "tasks.a: a task that is no table with a cmd"),
        ("[feature.x.dependencies]\ncuda-nvcc = '*'", "feature.x.dependencies.cuda-nvcc"),
        ("[feature.x.pypi-dependencies]\na = { git = 'https://example.org/a' }", "feature.x.pypi-dependencies.a.git"),
        ("[feature.x.pypi-dependencies]\na = { path = 'a' }", "pypi-dependencies.a: a path that is not editable"),
        ("[environments]\na = ['x']", "environments.a: no table with features that exist"),
        ("[environments]\na = { features = ['x'] }", "environments.a: no table with features that exist"),
        (
            "[workspace]\nplatforms = ['linux-64']",
            "workspace.platforms: one that is no table with a name and a platform",
        ),
        ("[feature.x.target.linux.tasks]\na = { cmd = 'a' }", "feature.x.target.linux.tasks"),
        ("[feature.x.target.linux-64.pypi-dependencies]\na = '*'", "target.linux-64: no platform's name"),
    ],
)
def test_the_launcher_refuses_what_only_pixi_understands(launcher: Any, addition: str, named: str) -> None:
    assert named in launcher.not_understood(tomllib.loads(addition))


def test_a_manifest_that_uses_more_stops_the_launcher(launcher: Any, tmp_path: Path) -> None:
    (tmp_path / "pixi.toml").write_text("[tasks.a]\ncmd = 'a | b'\n")
    with pytest.raises(launcher.SetupError, match="Install pixi, or take it out"):
        launcher.load_manifest(str(tmp_path))


def test_a_broken_manifest_is_said_with_its_line(launcher: Any, tmp_path: Path) -> None:
    (tmp_path / "pixi.toml").write_text("[workspace]\nname = oops\n")
    with pytest.raises(launcher.SetupError, match="line 2"):
        launcher.load_manifest(str(tmp_path))


def test_the_environments_and_their_tasks(launcher: Any, manifest: dict[str, Any]) -> None:
    found = {name: set(launcher.tasks(launcher.Environment(name, "", manifest, ""))) for name in TASKS}
    assert found == TASKS
    assert set(manifest["environments"]) == set(TASKS)


@pytest.mark.parametrize(
    ("task", "environment"),
    [
        ("train", "train"),
        ("gsm8k", "eval"),
        ("arithmetic", "eval"),
        ("serve", "serve"),
        ("test", "default"),
        ("yard", "default"),
        ("mcp", "default"),
    ],
)
def test_a_task_finds_its_environment_without_e(
    launcher: Any, manifest: dict[str, Any], task: str, environment: str
) -> None:
    assert launcher.environment_of_task(manifest, task) == environment


def test_environments_share_no_solve(manifest: dict[str, Any]) -> None:
    assert not any("solve-group" in environment for environment in manifest["environments"].values())


def test_cuda_comes_first_and_both_linux_platforms_have_a_name(manifest: dict[str, Any]) -> None:
    """A target table named after the bare system would match the CUDA platform as well."""
    assert [platform["name"] for platform in manifest["workspace"]["platforms"]] == [
        "linux-64-cuda",
        "linux-64-cpu",
        "osx-arm64",
    ]
    targets = {target for feature in manifest["feature"].values() for target in feature.get("target", {})}
    assert targets <= {"linux-64-cuda", "linux-64-cpu"}


def test_pixi_is_bounded_in_version_and_time(manifest: dict[str, Any]) -> None:
    assert manifest["workspace"]["requires-pixi"] == ">=0.77"
    assert manifest["workspace"]["exclude-newer"]


def test_without_cuda_whatever_depends_on_torch_comes_from_the_index_of_cpu_builds(manifest: dict[str, Any]) -> None:
    """The general index has these for CUDA only, and next to a CPU torch they break at import."""
    for feature in ("train", "serve"):
        dependencies = manifest["feature"][feature]["target"]["linux-64-cpu"]["pypi-dependencies"]
        assert {name for name, spec in dependencies.items() if str(spec).find("/whl/cpu") > 0} >= {
            "torch",
            "torchaudio",
            "torchvision",
        }


def test_training_with_cuda_carries_the_extras(manifest: dict[str, Any]) -> None:
    extras = manifest["feature"]["train"]["target"]["linux-64-cuda"]["pypi-dependencies"]
    assert set(extras) >= {"torchvision", "torchaudio", "deepspeed", "bitsandbytes", "liger-kernel"}


# Which platform this machine is


@pytest.mark.parametrize(
    ("machine", "driver", "platform"),
    [
        ("linux x86_64", "", "linux-64-cpu"),
        ("linux x86_64", "13.0", "linux-64-cuda"),
        ("linux x86_64", "14.1", "linux-64-cuda"),
        ("linux x86_64", "12.8", "linux-64-cpu"),
        ("darwin arm64", "", "osx-arm64"),
    ],
)
def test_the_first_platform_that_the_machine_satisfies(
    launcher: Any, monkeypatch: pytest.MonkeyPatch, machine: str, driver: str, platform: str
) -> None:
    system, architecture = machine.split()
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", driver)
    monkeypatch.setattr(launcher.sys, "platform", system)
    monkeypatch.setattr(launcher.os, "uname", lambda: type("uname", (), {"machine": architecture}))
    assert launcher.platform(launcher.load_manifest(str(ROOT))) == platform


def test_a_machine_that_is_none_of_them_is_told_what_to_do(
    launcher: Any, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher.os, "uname", lambda: type("uname", (), {"machine": "riscv64"}))
    with pytest.raises(launcher.SetupError, match=r"tuneyard\.yaml"):
        launcher.platform(manifest)


def test_a_machine_without_an_nvidia_device_has_no_cuda(launcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONDA_OVERRIDE_CUDA", raising=False)
    monkeypatch.setattr(launcher.os.path, "exists", lambda path: False)
    assert launcher.cuda_version() == ""
