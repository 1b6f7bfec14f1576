"""Makes the locks anew: `./pixiw run lock`, or `python3 locks/make.py [ENVIRONMENT ...]` with any Python 3.11.

A lock holds every version of one environment on one platform and nothing about where a package lies, so that it serves
with any index. It is resolved from pixi.toml and packages/*/pyproject.toml with the newest versions that fit together.
"""

import importlib.machinery
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# What uv calls our platforms.
TARGETS = {
    "linux-64-cuda": "x86_64-manylinux_2_28",
    "linux-64-cpu": "x86_64-manylinux_2_28",
    "osx-arm64": "aarch64-apple-darwin",
}
OLDEST_MACOS = "14.0"  # what torch is built for; pixi.toml says the same


def load_launcher() -> Any:
    """The module of ./pixiw, which reads the manifest."""
    loader = importlib.machinery.SourceFileLoader("pixiw", str(ROOT / "pixiw"))
    spec = importlib.util.spec_from_loader("pixiw", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pixiw"] = module
    loader.exec_module(module)
    return module


def environments(launcher: Any, names: list[str]) -> list[Any]:
    """Each environment of the manifest on each platform that its features allow."""
    manifest = launcher.load_manifest(str(ROOT))
    found = []
    for name in names or manifest["environments"]:
        for platform in TARGETS:
            env = launcher.Environment(name, str(ROOT), manifest, platform)
            if all(platform in feature.get("platforms", [platform]) for feature in env.features):
                found.append(env)
    return found


def requirements(launcher: Any, env: Any) -> list[str]:
    """The direct dependencies; a CPU platform takes the CPU build, a CUDA platform never does."""
    wanted = [str(ROOT / folder) for folder in launcher.packages(env)]
    for name, spec in launcher.dependencies(env).items():
        if "version" not in spec or name in launcher.LEFT_OUT.get(env.platform, ()):
            continue
        extras = f"[{','.join(spec['extras'])}]" if "extras" in spec else ""
        wanted.append(f"{name}{extras}{spec['version'].removeprefix('*')}")
        if env.platform == "linux-64-cpu" and spec.get("index", "").endswith("/cpu"):
            wanted.append(f"{name}{spec['version']}+cpu")
    return wanted


def constraints(env: Any) -> list[str]:
    """With CUDA the CPU builds that a machine may have lying about are kept out."""
    return ["torch!=2.13.0+cpu"] if env.platform == "linux-64-cuda" else []


def resolve(launcher: Any, env: Any) -> list[str]:
    left_out = [f"{name}; sys_platform == 'never'" for name in launcher.LEFT_OUT.get(env.platform, ())]
    scratch = ROOT / ".pixi" / "uv" / "lock"
    scratch.mkdir(parents=True, exist_ok=True)
    files = {"requirements": requirements(launcher, env), "overrides": left_out, "constraints": constraints(env)}
    for name, lines in files.items():
        (scratch / name).write_text("\n".join([*lines, ""]), encoding="utf-8")
    command = [launcher.find_uv(str(ROOT)), "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--index-strategy", "unsafe-best-match", "--no-config"]
    command += ["--python-version", launcher.python_version(env), "--python-platform", TARGETS[env.platform]]
    command += ["--override", str(scratch / "overrides"), "--constraint", str(scratch / "constraints")]
    command += [str(scratch / "requirements")]
    environ = {**launcher.uv_environ(), "MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS}
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"uv could not resolve environment {env.name!r} for {env.platform}; its reason stands above")
    return [line for line in done.stdout.splitlines() if re.fullmatch(r"[a-z0-9-]+==\S+", line)]


def main(names: list[str]) -> None:
    launcher = load_launcher()
    for env in environments(launcher, names):
        lines = resolve(launcher, env)
        Path(env.lock).write_text("\n".join([*lines, ""]), encoding="utf-8")
        print(f"{Path(env.lock).relative_to(ROOT)}: {len(lines)} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
