"""scripts/*.sh: the study as job arrays, in the form that a person would write and hand to `sbatch`."""

from __future__ import annotations

import re
import shlex

from tuneyard.core.errors import RequestError
from tuneyard.study.study import Point, Study

ARRAY_LIMIT = "array_limit"
"""Key of the `slurm:` block that is no option of sbatch's: how many tasks of an array may run at once."""

_OPTION = re.compile(r"[a-z][a-z0-9-]*")


def one_line(study: Study, point: Point) -> str:
    """`lora-rank, run 003: lora_rank=8, seed=1`, on one line whatever the values are."""
    params = ", ".join(f"{key.removeprefix('engine.')}={value}" for key, value in point.params.items())
    return " ".join(f"{study.name}, run {point.id}: {params}".split())


def config_head(study: Study, point: Point) -> str:
    """What stands above the settings in train_000.yaml."""
    return f"# {one_line(study, point)}\n# llamafactory-cli train {study.folder.train_config(point.number).name}\n"


def batch_scripts(study: Study) -> dict[str, str]:
    """File name -> text of every batch script.

    Raises:
        RequestError: a key of the `slurm:` block has not the form of an option.
    """
    scripts = {"train_sweep.sh": _script(study, "train", "scripts/train_sweep.sh")}
    if study.experiment.evaluation is not None and study.experiment.evaluation.enabled:
        usage = "--dependency=aftercorr:JOB_OF_TRAIN_SWEEP --kill-on-invalid-dep=yes scripts/eval_sweep.sh"
        scripts["eval_sweep.sh"] = _script(study, "eval", usage)
    return scripts


def _script(study: Study, stage: str, usage: str) -> str:
    name = f"{study.slug}-{stage}"
    pixiw = shlex.quote(str(study.workspace.path / "pixiw"))
    words = f"run yard study one {shlex.quote(str(study.file))} {stage}"
    what = "one training" if stage == "train" else "the evaluations of one training"
    return "\n".join(
        [
            "#!/bin/bash",
            f"# {' '.join(study.name.split())}: each task of the array is {what}.",
            f"#   cd {shlex.quote(str(study.file.parent))} && sbatch {usage}",
            f"#SBATCH --job-name={name}",
            f"#SBATCH --array=0-{len(study) - 1}{_limit(study)}",
            f"#SBATCH --output={study.experiment.output.scripts_dir}/{name}-%A_%a.log",
            "#SBATCH --requeue",
            "#SBATCH --open-mode=append",
            *_options(study),
            "",
            "set -euo pipefail",
            "# Goes on from the last checkpoint when the task is requeued, and does nothing when the run is done.",
            f'exec {pixiw} {words} "$SLURM_ARRAY_TASK_ID"',
            "",
        ]
    )


def array_limit(study: Study) -> int | None:
    """How many tasks of an array may run at once; None for as many as there is room for.

    Raises:
        RequestError: the `slurm:` block says no such number.
    """
    limit = study.experiment.slurm.get(ARRAY_LIMIT)
    if limit is None or (isinstance(limit, int) and limit >= 1):
        return limit
    raise RequestError(f"slurm.{ARRAY_LIMIT} must be a whole number from 1 (got {limit!r})", where=str(study.file))


def _limit(study: Study) -> str:
    limit = array_limit(study)
    return f"%{limit}" if limit else ""


def _options(study: Study) -> list[str]:
    lines = []
    for key, value in study.experiment.slurm.items():
        if key == ARRAY_LIMIT or value is None:
            continue
        option = str(key).replace("_", "-")
        if not _OPTION.fullmatch(option) or not re.fullmatch(r"[\w.,:/@%=+&|*()\[\]-]*", str(value)):
            raise RequestError(f"slurm.{key}: {value!r} cannot stand in a batch script", where=str(study.file))
        lines.append(f"#SBATCH --{option}" + ("" if value is True else f"={value}"))
    return lines
