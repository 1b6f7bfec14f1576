"""What LLaMA-Factory raises, told as what is wrong with the request or the environment, with the way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError

from tuneyard.core.errors import RequestError, SetupError, TuneyardError, unknown
from tuneyard.core.specs import TrainSpec

INSTALL = (
    "add {} to [feature.train.pypi-dependencies] in pixi.toml and run `./pixiw install -e train`; or do without it"
)

_NOT_USED = re.compile(r"Some keys are not used by the HfArgumentParser: \[(.*)\]")
_MISSING = re.compile(r"No module named '([\w.]+)'|requires? (?:the )?`?([\w-]+)`? to be installed|The '([\w-]+)")

Explain = Callable[[re.Match[str], TrainSpec], TuneyardError]


def _adapter(match: re.Match[str], spec: TrainSpec) -> TuneyardError:
    base = spec.model.reference
    return RequestError(
        f"the adapter does not fit {base}: {match.group(0)}",
        where="adapter",
        way_out="name as `model` the base that the adapter was trained on: its adapter_config.json says which",
    )


def _target(match: re.Match[str], spec: TrainSpec) -> TuneyardError:
    return RequestError(
        f"the model has no modules {match.group(1)}", where="engine.lora_target", way_out="engine.lora_target=all"
    )


def _weights(match: re.Match[str], spec: TrainSpec) -> TuneyardError:
    return RequestError(
        f"the weights cannot be read: {match.group(0)}",
        where=spec.model.name_or_path,
        way_out="write or download the model again",
    )


def _form(match: re.Match[str], spec: TrainSpec) -> TuneyardError:
    stage = spec.engine.get("stage", "sft")
    form = "pairs of a chosen and a rejected answer" if stage in ("dpo", "rm") else "single answers, not pairs"
    return RequestError(
        f"stage {stage} needs {form}",
        where="dataset",
        way_out="set `dataset: {source: …, format: …}` and `engine.stage` so that they go together",
    )


def _no_example(match: re.Match[str], spec: TrainSpec) -> TuneyardError:
    return RequestError(
        "no example of the dataset can be used: LLaMA-Factory drops those without a prompt or an answer",
        where="dataset",
        way_out="stderr.log shows some that were dropped; look at the first rows of data/train.jsonl",
    )


def _tokenizer(match: re.Match[str], spec: TrainSpec) -> TuneyardError:
    return RequestError(
        "its tokenizer cannot be loaded", where=spec.model.name_or_path, way_out="save the tokenizer with the weights"
    )


def _disk(match: re.Match[str], spec: TrainSpec) -> TuneyardError:
    return SetupError(
        f"the disk of the run folder or of the temporary files is full: {match.group(0)}",
        way_out="`df -h` shows which; engine.save_total_limit=1 keeps one checkpoint, `yard rm RUN` frees old runs",
    )


_KNOWN: tuple[tuple[re.Pattern[str], Explain], ...] = (
    (re.compile(r"No space left on device|Disk quota exceeded|PytorchStreamWriter failed writing file"), _disk),
    (re.compile(r"size mismatch for base_model\S*"), _adapter),
    (re.compile(r"Target modules (.{1,200}?) not found in the base model"), _target),
    (
        re.compile(r"Error while deserializing header|HeaderTooLarge|MetadataIncompleteBuffer|InvalidHeader\w*"),
        _weights,
    ),
    (re.compile(r"dataset is not applicable in the current training stage"), _form),
    (re.compile(r"Cannot find (?:valid|sufficient) samples"), _no_example),
    (re.compile(r"^Failed to load tokenizer"), _tokenizer),
)


@contextmanager
def explained_arguments(spec: TrainSpec, known: Callable[[], set[str]]) -> Iterator[None]:
    """LLaMA-Factory reads its arguments in this block: what it refuses is a wrong request, or a missing package.

    Args:
        spec: the spec that the arguments come from.
        known: returns all keys that LLaMA-Factory knows, when one is to be suggested.

    Raises:
        RequestError, SetupError: in place of what LLaMA-Factory raised.
    """
    try:
        yield
    except (ImportError, PackageNotFoundError) as error:
        raise missing_package(error) from error
    except (ValueError, TypeError, AssertionError, FileNotFoundError) as error:
        raise _refused(error, known) from error


def _refused(error: Exception, known: Callable[[], set[str]]) -> TuneyardError:
    match = _NOT_USED.search(str(error))
    if match:
        return unknown("key", match.group(1).split(",")[0].strip(" '\""), known(), where="engine")
    return RequestError(
        f"LLaMA-Factory refuses its arguments: {str(error).strip() or type(error).__name__}",
        where="engine",
        way_out="docs/training.md tells what its keys are; `yard run SPEC --dry-run` prints all arguments",
    )


@contextmanager
def explained_training(spec: TrainSpec) -> Iterator[None]:
    """LLaMA-Factory trains in this block: what is known to come from the request or the environment says so.

    Raises:
        RequestError, SetupError: in place of an error that is recognised; any other stays as it is.
    """
    try:
        yield
    except TuneyardError:
        raise
    except (ImportError, PackageNotFoundError) as error:
        raise missing_package(error) from error
    except Exception as error:
        told = _recognised(error, spec)
        if told is None:
            raise
        raise told from error


def _recognised(error: BaseException | None, spec: TrainSpec) -> TuneyardError | None:
    """The explanation of an error or of what caused it; the cause tells more where both are known."""
    if error is None:
        return None
    told = _recognised(error.__cause__, spec)
    if told is not None:
        return told
    for pattern, explain in _KNOWN:
        if match := pattern.search(str(error)):
            return explain(match, spec)
    if isinstance(error, RuntimeError) and "to be installed" in str(error):
        return missing_package(error)
    return None


def missing_package(error: Exception) -> SetupError:
    """The set-up error for a package that an engine key asks for."""
    match = _MISSING.search(str(error))
    name = next((group for group in match.groups() if group), None) if match else getattr(error, "name", None)
    return SetupError(
        f"a package that the spec asks for is missing: {str(error).splitlines()[0]}",
        where="engine",
        way_out=INSTALL.format(name or "it"),
    )
