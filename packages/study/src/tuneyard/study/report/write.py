"""Write the report of a study: report.html, report.md, results.csv, results.parquet; and links to its runs' files."""

from __future__ import annotations

from pathlib import Path

from tuneyard.core.files import explain_os_error, write_atomically
from tuneyard.study.links import link
from tuneyard.study.report.collect import Collected, collect
from tuneyard.study.report.content import Content, content_of
from tuneyard.study.report.markdown import markdown
from tuneyard.study.report.page import page
from tuneyard.study.report.tables import rows, write_csv, write_parquet
from tuneyard.study.study import Study

HTML, MARKDOWN, CSV, PARQUET = "report.html", "report.md", "results.csv", "results.parquet"


def write_report(study: Study, collected: Collected | None = None, content: Content | None = None) -> list[Path]:
    """Write the report as far as the study is; the files that were written, the page first.

    Args:
        study: what is reported.
        collected: what its runs left, where it was read already.
        content: what the report says, where that was made already.

    Raises:
        SetupError: the folder cannot be written to.
    """
    collected = collected or collect(study)
    content = content or content_of(study, collected)
    place = study.folder.report
    try:
        place.mkdir(parents=True, exist_ok=True)
        table = list(rows(study, collected))
        write_csv(place / CSV, table)
        write_parquet(place / PARQUET, table)
        write_atomically(place / MARKDOWN, markdown(content))
        # last: who sees a new page sees new data beside it
        write_atomically(place / HTML, page(content, study.workspace.runs, place, (MARKDOWN, CSV, PARQUET)))
    except OSError as error:
        raise explain_os_error(error, place) from error
    for each in collected.jobs:
        if each.state == "succeeded" and each.run is not None:
            link(study, each.job, each.run)  # what SLURM ran has ended with nobody there
    return [place / name for name in (HTML, MARKDOWN, CSV, PARQUET)]
