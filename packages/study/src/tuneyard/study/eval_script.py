"""configs/eval_003.py: a script that evaluates one run by hand, with `python configs/eval_003.py`."""

from __future__ import annotations

import json
from collections.abc import Callable

from tuneyard.study.jobs import evaluation_specs
from tuneyard.study.scripts import one_line
from tuneyard.study.study import Point, Study

_TEXT = '''"""{head}

    python {file} [MODEL]

MODEL: a folder with a model or an adapter. Default: what the run's training left. Runs in any environment of the
workspace; each evaluation is a run of its own (`yard runs`).
"""

import json
import os
import sys
from pathlib import Path

from tuneyard.control import evaluate

STUDY = Path(__file__).resolve().parents[{depth}]
BASE = json.loads(r"""
{base}
""")
EVALUATIONS = json.loads(r"""
{evaluations}
""")


def model_of_training() -> dict:
    for folder in (STUDY / {results!r} / "run_{id}", STUDY / "by_hand" / "run_{id}"):
        if (folder / "hf_model").is_dir():
            return {{"model": str(folder / "hf_model")}}
        if (folder / "adapter").is_dir():
            return {{**BASE, "adapter": str(folder / "adapter")}}
        if (folder / "adapter_config.json").is_file():
            return {{**BASE, "adapter": str(folder)}}
        if (folder / "config.json").is_file():
            return {{"model": str(folder)}}
    sys.exit(
        "Cannot load model: the training of run {id} has not finished, there is no hf_model/ or adapter/ in "
        f"{{STUDY / {results!r} / 'run_{id}'}}\\n  way out: yard study run {{STUDY / {experiment!r}}}"
    )


def given_model(path: Path) -> dict:
    if (path / "adapter_config.json").is_file():
        return {{**BASE, "adapter": str(path)}}
    if (path / "config.json").is_file():
        return {{"model": str(path)}}
    sys.exit(f"Cannot load model: {{path}} is no folder with a model (config.json) or an adapter")


if __name__ == "__main__":
    os.environ.setdefault("TUNEYARD_WORKSPACE", {workspace!r})
    model = given_model(Path(sys.argv[1]).resolve()) if len(sys.argv) > 1 else model_of_training()
    failed = False
    for spec in EVALUATIONS:
        run = evaluate({{**spec, **model}})
        print(f"{{run.id}}: yard logs {{run.id}} -f")
        state = run.wait()
        failed |= state != "succeeded"
        print(f"{{run.id}}: {{state}}")
        for name, value in run.metrics.items():
            print(f"  {{name}}: {{value:.4f}}")
    sys.exit(failed)
'''


def eval_script(study: Study) -> Callable[[Point], str]:
    """A function that gives the text of a run's script."""
    specs = _literal(list(evaluation_specs(study).values()))
    output = study.experiment.output
    depth = len(study.folder.configs.relative_to(study.folder.path).parts)

    def text_of(point: Point) -> str:
        return _TEXT.format(
            head=one_line(study, point).replace("\\", "/").replace('"""', "'''"),
            file=study.folder.eval_script(point.number).relative_to(study.folder.path),
            depth=depth,
            base=_literal({"model": _reference(study.mapping(point)["model"])}),
            evaluations=specs,
            results=output.results_dir,
            id=point.id,
            experiment=study.file.name,
            workspace=str(study.workspace.path),
        )

    return text_of


def _reference(model: object) -> object:
    return model["reference"] if isinstance(model, dict) and set(model) == {"reference"} else model


def _literal(value: object) -> str:
    """JSON for a raw Python string: three quotes never follow each other in it."""
    return json.dumps(value, indent=2)
