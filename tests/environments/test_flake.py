"""flake.nix evaluates, against a stub of nixpkgs, to a shell in which wheels and the NVIDIA driver are found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = Path(__file__).parent / "nixpkgs-stub"

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="nix is not installed")


def nix(folder: Path, *arguments: str) -> str:
    """Runs nix on a copy of the flake alone, with a store, a home and a cache of its own."""
    flake = folder / "flake"
    flake.mkdir()
    shutil.copy(ROOT / "flake.nix", flake)
    command = ["nix", "--store", str(folder / "store"), "--extra-experimental-features", "nix-command flakes"]
    options = ["--no-write-lock-file", "--override-input", "nixpkgs", f"path:{STUB}", "--offline"]
    environ = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "NIX_CONF_DIR": str(folder)}
    words = [word.replace("FLAKE", f"path:{flake}") for word in arguments]
    done = subprocess.run([*command, *words, *options], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_whole_flake_is_sound(tmp_path: Path) -> None:
    nix(tmp_path, "flake", "check", "--no-build", "FLAKE")


def test_the_linux_shell_has_pixi_and_what_wheels_link(tmp_path: Path) -> None:
    packages = json.loads(nix(tmp_path, "eval", "--json", "FLAKE#devShells.x86_64-linux.default.packages"))
    assert {"pixi", "gcc-lib", "zlib"} <= set(packages)


def test_the_linux_shell_finds_the_drivers_libcuda(tmp_path: Path) -> None:
    profile = nix(tmp_path, "eval", "--raw", "FLAKE#devShells.x86_64-linux.default.profile")
    shell = subprocess.run(
        ["sh", "-c", f"{profile}\necho $LD_LIBRARY_PATH"],
        env={"LD_LIBRARY_PATH": "/mine", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.strip() == "/run/opengl-driver/lib:/mine"


def test_the_mac_shell_has_pixi(tmp_path: Path) -> None:
    packages = json.loads(nix(tmp_path, "eval", "--json", "FLAKE#devShells.aarch64-darwin.default.packages"))
    assert "pixi" in packages
