"""The verb `check`: whether a callback can be used, and what LLaMA-Factory makes of a dataset's first rows.

check FILE.py NAME     imports the file and looks the callback up
check RUN/spec.json    encodes the first row of every dataset in RUN/data with the spec's model and template
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError
from tuneyard.core.files import read_json
from tuneyard.core.references import CodeRef, load_code
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import TrainSpec, parse_spec
from tuneyard.train.arguments import Data, library_arguments
from tuneyard.train.explain import explained_arguments, explained_training
from tuneyard.train.library import WILDCARDS, aliased, imported
from tuneyard.train.schema import argument_classes, keys_of


def check(file: Path, name: str | None) -> dict[str, Any]:
    """Look at a file as training would use it.

    Args:
        file: a Python file with a callback, or the spec.json of a run whose data is prepared.
        name: the function or class in a Python file.

    Raises:
        RequestError: it cannot be used.
    """
    if file.suffix == ".py":
        return _check_callback(file, name)
    if file.name == "spec.json":
        return _check_data(RunFolder(file.parent))
    raise RequestError(
        "only callbacks (FILE.py NAME) and prepared runs (RUN/spec.json) can be checked here",
        where=str(file),
        way_out="`yard run SPEC --dry-run` checks everything else that a spec names",
    )


def _check_callback(file: Path, name: str | None) -> dict[str, Any]:
    if name is None:
        raise RequestError("which function?", where=str(file), way_out=f"{file}:NAME")
    with imported():
        from transformers import TrainerCallback
    found = load_code(CodeRef(path=str(file), name=name))
    if not callable(found):
        raise RequestError(
            f"`{name}` is a {type(found).__name__}",
            where=str(file),
            way_out="name a function that returns a transformers.TrainerCallback, or a class that is one",
        )
    if isinstance(found, type) and not issubclass(found, TrainerCallback):
        raise RequestError(f"class `{name}` is no transformers.TrainerCallback", where=str(file))
    return {"file": str(file), "name": name, "kind": "class" if isinstance(found, type) else "function"}


def _check_data(run: RunFolder) -> dict[str, Any]:
    spec = parse_spec(read_json(run.spec), str(run.spec))
    if not isinstance(spec, TrainSpec):
        raise RequestError("is no spec of kind train", where=str(run.spec))
    data = Data.from_manifest(run.data, read_json(run.data_manifest))
    with tempfile.TemporaryDirectory() as scratch, aliased(data.folder, WILDCARDS) as folder:
        os.environ["HF_DATASETS_CACHE"] = scratch
        data = Data(folder, data.train, data.eval)
        return {"datasets": [_first_row(spec, data, name, scratch) for name in [*data.train, *data.eval]]}


def _first_row(spec: TrainSpec, data: Data, name: str, scratch: str) -> dict[str, Any]:
    """The first row of one dataset as LLaMA-Factory encodes it: columns of ids, and their text."""
    with imported():
        from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
        from llamafactory.hparams import get_train_args
        from llamafactory.model import load_tokenizer
    values = library_arguments(spec, Data(data.folder, [name]), scratch, [])
    values |= {"max_samples": 1, "val_size": 0.0, "eval_strategy": "no", "streaming": False, "packing": False}
    values.pop("early_stopping_steps", None)
    with explained_arguments(spec, lambda: keys_of(*argument_classes())):
        model, library_data, training, finetuning, _ = get_train_args(values)
    with explained_training(spec):
        tokenizer = load_tokenizer(model)
        template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], library_data)
        stage = "rm" if finetuning.stage == "dpo" else finetuning.stage
        made = get_dataset(template, model, library_data, training, stage=stage, **tokenizer)
    rows: Any = made["train_dataset"]
    row = next(iter(rows))
    ids = {column: list(value) for column, value in row.items() if column.endswith(("input_ids", "labels"))}
    texts = {column: tokenizer["tokenizer"].decode([i for i in value if i >= 0]) for column, value in ids.items()}
    return {"name": name, "ids": ids, "text": texts}
