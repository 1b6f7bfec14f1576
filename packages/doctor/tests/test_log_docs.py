"""docs/doctor.md lists every signature as the code has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tuneyard.core.signatures import SIGNATURES

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_has_the_table_of_signatures_that_the_code_makes() -> None:
    done = subprocess.run([sys.executable, DOCS / "make_signatures.py", "--check"], check=False)
    assert done.returncode == 0, "python docs/make_signatures.py writes it"
    page = (DOCS / "doctor.md").read_text()
    assert all(f"`{known.id}`" in page and known.thread in page for known in SIGNATURES)
