"""docs/doctor.md names every finding of the health of environments, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from tuneyard.doctor.importing import EXTENSIONS

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "packages" / "doctor" / "src" / "tuneyard" / "doctor"
MODULES = ("across", "adapters", "deep", "disks", "gpus", "health", "hub_access", "importing", "inventory", "machine")
MORE = ("since", "tokens", "torch_build")

MADE = re.compile(r'(?:Finding\(|\bid =|\bid, message =|id, severity =)\s*\(?"([a-z-]+)"(?:[^"\n]* else "([a-z-]+)")?')
"""Where an id stands in the sources: the first argument of a finding, or the name `id`."""


def made() -> set[str]:
    text = "\n".join((SOURCE / f"{name}.py").read_text() for name in (*MODULES, *MORE))
    found = {id for match in MADE.findall(text) for id in match if id}
    return found | {f"{name}-mismatch" for name in EXTENSIONS}


def test_every_finding_is_on_the_page() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()
    assert len(made()) > 50
    assert made() - set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", page)) == set()


def test_the_page_has_no_finding_that_there_is_not() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()
    health = page[page.index("## Findings of one environment") :].partition("With `--since RUN`")[0]
    columns = "\n".join(line.split("|")[1] for line in health.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([a-z-]+)`", columns)) - made() == set()
