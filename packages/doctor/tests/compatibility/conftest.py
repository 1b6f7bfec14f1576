"""A package index on this disk, with made-up distributions, so that uv really solves and needs no network."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tuneyard.core.errors import SetupError
from tuneyard.doctor.compatibility.uv import Solver, find_solver

ROOT = Path(__file__).resolve().parents[4]


@dataclass
class Index:
    """Releases, as an index offers them; pip's own setting names it, and uv is told by what it says."""

    folder: Path

    def add(
        self,
        name: str,
        version: str,
        *requires: str,
        python: str = ">=3.8",
        extras: tuple[str, ...] = (),
        readme: str = "",
        code: dict[str, str] | None = None,
        uploaded: str | None = None,
        tag: str = "py3-none-any",
    ) -> Path:
        """Build a wheel and list it; `uploaded` is a day, `2026-01-31`."""
        stem = f"{name.replace('-', '_')}-{version}"
        wheel = self.folder / "files" / f"{stem}-{tag}.whl"
        wheel.parent.mkdir(parents=True, exist_ok=True)
        head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", f"Requires-Python: {python}"]
        head += [*(f"Provides-Extra: {extra}" for extra in extras), *(f"Requires-Dist: {line}" for line in requires)]
        files = {
            f"{stem}.dist-info/METADATA": "\n".join([*head, "", readme]),
            f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
            **(code or {}),
        }
        _write_wheel(wheel, stem, files)
        self._list(name, wheel, python, uploaded)
        return wheel

    def _list(self, name: str, wheel: Path, python: str, uploaded: str | None) -> None:
        page = self.folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        when = f' data-upload-time="{uploaded}T00:00:00Z"' if uploaded else ""
        line = f'<a href="{wheel.as_uri()}" data-requires-python="{html.escape(python)}"{when}>{wheel.name}</a><br/>\n'
        with page.open("a", encoding="utf-8") as file:
            file.write(line)


def _write_wheel(wheel: Path, stem: str, files: dict[str, str]) -> None:
    record = f"{stem}.dist-info/RECORD"
    lines = []
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(text.encode())}")
        archive.writestr(record, "\n".join([*lines, f"{record},,", ""]))


@pytest.fixture(scope="session")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: what uv knows of the interpreter takes longer to find out than a solve."""
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def index(tmp_path: Path, uv_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An empty index, the only one that pip's settings name; caches of our own, so that nothing is remembered."""
    for name in [*os.environ]:
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    found = Index(tmp_path / "index")
    (found.folder / "simple").mkdir(parents=True)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (found.folder / "simple").as_uri())
    monkeypatch.setenv("UV_CACHE_DIR", str(uv_cache))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TUNEYARD_WORKSPACE", str(ROOT))
    monkeypatch.setenv("INIT_CWD", str(tmp_path))
    return found


@pytest.fixture
def solver(index: Index) -> Solver:
    """uv on that index."""
    try:
        return find_solver(ROOT)
    except SetupError:
        pytest.skip("uv is not installed here")
