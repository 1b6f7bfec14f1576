"""The rules that keep the light light and the environments apart, held against every file."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIGHT = ("core", "data", "control", "doctor", "study", "mcp")
WORKERS = ("train", "eval", "serve")
HEAVY = (
    "torch",
    "transformers",
    "llamafactory",
    "lm_eval",
    "inspect_ai",
    "vllm",
    "peft",
    "datasets",
    "trl",
    "accelerate",
)
MAY_IMPORT = {
    "core": {"core"},
    "data": {"core", "data"},
    "control": {"core", "data", "control"},
    "doctor": {"core", "data", "control", "doctor"},
    "study": {"core", "data", "control", "study"},
    "mcp": {"core", "data", "control", "doctor", "study", "mcp"},
    "train": {"core", "data", "train"},
    "eval": {"core", "data", "eval"},
    "serve": {"core", "data", "serve"},
}


PROBES = ROOT / "packages" / "doctor" / "src" / "tuneyard" / "doctor" / "probes"
"""Programs that other environments' interpreters execute: they import what is there, and nobody imports them."""


def folder(package: str) -> Path:
    return ROOT / ("agents" if package == "mcp" else "packages") / package


def modules(package: str) -> list[Path]:
    return sorted(path for path in (folder(package) / "src").rglob("*.py") if path.parent != PROBES)


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, lazily too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("package", LIGHT)
def test_light_packages_never_import_an_engine_not_even_lazily(package: str) -> None:
    for path in modules(package):
        heavy = {name for name in imported(path) if name.split(".")[0] in HEAVY}
        assert not heavy, f"{path} imports {heavy}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_follow_the_order_of_the_packages(package: str) -> None:
    for path in modules(package):
        others = {n.split(".")[1] for n in imported(path) if n.startswith("tuneyard.")}
        assert others <= MAY_IMPORT[package], f"{path} imports {others - MAY_IMPORT[package]}"


def test_probes_begin_with_the_standard_library_and_are_imported_by_nobody() -> None:
    programs = sorted(PROBES.iterdir())
    assert {path.suffix for path in programs if path.name != "__pycache__"} == {".py"}
    for path in programs:
        top = ast.parse(path.read_text()).body if path.suffix == ".py" else []
        names = [n for n in top if isinstance(n, ast.Import | ast.ImportFrom)]
        roots = {
            name.split(".")[0]
            for n in names
            for name in ([n.module or ""] if isinstance(n, ast.ImportFrom) else [alias.name for alias in n.names])
        }
        assert roots <= set(sys.stdlib_module_names), f"{path} begins with {roots - set(sys.stdlib_module_names)}"
    assert not (PROBES / "__init__.py").exists()
    for package in MAY_IMPORT:
        for path in modules(package):
            assert not {n for n in imported(path) if n.startswith("tuneyard.doctor.probes")}, path


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_each_distribution_owns_exactly_one_child_of_the_namespace(package: str) -> None:
    source = folder(package) / "src"
    assert [p.name for p in source.iterdir() if p.name != "__pycache__"] == ["tuneyard"]
    assert [p.name for p in (source / "tuneyard").iterdir() if p.name != "__pycache__"] == [package]
    project = tomllib.loads((folder(package) / "pyproject.toml").read_text())
    assert project["project"]["name"] == f"tuneyard-{package}"


def test_importing_every_light_module_loads_no_engine() -> None:
    names = [
        ".".join(path.relative_to(folder(package) / "src").with_suffix("").parts)
        for package in LIGHT
        for path in modules(package)
        if path.stem not in ("__init__", "__main__")
    ]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(HEAVY)
    assert len(names) > 20


@pytest.mark.parametrize("command", [["runs"], ["show", "no-such-run"], ["--help"]])
def test_commands_that_only_look_import_neither_pydantic_nor_yaml(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "pixi.toml").write_text("")
    code = (
        "import sys\nfrom tuneyard.control.cli import main\n"
        f"sys.argv[1:] = {command!r}\ntry: main()\nexcept SystemExit: pass\nprint('LOADED', *sys.modules)"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "TUNEYARD_WORKSPACE": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert not loaded & {"pydantic", "yaml", *HEAVY}


def test_agents_md_is_short_and_claude_md_imports_it() -> None:
    lines = (ROOT / "AGENTS.md").read_text().splitlines()
    assert len(lines) < 100
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert headings[-2:] == ["Current tasks", "Recent changes"]
    assert (ROOT / "CLAUDE.md").read_text().strip() == "@AGENTS.md"
