"""The data of a run: every dataset of its spec, written into runs/ID/data before a device is taken.

dataset_info.json       what LLaMA-Factory reads
train.jsonl, train-2.jsonl, …   the datasets that are trained on, in the order of the spec
eval.jsonl, eval-2.jsonl, …     those whose loss is measured
inputs.jsonl            of a generation: what is put to the model, and nothing else
manifest.json           last: where it stands, and says the same as the spec, the data are kept as they are
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tuneyard.core.documents import read_document
from tuneyard.core.edited_code import keep_edited
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import read_json, sha256_of_file
from tuneyard.core.references import DatasetSource
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import GenerateSpec, TrainSpec, parse_spec
from tuneyard.data.dataset_folder import DatasetFolder
from tuneyard.data.generation_inputs import write_inputs
from tuneyard.data.manifest import DataManifest, DatasetEntry, Role
from tuneyard.data.sources import open_source

MOST_PROCESSES = 4
"""Beyond these the one process that hashes and writes is the slowest."""

STAGES = {"sft": ("alpaca", "sharegpt"), "dpo": ("preference",), "rm": ("preference",), "kto": ("kto",)}
"""LLaMA-Factory's stage -> the formats that it can train on."""


def prepare(folder: Path | str) -> DataManifest:
    """Write the data of the run in `folder`, or keep them where they are there and whole.

    Raises:
        RequestError: a dataset that is not there, not readable, empty, or of no use for the stage; nothing is left.
        SetupError: a full disk, or a hub that is needed and cannot be reached.
    """
    run = RunFolder(Path(folder).absolute())
    spec = parse_spec(_spec(run), str(run.spec))
    if not isinstance(spec, TrainSpec | GenerateSpec):
        raise RequestError(f"a run of kind {spec.kind} has no data to prepare", where=str(run.spec))
    kept = _whole(run, spec)
    if kept is not None:
        return kept
    if run.data.exists():
        shutil.rmtree(run.data)  # of an attempt that died on the way
    for note in keep_edited(run, spec):
        print(f"warning: {note}", file=sys.stderr)
    return _prepare_inputs(run, spec) if isinstance(spec, GenerateSpec) else _prepare_datasets(run, spec)


def _prepare_inputs(run: RunFolder, spec: GenerateSpec) -> DataManifest:
    start = time.perf_counter()
    source = open_source(spec.dataset, runs=run.path.parent, answered=False)
    try:
        manifest = write_inputs(run.data, source)
    except BaseException:
        shutil.rmtree(run.data, ignore_errors=True)
        raise
    _tell(manifest.datasets[0], spec.dataset.source, time.perf_counter() - start)
    return manifest


def _prepare_datasets(run: RunFolder, spec: TrainSpec) -> DataManifest:
    _check_place(run.data)
    stage = str(spec.engine.get("stage", "sft"))
    media = spec.engine.get("media_dir")
    with DatasetFolder(run.data, processes=min(MOST_PROCESSES, _cores())) as out:
        for name, role, asked in _named(spec):
            start = time.perf_counter()
            source = open_source(asked, runs=run.path.parent, media=Path(media) if media else None)
            entry = out.add(name, source, role)
            _check_stage(entry, stage)
            _tell(entry, asked.source, time.perf_counter() - start)
    return DataManifest(datasets=out.entries)


def _spec(run: RunFolder) -> object:
    try:
        return read_json(run.spec)
    except FileNotFoundError as error:
        raise RequestError("no such file", where=str(run.spec), way_out="name the folder of a run") from error
    except ValueError as error:
        raise RequestError(f"not valid JSON: {error}", where=str(run.spec)) from error


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _check_place(folder: Path) -> None:
    """`datasets`, under LLaMA-Factory, takes brackets in a path for a pattern, and `::` for a chain of archives."""
    if re.search(r"\[.*\]|::", str(folder), re.DOTALL):
        raise SetupError(
            "LLaMA-Factory cannot read from a folder whose path has [ ] or :: in it",
            where=str(folder),
            way_out="rename that folder, or set another `runs` folder in tuneyard.yaml",
        )


def _named(spec: TrainSpec | GenerateSpec) -> Iterator[tuple[str, Role, DatasetSource]]:
    """The datasets of a spec with their names: train, train-2, …, eval, eval-2, …; inputs."""
    if isinstance(spec, GenerateSpec):
        yield "inputs", "input", spec.dataset
        return
    roles: tuple[tuple[Role, list[DatasetSource]], ...] = (("train", spec.dataset), ("eval", spec.eval_dataset))
    for role, sources in roles:
        for number, source in enumerate(sources, 1):
            yield role if number == 1 else f"{role}-{number}", role, source


def _whole(run: RunFolder, spec: TrainSpec | GenerateSpec) -> DataManifest | None:
    """The manifest of data that are there, complete, and what the spec asks for; else None."""
    if not run.data_manifest.is_file():
        return None
    try:
        manifest = read_document(run.data_manifest, DataManifest)
    except RequestError:
        return None
    wanted = [(name, role, asked.model_dump(exclude_defaults=True)) for name, role, asked in _named(spec)]
    if wanted != [(entry.name, entry.role, entry.source) for entry in manifest.datasets]:
        return None
    files = [(run.data / entry.file, entry) for entry in manifest.datasets]
    same = all(f.is_file() and f.stat().st_size == e.bytes and sha256_of_file(f) == e.sha256 for f, e in files)
    return manifest if same else None


def _check_stage(entry: DatasetEntry, stage: str) -> None:
    wanted = STAGES.get(stage)
    if wanted is None or entry.format in wanted:
        return
    fitting = [name for name, formats in STAGES.items() if entry.format in formats] or ["pt"]
    raise RequestError(
        f"stage {stage} trains on {' or '.join(wanted)} data, and this is {entry.format}",
        where=str(entry.source.get("source")),
        way_out=f"set engine.stage to {' or '.join(fitting)}, or name another dataset",
    )


def _tell(entry: DatasetEntry, source: str, seconds: float) -> None:
    print(f"{entry.name}: {entry.rows:,} rows of {source} ({entry.format}), {seconds:.1f} s", file=sys.stderr)
    for note in entry.notes:
        print(f"warning: {entry.name}: {note}", file=sys.stderr)
