"""The files of a study: a configuration and an evaluation script per run, the mapping, the batch scripts.

All of them are written from texts made once per value, so that ten thousand runs take the memory of one and little
more time than writing the files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.control.starting import library_arguments
from tuneyard.core.errors import RequestError
from tuneyard.core.files import explain_os_error, write_atomically
from tuneyard.core.run_folder import now
from tuneyard.study import scripts
from tuneyard.study.data import prepared_data
from tuneyard.study.eval_script import eval_script
from tuneyard.study.jobs import evaluation_specs
from tuneyard.study.study import SEED, Point, Study, digest
from tuneyard.study.variables import Values

_BATCH = frozenset({"engine.per_device_train_batch_size", "engine.gradient_accumulation_steps"})
_GENERATED = re.compile(r"(train_\d{3,}\.yaml|eval_\d{3,}\.py)")


@dataclass(frozen=True)
class Generated:
    """What was written."""

    trainings: int
    evaluations: int
    folder: Path


def generate(study: Study, *, force: bool = False) -> Generated:
    """Write all files of a study.

    Args:
        study: checked.
        force: replace what was generated before.

    Raises:
        RequestError: there are generated files already, and `force` was not given.
        SetupError: the place cannot be written to.
    """
    folder = study.folder
    if folder.mapping.exists() and not force:
        raise RequestError(
            "the configurations of this study have been generated already",
            where=str(folder.mapping),
            way_out="--force writes them anew",
        )
    try:
        for place in (folder.configs, folder.scripts):
            place.mkdir(parents=True, exist_ok=True)
        _remove_generated(folder.configs)
        evaluated = bool(evaluation_specs(study))
        trainings = _write_configs(study, evaluated)
        for name, text in scripts.batch_scripts(study).items():
            write_atomically(folder.scripts / name, text)
            (folder.scripts / name).chmod(0o755)
        write_mapping(study, folder.mapping)
    except OSError as error:
        raise explain_os_error(error, folder.configs) from error
    return Generated(trainings, trainings if evaluated else 0, folder.configs)


def _remove_generated(configs: Path) -> None:
    for path in configs.iterdir():
        if _GENERATED.fullmatch(path.name):
            path.unlink()


def _write_configs(study: Study, evaluated: bool) -> int:
    text_of = training_texts(study)
    script_of = eval_script(study) if evaluated else None
    number = -1
    for number, point in enumerate(study.points()):
        study.folder.train_config(number).write_text(text_of(point), encoding="utf-8")
        if script_of is not None:
            study.folder.eval_script(number).write_text(script_of(point), encoding="utf-8")
    return number + 1


def training_texts(study: Study) -> Callable[[Point], str]:
    """A function that gives the LLaMA-Factory YAML of a run.

    What a value means for LLaMA-Factory is asked of its worker once for each different structure (model, dataset,
    batch, devices); settings of the library itself are put in as they are.
    """
    direct = {key for key in study.design.keys if _is_direct(study, key)} | {SEED}
    structures: dict[str, str] = {}
    lines: dict[tuple[str, str], str] = {}

    def text_of(point: Point) -> str:
        structural = {key: value for key, value in point.params.items() if key not in direct}
        key = digest(structural)
        if key not in structures:
            structures[key] = _structure(study, point, direct)
        own = (_line(lines, study, name, value) for name, value in point.params.items() if name in direct)
        output = f"output_dir: {_scalar(str(study.folder.path / 'by_hand' / f'run_{point.id}'))}\n"
        return f"{scripts.config_head(study, point)}{structures[key]}{output}{''.join(own)}"

    return text_of


def _is_direct(study: Study, key: str) -> bool:
    """Whether a variable is a setting of LLaMA-Factory that nothing else is computed from."""
    field = study.fields[key]
    return field == SEED or (field.startswith("engine.") and field.count(".") == 1 and field not in _BATCH)


def _structure(study: Study, point: Point, direct: set[str]) -> str:
    resolved = study.resolve(point)
    values = dict(library_arguments(study.workspace, resolved)["arguments"])
    values["dataset_dir"] = str(prepared_data(study, resolved.spec.model_dump(mode="json")))
    for name in (*(study.fields[key].removeprefix("engine.") for key in direct & set(point.params) - {SEED}),):
        values.pop(name, None)
    values.pop("output_dir", None)
    if SEED in point.params:
        values.pop(SEED, None)
    return _yaml(values)


def _line(lines: dict[tuple[str, str], str], study: Study, name: str, value: Any) -> str:
    key = (name, repr(value))
    if key not in lines:
        field = SEED if name == SEED else study.fields[name].removeprefix("engine.")
        lines[key] = _yaml({field: value})
    return lines[key]


def _yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1_000_000)


def _scalar(value: Any) -> str:
    """A value as YAML writes it in one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1_000_000)
    return text.removesuffix("\n").removesuffix("\n...")


def write_mapping(study: Study, path: Path) -> None:
    """Write run_mapping.yaml, run by run, under a temporary name until it is whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.writelines(mapping_lines(study))
    temporary.replace(path)


def mapping_lines(study: Study) -> Iterator[str]:
    """The text of run_mapping.yaml in pieces."""
    yield f"experiment_name: {_scalar(study.name)}\n"
    yield f"generated_at: {_scalar(now())}\n"
    yield f"experiment_sha256: '{experiment_hash(study)}'\n"
    yield f"total_runs: {len(study)}\n"
    yield "runs:\n"
    yield from mapping_rows(study.points())


def mapping_rows(points: Iterable[Point]) -> Iterator[str]:
    """One line per run. Each value is turned into YAML once, however often it comes."""
    known: dict[Any, str] = {}
    for point in points:
        number = f"{point.number:03d}"
        parts = []
        for key, value in point.params.items():
            try:
                text = known[key, value, type(value)]
            except KeyError:
                text = known[key, value, type(value)] = _part(key, value)
            except TypeError:  # a list or mapping, which is no key
                text = _part(key, value)
            parts.append(text)
        yield f"- {{id: '{number}', params: {{{', '.join(parts)}}}}}\n"


def _part(key: str, value: Any) -> str:
    return f"{_scalar(key)}: {_scalar(value)}"


def experiment_hash(study: Study) -> str:
    """A hash of everything in the experiment that decides what is run."""
    experiment = study.experiment.model_dump(
        mode="json", include={"base", "variables", "controls", "seeds", "evaluation"}
    )
    return digest([experiment, study.base])


def generated_hash(study: Study) -> str | None:
    """The hash of the experiment that was generated from; None where nothing was generated."""
    try:
        with open(study.folder.mapping, encoding="utf-8") as file:
            head = [line for _, line in zip(range(5), file, strict=False)]
    except FileNotFoundError:
        return None
    return next((line.split()[1].strip("'") for line in head if line.startswith("experiment_sha256:")), "")


def ensure_generated(study: Study) -> Generated | None:
    """Generate what is not there yet.

    Raises:
        RequestError: the experiment was changed since its files were generated.
    """
    found = generated_hash(study)
    if found is None:
        return generate(study)
    if found != experiment_hash(study):
        raise RequestError(
            "the experiment was changed since its configurations were generated",
            where=str(study.file),
            way_out=f"`yard study generate --force {study.file}`; runs that stay the same are not run again",
        )
    return None


def params_text(params: Values) -> str:
    """`lora_rank=8, seed=1`, with the library's prefix left out."""
    return ", ".join(f"{key.removeprefix('engine.')}={value}" for key, value in params.items())
