"""Whether vLLM tokenizes a model as its training did, and with which tokenizer it is served where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.core.chat import in_template
from tuneyard.core.documents import validate
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import read_json, write_json
from tuneyard.core.fingerprint import CONVERSATION, TEXT, Fingerprint, first_difference
from tuneyard.core.references import ModelRef
from tuneyard.core.run_folder import RunFolder
from tuneyard.core.specs import GenerateSpec, ServeSpec

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


PLAIN = "PreTrainedTokenizerFast"
"""As files name the class that reads tokenizer.json as it stands; in memory it is called TokenizersBackend."""


@dataclass(frozen=True)
class Choice:
    """The tokenizer to serve with."""

    tokenizer: str | None
    """Folder of the tokenizer; None for the one that comes with the model."""
    chat_template: bool = True
    """Whether it has a chat template."""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def word(self) -> dict[str, Any]:
        """What the process that serves tells of it to the worker."""
        return {"chat": self.chat_template, "notes": self.notes, "warnings": self.warnings}


@dataclass(frozen=True)
class Training:
    """What a training left of how it encoded."""

    what: str
    """The model or adapter it made, as requests and people name it."""
    fingerprint: Fingerprint
    tokenizer: str
    """Folder with the tokenizer that it saved."""


def choose(spec: ServeSpec | GenerateSpec, folder: RunFolder) -> Choice:
    """A tokenizer whose ids are those of every training behind the model and its adapters.

    Looked at in this order: the model's own, the one that a training saved with its adapter, and either read by the
    class that training read it by, whatever this transformers would choose for this kind of model.

    Args:
        spec: resolved.
        folder: of the run; a tokenizer that is read as it was saved is written below its artifacts.

    Raises:
        RequestError: none agrees with all, with the first differing text; or there is no tokenizer.
        SetupError: the tokenizer is on the hub, which cannot be reached.
    """
    assert spec.model is not None
    left = list(trainings(spec, folder.path.parent))
    own = fingerprint_of(spec.model.name_or_path, spec.model.revision, _trust(spec))
    found: Fingerprint | None = own
    if not left:
        return _told(Choice(None), own)
    for tokenizer, said in _candidates(spec.model, left, folder):
        found = own if tokenizer is None else fingerprint_of(tokenizer, None, _trust(spec))
        if all(_difference(training, found) is None for training in left):
            return _told(Choice(tokenizer, notes=[said] if said else []), found)
    return _mismatch(spec, left, own)


def _mismatch(spec: ServeSpec | GenerateSpec, trainings: list[Training], own: Fingerprint) -> Choice:
    first, difference = next((t, d) for t in trainings if (d := _difference(t, own)) is not None)
    if not spec.allow_token_mismatch:
        raise RequestError(
            f"vLLM would tokenize {first.what} differently from the run that trained it: {difference}",
            where="model" if first.what == "the model" else f"adapters.{first.what}",
            way_out="serve it alone where adapters disagree; allow_token_mismatch=true serves it all the same",
        )
    return _told(Choice(None, warnings=[f"token mismatch allowed for {first.what}: {difference}"]), own)


def _told(choice: Choice, found: Fingerprint) -> Choice:
    if found.conversation_ids is not None:
        return choice
    warning = "the model has no chat template: /v1/chat/completions refuses, /v1/completions answers"
    return Choice(choice.tokenizer, False, choice.notes, [*choice.warnings, warning])


def _trust(spec: ServeSpec | GenerateSpec) -> bool:
    return bool(spec.engine.get("trust_remote_code"))


def trainings(spec: ServeSpec | GenerateSpec, runs: Path) -> Iterator[Training]:
    """What every run behind the model and its adapters left; nothing where one left none."""
    assert spec.model is not None
    named = {"the model": spec.model, **spec.adapters}
    for what, model in named.items():
        folder = model.adapter or model.name_or_path
        run = _run_of(model.run, Path(folder), runs)
        if run is not None and run.fingerprint.is_file():
            yield Training(what, validate(Fingerprint, read_json(run.fingerprint), str(run.fingerprint)), folder)


def _run_of(run_id: str | None, folder: Path, runs: Path) -> RunFolder | None:
    if run_id is None:
        return None
    places = [parent for parent in folder.parents if parent.name == run_id] + [runs / run_id]
    return next((RunFolder(place) for place in places if (place / "spec.json").is_file()), None)


def _candidates(
    model: ModelRef, trainings: list[Training], folder: RunFolder
) -> Iterator[tuple[str | None, str | None]]:
    """Folders of tokenizers, and what is to be said of each; None is the model's own."""
    yield None, None
    saved = [t for t in trainings if (Path(t.tokenizer) / "tokenizer_config.json").is_file()]
    for training in saved:
        if training.tokenizer != model.name_or_path:
            yield training.tokenizer, f"the tokenizer is the one that was saved with {training.what}"
    for training in saved:
        plain = as_trained(training, folder.artifacts / "tokenizer")
        if plain is not None:
            yield str(plain), f"the tokenizer is read as the training of {training.what} read it"


def as_trained(training: Training, folder: Path) -> Path | None:
    """A copy of a tokenizer that is read by the class that training read it by; None without a tokenizer.json.

    transformers may overrule the class that a tokenizer names by the model_type of the config.json beside it, and which
    it overrules changes from version to version. The copy has no config.json, and names training's class.
    """
    source = Path(training.tokenizer)
    if not (source / "tokenizer.json").is_file():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())
    config = read_json(source / "tokenizer_config.json")
    trained = training.fingerprint.tokenizer_class
    named = PLAIN if trained == "TokenizersBackend" else trained
    write_json(folder / "tokenizer_config.json", {**config, "tokenizer_class": named})
    return folder


def _difference(training: Training, found: Fingerprint) -> str | None:
    """Where the ids first differ; the conversation counts only if training put its examples into the template."""
    reference = training.fingerprint
    if reference.chat and reference.conversation_ids and found.conversation_ids is None:
        return "it was trained in a chat template, and this tokenizer has none"
    return first_difference(reference, found if reference.chat else found.model_copy(update={"conversation_ids": None}))


def fingerprint_of(tokenizer: str, revision: str | None = None, trust_remote_code: bool = False) -> Fingerprint:
    """The ids of the fixed text and conversation as vLLM encodes them; arguments and errors are those of `load`."""
    return _fingerprint(load(tokenizer, revision, trust_remote_code))


def load(tokenizer: str, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The tokenizer as vLLM reads it; one without a chat template gets that of the model's processor, if it has one.

    Args:
        tokenizer: folder of a model or tokenizer, or hub id.
        revision: commit on the hub.
        trust_remote_code: run the tokenizer's own code.

    Raises:
        RequestError, SetupError: there is no tokenizer, or it cannot be had.
    """
    from vllm.tokenizers import get_tokenizer

    folder = Path(tokenizer).is_dir()
    try:
        loaded = get_tokenizer(tokenizer, revision=None if folder else revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise _no_tokenizer(tokenizer, folder, error) from error
    _take_template_of_processor(loaded, tokenizer, None if folder else revision)
    return loaded


def _take_template_of_processor(tokenizer: Any, name: str, revision: str | None) -> None:
    """Models that see images may have a chat template for their processor alone, which vLLM's server takes too."""
    from transformers import ProcessorMixin

    if getattr(tokenizer, "chat_template", "") is not None:  # Mistral's own tokenizers have none to set
        return
    with suppress(OSError):  # nothing more can be had from the hub
        processor, _ = ProcessorMixin.get_processor_dict(name, revision=revision)
        tokenizer.chat_template = processor.get("chat_template")


def _no_tokenizer(tokenizer: str, folder: bool, error: Exception) -> RequestError | SetupError:
    reason = str(error).splitlines()[0]
    if folder:
        return RequestError(
            f"has no tokenizer that vLLM can load: {reason}",
            where=tokenizer,
            way_out="save the tokenizer beside the weights",
        )
    return SetupError(
        f"the tokenizer cannot be had from the hub or its cache: {reason}",
        where=tokenizer,
        way_out="connect to the hub, or give the folder of a downloaded copy as `model`",
    )


def _fingerprint(tokenizer: Any) -> Fingerprint:
    from importlib.metadata import version

    ids = [int(i) for i in tokenizer.encode(TEXT, add_special_tokens=False)]
    return Fingerprint(
        worker="serve",
        tokenizer_class=type(tokenizer).__name__.removeprefix("Cached"),
        vocabulary_size=len(tokenizer),
        text_ids=ids,
        conversation_ids=_conversation_ids(tokenizer),
        text_tokens=[str(token) for token in tokenizer.convert_ids_to_tokens(ids)],
        versions={name: version(name) for name in ("transformers", "tokenizers")},
    )


def _conversation_ids(tokenizer: Any) -> list[int] | None:
    """Ids of the fixed conversation in the chat template; None without a template, or with one that refuses it.

    vLLM's chat endpoint adds no special tokens to what the template gives.
    """
    from jinja2 import TemplateError

    if not getattr(tokenizer, "chat_template", None):
        return None
    try:
        text = in_template(tokenizer, CONVERSATION)
    except (TemplateError, TypeError):
        return None
    return [int(i) for i in tokenizer.encode(text, add_special_tokens=False)]
