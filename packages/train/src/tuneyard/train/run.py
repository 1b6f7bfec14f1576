"""The work of a training run: LLaMA-Factory through its Python interface."""

from __future__ import annotations

from tuneyard.core.files import link_tree, read_json
from tuneyard.core.worker import Job
from tuneyard.train.arguments import Data, library_arguments
from tuneyard.train.stand_ins import stand_in_for_torchaudio


def run(job: Job) -> None:
    """Train, and leave model or adapter, metrics and plot in the run folder."""
    spec = job.spec
    data = Data.from_manifest(job.folder.data, read_json(job.folder.data_manifest))
    notes: list[str] = []
    output = job.folder.raw / str(job.attempt.number)
    values = library_arguments(spec, data, str(output), notes)
    stand_in_for_torchaudio()
    with job.timed("import"):
        from llamafactory.train.tuner import run_exp

        from tuneyard.train.callback import RunCallback
    job.describe_environment()
    with job.timed("train"):
        run_exp(values, [RunCallback(job)])
    link_tree(output, job.folder.model)
    job.artifact("model", job.folder.model)
