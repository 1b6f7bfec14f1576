"""The table of signatures in docs/doctor.md, made from tuneyard.core.signatures.

python docs/make_signatures.py            write it
python docs/make_signatures.py --check    exit with 1 if it is not what the signatures say
"""

from __future__ import annotations

import sys
from pathlib import Path

from tuneyard.core.signatures import SIGNATURES
from tuneyard.core.signatures.signature import Signature

PAGE = Path(__file__).parent / "doctor.md"
START, END = "<!-- signatures: made by docs/make_signatures.py -->\n", "<!-- end of the signatures -->\n"
MEANS = {
    "follows": " (where nothing else failed)",
    "spoils": " (the run goes on)",
    "warns": " (the run goes on; risky)",
}


def table() -> str:
    """The signatures as a table in Markdown."""
    rows = ["| id | likely cause | way out | thread |", "| --- | --- | --- | --- |"]
    return "\n".join([*rows, *(_row(known) for known in SIGNATURES)]) + "\n"


def _row(known: Signature) -> str:
    project, _, number = known.thread.removeprefix("https://github.com/").rpartition("/")
    link = f"[{project.split('/')[1]} {number}]({known.thread})"
    cells = [f"`{known.id}`", known.cause + MEANS.get(known.effect, ""), known.way_out, link]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def written(page: str) -> str:
    """The page with the table as it must be."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{PAGE.name} has no place for the signatures: {START.strip()} … {END.strip()}")
    return before + start + "\n" + table() + "\n" + end + after


def main() -> None:
    """Write the table, or check it."""
    page = PAGE.read_text()
    if "--check" in sys.argv[1:]:
        sys.exit(page != written(page))
    PAGE.write_text(written(page))


if __name__ == "__main__":
    main()
