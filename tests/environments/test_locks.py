"""locks/: what they hold fits the manifest and the pyprojects, and the environments built from them hold just that."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PLATFORMS = ("linux-64-cuda", "linux-64-cpu", "osx-arm64")
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
PYPROJECTS = sorted([*(ROOT / "packages").glob("*/pyproject.toml"), *(ROOT / "agents").glob("*/pyproject.toml")])
SAME = ("transformers", "tokenizers", "peft", "torch")


def versions(path: Path) -> dict[str, Version]:
    return {name: Version(version) for name, _, version in (line.partition("==") for line in path.read_text().split())}


def lock(environment: str, platform: str) -> dict[str, Version]:
    return versions(ROOT / "locks" / f"{environment}.{platform}.txt")


def test_every_environment_has_a_lock_for_every_platform_it_is_made_for() -> None:
    expected = {f"{name}.{platform}.txt" for name in ("default", "train", "eval", "serve") for platform in PLATFORMS}
    assert {path.name for path in LOCKS} == expected - {"serve.osx-arm64.txt"}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_is_names_and_versions_and_nothing_else(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+]+", line) for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_satisfies_the_manifest_and_the_pyprojects(launcher: Any, path: Path) -> None:
    name, platform, _ = path.name.split(".")
    env = launcher.Environment(name, str(ROOT), launcher.load_manifest(str(ROOT)), platform)
    locked = versions(path)
    launcher.check_lock(env, launcher.lock_versions(env))
    asked = [Requirement(requirement) for _, requirement in launcher.asked_for(env)]
    outside = [each for each in asked if not each.name.startswith("tuneyard-")]
    assert outside
    for requirement in outside:
        found = canonicalize_name(requirement.name)
        if found in launcher.LEFT_OUT.get(platform, ()):
            assert found not in locked
        else:
            assert requirement.specifier.contains(locked[found], prereleases=True), requirement


@pytest.mark.parametrize("platform", PLATFORMS)
def test_training_and_evaluation_agree_on_what_reads_a_model(platform: str) -> None:
    train, evaluate = lock("train", platform), lock("eval", platform)
    assert {name: train[name] for name in SAME} == {name: evaluate[name] for name in SAME}


def test_the_engines_are_the_ones_we_promise() -> None:
    train, evaluate = lock("train", "linux-64-cpu"), lock("eval", "linux-64-cpu")
    assert str(train["llamafactory"]) == "0.9.5"
    assert train["torch"].public == evaluate["torch"].public == "2.13.0"
    assert (str(evaluate["lm-eval"]), str(evaluate["inspect-ai"])) == ("0.4.13", "0.3.285")


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_cuda_packages_are_where_cuda_is(path: Path) -> None:
    locked = versions(path)
    of_cuda = [name for name in locked if re.match(r"nvidia-|cuda-", name)]
    if "cuda" not in path.name:
        assert of_cuda == []
    elif "default" not in path.name:
        assert "nvidia-cublas" in of_cuda
        assert not any(version.local for version in locked.values())


@pytest.mark.parametrize("environment", ["train", "eval", "serve"])
def test_without_cuda_torch_is_the_cpu_build_and_what_breaks_beside_it_is_left_out(environment: str) -> None:
    locked = lock(environment, "linux-64-cpu")
    assert str(locked["torch"]) == "2.13.0+cpu"
    assert not {"torchvision", "torchaudio", "torchcodec"} & set(locked)


def test_the_light_environment_is_light() -> None:
    assert not {"torch", "transformers", "datasets", "numpy", "pandas"} & set(lock("default", "linux-64-cpu"))


@pytest.mark.parametrize("folder", PYPROJECTS, ids=lambda path: path.parent.name)
def test_every_package_is_built_the_same_way(launcher: Any, folder: Path) -> None:
    import tomllib

    pyproject = tomllib.loads(folder.read_text())
    assert pyproject["build-system"]["requires"] == ["hatchling==1.33.0"]
    assert pyproject["project"]["name"] == f"tuneyard-{folder.parent.name}"
    assert pyproject["project"]["license"] == "Apache-2.0"
    supported = SpecifierSet(pyproject["project"]["requires-python"])
    assert [python for python in ("3.10", "3.11", "3.12", "3.13", "3.14") if python in supported] == [
        "3.11",
        "3.12",
        "3.13",
    ]


def test_no_lock_or_manifest_names_a_host_of_a_registry() -> None:
    hosts = re.compile(r"p[y]pi\.org|python[h]osted|registry\.n[p]mjs|deb\.d[e]bian")
    files = [*LOCKS, ROOT / "pixi.toml", ROOT / "pixiw", *PYPROJECTS]
    assert [path.name for path in files if hosts.search(path.read_text())] == []


READ_BACK = """
import importlib.metadata, json, sys
sys.stdout.write(json.dumps({d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}))
"""


def installed(environment: str) -> dict[str, Version]:
    """What the built environment says of itself."""
    command = [str(ROOT / "pixiw"), "run", "-e", environment, "python", "-c", READ_BACK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {str(canonicalize_name(name)): Version(version) for name, version in json.loads(done.stdout).items()}


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["default", "train", "eval"])
def test_a_built_environment_holds_the_locks_versions_and_our_packages(launcher: Any, environment: str) -> None:
    if launcher.named_interpreter(str(ROOT), environment):
        pytest.skip("tuneyard.yaml names an interpreter for it")
    env = launcher.environment(str(ROOT), launcher.load_manifest(str(ROOT)), environment)
    found = installed(environment)
    ours = {name for name in found if name.startswith("tuneyard-")}
    assert ours == {f"tuneyard-{Path(folder).name}" for folder in launcher.packages(env)}
    assert {name: version for name, version in found.items() if name not in ours} == lock(environment, env.platform)


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["default", "train", "eval"])
def test_a_built_environment_lacks_nothing_but_what_is_left_out(launcher: Any, uv: str, environment: str) -> None:
    if launcher.named_interpreter(str(ROOT), environment):
        pytest.skip("tuneyard.yaml names an interpreter for it")
    env = launcher.environment(str(ROOT), launcher.load_manifest(str(ROOT)), environment)
    command = [uv, "pip", "check", "--python", f"{launcher.prefix(env)}/bin/python"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    missing = set(re.findall(r"requires `([\w-]+)[^`]*`, but it's not installed", done.stderr))
    assert missing <= set(launcher.LEFT_OUT.get(env.platform, ())), done.stderr
    assert len(re.findall(r"^The package", done.stderr, re.MULTILINE)) == done.stderr.count("it's not installed")


@pytest.mark.slow
def test_the_built_environments_agree_on_what_reads_a_model() -> None:
    train, evaluate = installed("train"), installed("eval")
    assert {name: train[name] for name in SAME} == {name: evaluate[name] for name in SAME}


@pytest.mark.slow
def test_making_the_locks_anew_changes_nothing(tmp_path: Path) -> None:
    """They were made from the present manifest, and versions that still fit stay."""
    import shutil

    for name in ("pixi.toml", "pixiw", "locks"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    for pyproject in PYPROJECTS:
        folder = tmp_path / pyproject.parent.relative_to(ROOT)
        folder.mkdir(parents=True)
        shutil.copy(pyproject, folder)
    subprocess.run([sys.executable, "locks/make.py", "default", "train"], cwd=tmp_path, check=True)
    for path in LOCKS:
        assert (tmp_path / "locks" / path.name).read_text() == path.read_text(), path.name
