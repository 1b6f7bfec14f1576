"""Makes the locks anew: `./pixiw run lock`, or `python3 locks/make.py [ENVIRONMENT ...]` with any Python 3.11.

A lock holds every version of one environment on one platform and nothing about where a package lies, so that it serves
with any index. Versions in a lock stay where they still fit pixi.toml and packages/*/pyproject.toml; `--upgrade` takes
the newest of everything.
"""

import argparse
import importlib.machinery
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OLDEST_MACOS = "14.0"  # what torch is built for; pixi.toml says the same

# What uv calls our platforms.
TARGETS = {
    "linux-64-cuda": "x86_64-manylinux_2_28",
    "linux-64-cpu": "x86_64-manylinux_2_28",
    "osx-arm64": "aarch64-apple-darwin",
}


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
    unknown = set(names) - set(manifest["environments"])
    if unknown:
        sys.exit(
            f"there is no environment {', '.join(sorted(unknown))}; there are {', '.join(manifest['environments'])}"
        )
    found = []
    for name in names or manifest["environments"]:
        for platform in TARGETS:
            env = launcher.Environment(name, str(ROOT), manifest, platform)
            found += [env] if platform in launcher.made_for(env) else []
    return found


def requirements(launcher: Any, env: Any) -> list[str]:
    """The direct dependencies; where the manifest names the index of the CPU builds, only such a build will do."""
    wanted = [str(ROOT / folder) for folder in launcher.packages(env)]
    for name, spec in launcher.dependencies(env).items():
        if "version" not in spec or name in launcher.LEFT_OUT.get(env.platform, ()):
            continue
        extras = f"[{','.join(spec['extras'])}]" if "extras" in spec else ""
        build = "+cpu" if spec.get("index", "").endswith("/cpu") else ""
        wanted.append(f"{name}{extras}{spec['version'].removeprefix('*')}{build}")
    return wanted


def without_cpu_builds(launcher: Any, env: Any) -> list[str]:
    """With CUDA the CPU builds that a machine may have lying about are kept out."""
    pins = (launcher.name_and_pin(requirement) for _, requirement in launcher.asked_for(env))
    return [f"{name}!={pin}+cpu" for name, pin in pins if pin] if "cuda" in env.platform else []


def kept(launcher: Any, env: Any) -> list[list[str]]:
    """The present lock's versions, to be kept: all of them, or those not asked for directly, or none."""
    if not Path(env.lock).exists():
        return [[]]
    direct = {launcher.name_and_pin(requirement)[0] for _, requirement in launcher.asked_for(env)}
    versions = launcher.lock_versions(env).items()
    everything = [f"{name}=={version}" for name, version in versions]
    return [everything, [f"{name}=={version}" for name, version in versions if name not in direct], []]


def resolve(launcher: Any, env: Any, upgrade: bool) -> list[str]:
    """The lock's lines: as near the present ones as still fits, from pip's own indexes if those suffice.

    uv's own way of keeping versions, an output file that exists, looks into the first index that has a version, even
    if that index has no file for the platform.
    """
    named = {spec["index"] for spec in launcher.dependencies(env).values() if "index" in spec}
    indexes = [part for index in sorted(named) for part in ("--index", index)]
    complaint = ""
    for options in ([], indexes) if indexes else ([],):
        for versions in [[]] if upgrade else kept(launcher, env):
            constraints = [*versions, *without_cpu_builds(launcher, env)]
            done = compile_lock(launcher, env, constraints, options)
            if done.returncode == 0:
                return [line for line in done.stdout.splitlines() if re.fullmatch(r"[a-z0-9-]+==\S+", line)]
            complaint = done.stderr
    sys.exit(f"uv could not resolve environment {env.name!r} for {env.platform}:\n{complaint}")


def compile_lock(
    launcher: Any, env: Any, constraints: list[str], options: list[str]
) -> subprocess.CompletedProcess[str]:
    command = [launcher.find_uv(str(ROOT)), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-config"]
    command += [*launcher.index_strategy(), "--python-version", launcher.python_version(env)]
    command += ["--python-platform", TARGETS[env.platform], *options]
    environ = {**launcher.uv_environ(), "MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS}
    files = {
        "--override": [f"{name}; sys_platform == 'never'" for name in launcher.LEFT_OUT.get(env.platform, ())],
        "--constraint": constraints,
        "--requirements": requirements(launcher, env),
    }
    with tempfile.TemporaryDirectory() as folder:
        for option, lines in files.items():
            path = Path(folder) / option.strip("-")
            path.write_text("\n".join([*lines, ""]), encoding="utf-8")
            command += [str(path)] if option == "--requirements" else [option, str(path)]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Makes locks/ anew.")
    parser.add_argument("environment", nargs="*")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions instead of the locked ones")
    options = parser.parse_args(arguments)
    launcher = load_launcher()
    for env in environments(launcher, options.environment):
        lines = resolve(launcher, env, options.upgrade)
        Path(env.lock).write_text("\n".join([*lines, ""]), encoding="utf-8")
        print(f"{Path(env.lock).relative_to(ROOT)}: {len(lines)} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
