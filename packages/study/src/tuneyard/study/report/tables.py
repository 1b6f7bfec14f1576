"""results.csv and results.parquet: one row per run, task and metric, for whoever computes something else."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneyard.core.files import write_atomically
from tuneyard.study.jobs import TRAIN
from tuneyard.study.report.collect import Collected, Ran
from tuneyard.study.state import JobState
from tuneyard.study.study import Study

FIXED = ("run", "state", "task", "metric", "value", "standard_error", "n", "primary")
AFTER = ("final_loss", "train_seconds", "eval_seconds", "train_run", "eval_run")

Row = dict[str, Any]


def rows(study: Study, collected: Collected) -> Iterator[Row]:
    """A row for every score; a run without a score has one row without it."""
    trainings = {each.job.owner: each for each in collected.jobs if each.job.stage == TRAIN}
    owners = list(dict.fromkeys(each.job.owner for each in collected.jobs))
    for owner in owners:
        train = trainings.get(owner)
        head = _head(study, owner, train, collected)
        scores = list(collected.scores_of(owner))
        for score, ran in scores:
            told = {"task": score.task, "metric": score.metric, "value": score.value}
            told |= {"standard_error": score.standard_error, "n": score.n, "primary": score.primary}
            yield {**head, **told, "eval_run": ran.id, "eval_seconds": ran.seconds}
        if not scores:
            yield head


def _head(study: Study, owner: str, train: JobState | None, collected: Collected) -> Row:
    keys = [*study.design.keys, *(["seed"] if study.experiment.seeds else [])]
    row: Row = dict.fromkeys((*FIXED[:2], *keys, *FIXED[2:], *AFTER))
    row["run"] = owner
    if train is None or train.job.point is None:
        return row
    ran: Ran | None = collected.of(train)
    row |= train.job.point.params | {"state": train.state}
    if ran is not None:
        loss = ran.curve[-1][1] if ran.curve else None
        row |= {"train_run": ran.id, "train_seconds": ran.seconds, "final_loss": loss}
    return row


def write_csv(path: Path, table: list[Row]) -> None:
    """Write the rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]) if table else list(FIXED), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_atomically(path, text.getvalue())


def write_parquet(path: Path, table: list[Row]) -> None:
    """Write the rows as Parquet; a variable whose values are of several types, or no plain ones, becomes text."""
    import pyarrow
    from pyarrow import parquet

    columns = {name: _column([row[name] for row in table]) for name in (table[0] if table else FIXED)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    parquet.write_table(pyarrow.table(columns), temporary)
    temporary.replace(path)


def _column(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and len(kinds) == 2:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1 or kinds & {dict, list}:
        return [None if value is None else str(value) for value in values]
    return values
