"""`yard study report`: write the report, as far as the study is."""

from __future__ import annotations

import json

from tuneyard.study.commands.opening import parser, study_of
from tuneyard.study.report.write import write_report


def main(command: str, arguments: list[str]) -> int:
    made = parser(command, "Write report.html, report.md, results.csv and results.parquet, as far as the study is.")
    options = made.parse_args(arguments)
    written = write_report(study_of(options))
    print(json.dumps({"files": [str(path) for path in written]}) if options.json else "\n".join(map(str, written)))
    return 0
