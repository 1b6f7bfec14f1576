"""What lm-eval and datasets raise while a task is loaded, said so that a person knows what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from tuneyard.core.errors import RequestError, SetupError, TuneyardError

OFFLINE = ("Couldn't reach", "OfflineModeIsEnabled", "Cannot reach", "outgoing traffic has been disabled")
"""What the messages of a dataset that is on the hub say when the hub is not to be had."""


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Say of whatever lm-eval or datasets raise while a task is loaded what it means for the one who asked."""
    try:
        yield
    except TuneyardError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RequestError(f"not valid YAML: {error.problem}", where=where + line) from error
    except ImportError as error:
        way_out = f"./pixiw install -e eval, then `uv pip install {error.name}` there" if error.name else None
        raise SetupError(f"the task needs what is not installed: {error}", where=where, way_out=way_out) from error
    except Exception as error:  # a task is anybody's YAML, Jinja and Python: whatever it raises is told, with its type
        raise _explain(error, where) from error


def _explain(error: Exception, where: str) -> TuneyardError:
    text = str(error).strip() or repr(error)
    if any(sign in text for sign in OFFLINE):
        return SetupError(
            f"the dataset is on the hub, which cannot be reached, and not in its cache: {text.splitlines()[0]}",
            where=where,
            way_out="connect to the hub and run again; or `hf download --repo-type dataset` it where the hub can be "
            "reached and copy the cache (HF_HOME); or write a task file that includes this one and names local files "
            "(`dataset_path: json`, `dataset_kwargs: {data_files: {test: FILE}}`)",
        )
    if "Dataset scripts are no longer supported" in text:
        return RequestError(
            f"its dataset needs a loading script, which the installed `datasets` refuses: {text.splitlines()[0]}",
            where=where,
            way_out="write a task file that includes this one and names the data's files (`dataset_path: json`)",
        )
    return RequestError(f"the task cannot be loaded: {type(error).__name__}: {text}", where=where)
