"""The scripts that SLURM is given: readable, kept in the run folder, and submitted by hand with `sbatch job.sh` too.

A run's options come from `slurm:` in tuneyard.yaml, then from TUNEYARD_SLURM_* variables, then from the command line,
under sbatch's own names; devices, nodes and time from its spec. Nothing reaches a shell but quoted.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneyard.control.environments import RUN_VARIABLES
from tuneyard.control.workspace import WORKSPACE_VARIABLE, Workspace
from tuneyard.core.errors import RequestError, unknown
from tuneyard.core.run_folder import RunFolder

VARIABLES = "TUNEYARD_SLURM_"
"""Beginning of the variables that set options: TUNEYARD_SLURM_PARTITION, TUNEYARD_SLURM_CPUS_PER_TASK."""

OPTIONS = frozenset(
    (
        *(
            "account",
            "begin",
            "comment",
            "constraint",
            "cpus-per-task",
            "deadline",
            "exclude",
            "exclusive",
            "gres",
            "hint",
        ),
        *("licenses", "mail-type", "mail-user", "mem", "mem-per-cpu", "mem-per-gpu", "nice", "nodelist", "partition"),
        *("prefer", "qos", "requeue", "reservation", "time", "tmp", "wckey"),
    )
)
"""sbatch's long options that a person may set."""

ELSEWHERE = {
    "nodes": "it belongs to the spec: nodes=2",
    "gpus": "the spec's gpus, and the type in gres: gpu:a100:1",
    "gpus-per-node": "the spec's gpus, and the type in gres: gpu:a100:1",
    "ntasks": "the spec's processes",
    "ntasks-per-node": "the spec's processes",
    "array": "a study's `limit`",
    "dependency": "a study orders its runs",
}
"""Options that something else decides, and what."""

LEAD_SECONDS = 60
"""How long before its end, beside cancel_grace, SLURM tells a job that its time is nearly over: it may do so late."""

MARGIN_SECONDS = 900
"""What a job gets beside the run's own time_limit, to prepare data and to end."""

NODE = "tuneyard.control.slurm.node"
"""The module that a job starts."""


def options(workspace: Workspace, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """sbatch's options by long name, from settings, variables and `given`, the later before the earlier.

    Raises:
        RequestError: an option is unknown, decided elsewhere, or its value cannot stand in a script.
    """
    settings = workspace.settings.slurm if workspace.has_settings else {}
    named = {n.removeprefix(VARIABLES): v for n, v in os.environ.items() if n.startswith(VARIABLES)}
    chosen: dict[str, Any] = {}
    for source, where in (
        (settings, f"{workspace.settings_file}: slurm"),
        (named, VARIABLES),
        (given or {}, "slurm"),
    ):
        chosen |= {_option(name, where): _value(name, value, where) for name, value in source.items()}
    if isinstance(chosen.get("time"), int | str):
        seconds_of(chosen["time"])
    return chosen


def _option(name: str, where: str) -> str:
    option = name.lower().replace("_", "-")
    if option in ELSEWHERE:
        raise RequestError(f"{option} is not set here", where=where, way_out=ELSEWHERE[option])
    if option not in OPTIONS:
        raise unknown("option of sbatch", option, OPTIONS, where=where)
    return option


def _value(name: str, value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list) and all(isinstance(entry, str | int) for entry in value):
        value = ",".join(map(str, value))
    if not isinstance(value, str) or any(ord(letter) < 32 for letter in value):
        raise RequestError(f"{name}: {value!r} is no value of an option", where=where, way_out="a text in one line")
    return {"true": True, "false": False}.get(value.lower(), value)


def seconds_of(time: str | int) -> float:
    """Seconds of a time as sbatch reads it: `90` minutes, `30:00`, `8:00:00`, `2-12`, `1-00:00:00`, UNLIMITED.

    Raises:
        RequestError: it is none.
    """
    text = str(time)
    if text.upper() in ("UNLIMITED", "INFINITE"):
        return math.inf
    match = re.fullmatch(r"(?:(\d+)-(?=\d))?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        way_out = "minutes, MM:SS, HH:MM:SS, DAYS-HOURS or DAYS-HH:MM:SS"
        raise RequestError(f"time: {time!r} is no time of sbatch", where="slurm.time", way_out=way_out)
    days, *rest = match.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    else:
        hours, minutes, seconds = {1: (0, *parts, 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds


def gpus_of(chosen: Mapping[str, Any]) -> int:
    """GPUs per node that `gres` asks for."""
    return sum(_gpu(entry)[1] for entry in _gres(chosen) if entry.partition(":")[0] == "gpu")


def _gres(chosen: Mapping[str, Any]) -> list[str]:
    return [entry.strip() for entry in str(chosen.get("gres") or "").split(",") if entry.strip()]


def _gpu(entry: str) -> tuple[str, int]:
    """Type and number in `gpu`, `gpu:2`, `gpu:a100`, `gpu:a100:2`."""
    parts = entry.split(":")[1:]
    number = int(parts.pop()) if parts and parts[-1].isdecimal() else 1
    return ":".join(["gpu", *parts]), number


def _gres_for(gpus: int, chosen: Mapping[str, Any]) -> str | None:
    """`gres` with the run's own number of GPUs; the type stays."""
    entries = _gres(chosen)
    kind = next((_gpu(entry)[0] for entry in entries if entry.partition(":")[0] == "gpu"), "gpu")
    others = [entry for entry in entries if entry.partition(":")[0] != "gpu"]
    return ",".join([*([f"{kind}:{gpus}"] if gpus else []), *others]) or None


def needs(spec: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """sbatch's options for a resolved spec. Runs with the same needs may share an array."""
    limit, grace = spec.get("time_limit"), float(spec.get("cancel_grace") or 60)
    time = chosen.get("time")
    if time is None and limit:
        time = math.ceil((limit + grace + MARGIN_SECONDS) / 60)
    lead = grace + LEAD_SECONDS
    if time is not None:
        lead = min(lead, seconds_of(time) / 2)
    nodes = spec.get("nodes") or 1
    return {
        "requeue": True,
        **chosen,
        "time": time,
        "gres": _gres_for(spec.get("gpus") or 0, chosen),
        "nodes": nodes,
        "ntasks-per-node": 1,
        "signal": f"B:USR1@{min(65535, max(1, int(lead)))}",
        "open-mode": "append",
    }


def job_script(
    workspace: Workspace,
    run: RunFolder,
    wanted: Mapping[str, Any],
    variables: Mapping[str, str] | None = None,
    when_out_of_memory: Sequence[str] = (),
) -> str:
    """job.sh of a run: starts its supervisor on the first node.

    Args:
        workspace: where its environments are, on every node.
        run: the run; its folder need not exist yet.
        wanted: sbatch's options, as `needs` gives them.
        variables: for the worker, such as HF_HUB_OFFLINE.
        when_out_of_memory: a command for the job's last seconds, where the run has failed for want of memory.
    """
    wanted = {"job-name": run.id, "output": _as_pattern(run.job_log), **wanted}
    exported = {**(variables or {}), WORKSPACE_VARIABLE: str(workspace.path)}
    command = [sys.executable, "-P", "-m", NODE, str(run.path), *when_out_of_memory]
    return "\n".join(
        [
            "#!/bin/bash",
            *_directives(wanted),
            f"# The next attempt of the run {run.id}; `sbatch job.sh` submits it by hand.",
            "",
            f"unset {' '.join(RUN_VARIABLES)}",
            *(f"export {name}={shlex.quote(value)}" for name, value in exported.items()),
            f"exec {shlex.join(command)}",
            "",
        ]
    )


def last_command(run: RunFolder) -> list[str]:
    """`when_out_of_memory` of the job.sh that a run has; empty where it has none, or one that a person rewrote.

    The interpreter that wrote it gives way to this one: its environment may have been built anew, and the old removed.
    """
    try:
        words = shlex.split(run.job_script.read_text(), comments=True)
        node = words.index(NODE)
    except (FileNotFoundError, ValueError):
        return []
    python = words[node - 3]
    return [sys.executable if word == python else word for word in words[node + 2 :]]


def array_script(
    name: str, runs: Mapping[int, RunFolder], limit: int | None, wanted: Mapping[str, Any], output: Path
) -> str:
    """The script of an array: each task does what the job.sh of its run does.

    Args:
        name: of the array in the queue.
        runs: index -> run.
        limit: how many may run at once. None: as many as there is room for.
        wanted: sbatch's options, the same for all of them.
        output: where SLURM writes what goes wrong before a run's own log is open.
    """
    indices = _ranges(sorted(runs)) + (f"%{limit}" if limit else "")
    settings = {"job-name": name, "array": indices, "output": _as_pattern(output), **wanted}
    return "\n".join(
        [
            "#!/bin/bash",
            *_directives(settings),
            f"# {len(runs)} runs; `sbatch` on this file submits them by hand.",
            "",
            "runs=(",
            *(f"  [{index}]={shlex.quote(str(run.path))}" for index, run in sorted(runs.items())),
            ")",
            "run=${runs[$SLURM_ARRAY_TASK_ID]}",
            f'exec >>"$run"/{shlex.quote(RunFolder(Path()).job_log.name)} 2>&1',
            f'exec bash "$run"/{shlex.quote(RunFolder(Path()).job_script.name)}',
            "",
        ]
    )


def _directives(wanted: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in wanted.items():
        if name == "requeue":
            lines.append("#SBATCH --requeue" if value else "#SBATCH --no-requeue")
        elif value is True:
            lines.append(f"#SBATCH --{name}")
        elif value is not None and value is not False:
            lines.append(f"#SBATCH --{name}={_quoted(str(value))}")
    return lines


def _quoted(text: str) -> str:
    """A value as sbatch reads it in a script: in double quotes, unless it is plain."""
    if re.fullmatch(r"[\w./:,@%+=-]+", text, re.ASCII):
        return text
    if "\n" in text or "\r" in text:
        way_out = "keep the workspace and its runs in a folder without a line break in its name"
        raise RequestError("SLURM cannot be told a name with a line break", where=repr(text), way_out=way_out)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _as_pattern(path: Path) -> str:
    """A path as the name of an output file, in which SLURM replaces what follows a %."""
    return str(path).replace("%", "%%")


def _ranges(indices: Sequence[int]) -> str:
    """`0-3,7`: indices as --array takes them."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
