"""A small workspace with the real launcher: its own manifest, packages and index, so that it is built in a second."""

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

MANIFEST = """\
[workspace]
name = "small"
channels = ["conda-forge"]
platforms = [
    { name = "linux-64-cuda", platform = "linux-64", cuda = "13.0", glibc = "2.28" },
    { name = "linux-64-cpu", platform = "linux-64", glibc = "2.28" },
    { name = "osx-arm64", platform = "osx-arm64" },
]

[dependencies]
python = "3.11.*"

[pypi-dependencies]
tuneyard-tiny = { path = "packages/tiny", editable = true }

[tasks]
tiny = { cmd = "tiny 'from the manifest'", description = "prints its arguments" }

[feature.extra.pypi-dependencies]
leaf = "*"

[feature.extra.tasks]
leaf = { cmd = "python -c 'import leaf'", description = "only here" }
shared = { cmd = "tiny shared", description = "in two environments" }

[feature.mac]
platforms = ["osx-64"]

[feature.mac.tasks]
shared = { cmd = "tiny shared", description = "in two environments" }

[environments]
default = { features = [] }
extra = { features = ["extra"] }
mac = { features = ["mac"] }
"""

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "tuneyard-tiny"
version = "0.1.0"
dependencies = []

[project.scripts]
tiny = "tiny:main"
"""

# A build backend that needs nothing: an editable wheel is a .pth file, metadata and entry points.
BACKEND = """\
import tomllib
import zipfile
from pathlib import Path


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    scripts = "".join(f"{name} = {target}\\n" for name, target in project["scripts"].items())
    info = "tuneyard_tiny-0.1.0.dist-info"
    name = "tuneyard_tiny-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        wheel.writestr("tuneyard_tiny.pth", str(Path("src").resolve()) + "\\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: tuneyard-tiny\\nVersion: 0.1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\\n" + scripts)
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""

TINY = """\
import json
import os
import sys


def main():
    names = ("INIT_CWD", "PIXI_ENVIRONMENT_NAME", "PIXI_PROJECT_ROOT", "VIRTUAL_ENV")
    print(json.dumps({"arguments": sys.argv[1:], "cwd": os.getcwd(), **{name: os.environ.get(name) for name in names}}))
"""


@dataclass
class Workshop:
    """A workspace in `root`, the index beside it, and the environment variables its commands see."""

    root: Path
    index: Path
    environ: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, cwd: Path | None = None, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(self.root / "pixiw"), *arguments],
            cwd=cwd or self.root,
            env={**self.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None, **variables: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments, cwd=cwd, **variables)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def offer(self, name: str, version: str, tag: str = "py3-none-any", index: Path | None = None) -> None:
        """Put a wheel into an index of plain files, which knows no upload dates."""
        folder = (index or self.index) / name
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", f"version = {version!r}\n")
            info = f"{name}-{version}.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            wheel.writestr(f"{info}/RECORD", "")
        links = [f'<a href="{path.name.replace("+", "%2B")}">{path.name}</a>' for path in sorted(folder.glob("*.whl"))]
        (folder / "index.html").write_text("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")

    def lock(self, environment: str, text: str, platform: str = "linux-64-cpu") -> None:
        (self.root / "locks" / f"{environment}.{platform}.txt").write_text(text)

    def version_of_leaf(self, **variables: str) -> str:
        done = self.run("run", "-e", "extra", "python", "-c", "import leaf; print(leaf.version)", cwd=None, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def builds(self, environment: str) -> list[Path]:
        return sorted((self.root / ".pixi" / "uv" / ".builds" / environment).iterdir())


def clean_environ(uv: str, cache: Path, index: Path) -> dict[str, str]:
    """This process's variables without anybody's settings of pip and uv, and with ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PIXI", "CONDA_"))}
    settings = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": index.as_uri(),
        "UV": uv,
        "UV_CACHE_DIR": str(cache),
        "CONDA_OVERRIDE_CUDA": "",
        "PIXIW_LAUNCHER": "uv",
    }
    return {**kept, **settings}


@pytest.fixture(scope="session")
def launcher() -> Any:
    """The launcher as a module."""
    loader = importlib.machinery.SourceFileLoader("pixiw", str(ROOT / "pixiw"))
    spec = importlib.util.spec_from_loader("pixiw", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pixiw"] = module
    loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def uv(launcher: Any) -> str:
    return launcher.find_uv(str(ROOT))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """uv's cache: it remembers what it found out about interpreters; wheels differ by their index's folder."""
    return tmp_path_factory.mktemp("uv-cache")


def make_workshop(folder: Path, uv: str, cache: Path) -> Workshop:
    """The small workspace, in a folder whose name has what breaks scripts."""
    root = folder / 'it\'s a "small" wörkshop $HOME'
    for name in ("packages/tiny/src/tiny", "locks"):
        (root / name).mkdir(parents=True)
    shutil.copy(ROOT / "pixiw", root / "pixiw")
    files: Mapping[str, str] = {
        "pixi.toml": MANIFEST,
        "packages/tiny/pyproject.toml": PYPROJECT,
        "packages/tiny/backend.py": BACKEND,
        "packages/tiny/src/tiny/__init__.py": TINY,
    }
    for name, text in files.items():
        (root / name).write_text(text)
    made = Workshop(root, folder / "index")
    made.environ = clean_environ(uv, cache, made.index)
    made.offer("leaf", "1.0")
    for environment in ("default", "extra", "mac"):
        for platform in ("linux-64-cpu", "linux-64-cuda", "osx-arm64"):
            made.lock(environment, "leaf==1.0\n" if environment == "extra" else "", platform)
    return made


@pytest.fixture
def workshop(tmp_path: Path, uv: str, cache: Path) -> Workshop:
    """A workspace of the test's own, nothing built."""
    return make_workshop(tmp_path, uv, cache)


@pytest.fixture
def built(workshop: Workshop) -> Workshop:
    """A workspace of the test's own with its default environment built."""
    done = workshop.run("install")
    assert done.returncode == 0, done.stderr
    return workshop


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory, uv: str, cache: Path) -> Workshop:
    """A workspace with its default environment built, for all the tests that change nothing in it."""
    made = make_workshop(tmp_path_factory.mktemp("ready"), uv, cache)
    done = made.run("install")
    assert done.returncode == 0, done.stderr
    return made
