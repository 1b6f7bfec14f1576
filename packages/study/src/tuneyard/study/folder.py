"""The folder of a study: every file name in it.

experiment.yaml                  a person
configs/train_000.yaml …         `yard study generate`; LLaMA-Factory's own command trains each
configs/eval_000.py …            `yard study generate`; each evaluates by hand
configs/run_mapping.yaml         `yard study generate`: which run has which values
configs/data/                    the datasets, for LLaMA-Factory's own command
scripts/*.sh                     `yard study generate`: batch scripts
study.jsonl                      the journal: which run of tuneyard does which job
study.log                        what a detached study says
results/run_000/                 links to what the training left
eval_results/run_000/TASK/       links to what the evaluation left
report.html, report.md, results.csv, results.parquet
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuneyard.study.experiment import Output


@dataclass(frozen=True)
class StudyFolder:
    """The folder that experiment.yaml stands in."""

    path: Path
    output: Output

    @property
    def journal(self) -> Path:
        return self.path / "study.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the process that runs the study."""
        return self.path / ".study.lock"

    @property
    def configs(self) -> Path:
        return self.path / self.output.configs_dir

    @property
    def mapping(self) -> Path:
        return self.configs / "run_mapping.yaml"

    @property
    def data(self) -> Path:
        return self.configs / "data"

    @property
    def scripts(self) -> Path:
        return self.path / self.output.scripts_dir

    @property
    def results(self) -> Path:
        return self.path / self.output.results_dir

    @property
    def eval_results(self) -> Path:
        return self.path / self.output.eval_results_dir

    @property
    def report(self) -> Path:
        return self.path / self.output.report_dir

    def train_config(self, number: int) -> Path:
        return self.configs / f"train_{number:03d}.yaml"

    def eval_script(self, number: int) -> Path:
        return self.configs / f"eval_{number:03d}.py"
