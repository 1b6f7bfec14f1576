"""The tokens of one model in every environment: the worker's own fingerprint, else what transformers gives there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.control.environments import ask_worker, worker_environment, worker_python
from tuneyard.control.resolving.hub import OFFLINE_VARIABLE, hub_of
from tuneyard.control.resolving.models import resolve_model
from tuneyard.control.workspace import Workspace
from tuneyard.core.errors import RunError, TuneyardError
from tuneyard.core.files import read_json
from tuneyard.core.fingerprint import CONVERSATION, TEXT, Fingerprint, first_difference
from tuneyard.core.references import ModelRef, kind_of
from tuneyard.core.run_folder import RunFolder
from tuneyard.doctor import adapters
from tuneyard.doctor.findings import Finding
from tuneyard.doctor.inventory import Inventory
from tuneyard.doctor.probing import probe

FIRST = ("train", "eval")
"""Who is asked first: what training does is what everyone else is compared with."""


@dataclass
class Tokens:
    """How environments encode a model."""

    model: str
    counts: dict[str, int] = field(default_factory=dict)
    """Environment -> tokens of the fixed text; those that could not say are not among them."""
    findings: list[Finding] = field(default_factory=list)


def compare(
    workspace: Workspace,
    reference: str,
    inventories: Mapping[str, Inventory],
    *,
    folder: Path,
    tell: Callable[[str], None] = lambda text: None,
    limit: float = 300.0,
) -> Tokens:
    """Encode a fixed text and a fixed conversation with a model's tokenizer in every environment that can.

    Args:
        workspace: whose environments and runs.
        reference: folder, hub id, `run:ID` or `builtin:tiny`.
        inventories: of the environments that are asked.
        folder: what a relative path is meant from.
        tell: called with what is being done.
        limit: seconds for each environment.

    Raises:
        RequestError: there is no such model.
        SetupError: the hub is needed and cannot be reached.
    """
    hub = hub_of(workspace)
    text = str((folder / reference).absolute()) if kind_of(reference) == "folder" else reference
    model = resolve_model(ModelRef(reference=text), workspace.runs, hub, "--model")
    able = {name for name, found in inventories.items() if "transformers" in found.versions or found.has_worker}
    names = [*(name for name in FIRST if name in able), *sorted(able - {*FIRST})]
    result = Tokens(reference)
    tell(f"tokens of {reference} in {', '.join(names) or 'no environment'}")
    online = model.path is None and hub.reachable
    question = Question(workspace, model, {} if online else {OFFLINE_VARIABLE: "1"}, limit)
    with ThreadPoolExecutor(max_workers=2) as pool:
        answers = dict(zip(names, pool.map(lambda name: question.ask(name, inventories[name]), names), strict=True))
    result.findings += [each for each in answers.values() if isinstance(each, Finding)]
    made = {name: each for name, each in answers.items() if isinstance(each, Fingerprint)}
    left = _left_by_training(workspace, model)
    result.counts = {name: len(each.text_ids) for name, each in made.items()}
    result.findings += _differences({**({"its training run": left} if left else {}), **made})
    result.findings += _adapter(model, inventories)
    return result


@dataclass(frozen=True)
class Question:
    """What each environment is asked."""

    workspace: Workspace
    model: ModelRef
    variables: Mapping[str, str]
    limit: float

    def ask(self, name: str, found: Inventory) -> Fingerprint | Finding:
        """The fingerprint that an environment makes, or why it makes none."""
        try:
            told = self._of_worker(name) if found.has_worker else self._of_transformers(name)
            return Fingerprint.model_validate({**told, "worker": name})
        except TuneyardError as error:
            message = f"the model's tokenizer cannot be used in {name}: {error.message.splitlines()[0]}"
            evidence = error.where or error.message[:500]
            return Finding("fingerprint-fails", "broken", message, name, evidence, error.way_out)

    def _of_worker(self, name: str) -> dict[str, Any]:
        model = self.model.model_dump_json()
        return ask_worker(self.workspace, name, "fingerprint", model, timeout=self.limit, extra=self.variables)

    def _of_transformers(self, name: str) -> dict[str, Any]:
        """As transformers alone encodes, in an environment that has no worker of ours."""
        own = self.model.adapter and (Path(self.model.adapter) / "tokenizer_config.json").is_file()
        asked = {
            "model": self.model.adapter if own else self.model.name_or_path,
            "revision": None if own or self.model.path else self.model.revision,
            "text": TEXT,
            "conversation": CONVERSATION,
        }
        probed = probe(
            worker_python(self.workspace, name),
            "tokens.py",
            json.dumps(asked),
            variables=worker_environment(self.workspace, name, self.variables),
            limit=self.limit,
            cwd=self.workspace.path,
        )
        told = probed.reports[-1] if probed.reports else {"error": f"transformers {probed.refused or probed.ending()}"}
        if "error" in told:
            raise RunError(told["error"], where=probed.log[-500:] or None)
        return told


def _left_by_training(workspace: Workspace, model: ModelRef) -> Fingerprint | None:
    """The fingerprint that the model's training left, where a run made it."""
    if model.run is None:
        return None
    file = RunFolder(workspace.runs / model.run).fingerprint
    return Fingerprint.model_validate(read_json(file)) if file.is_file() else None


def _differences(made: Mapping[str, Fingerprint]) -> Iterator[Finding]:
    """Each against the first: what training did, where that is known."""
    if not made:
        return
    (first, reference), *others = made.items()
    for name, other in others:
        difference = first_difference(reference, other)
        if difference is not None:
            yield _difference(first, name, reference, other, difference)
        elif (reference.conversation_ids is None) != (other.conversation_ids is None):
            message = f"only one of {first} and {name} has a chat template for the model"
            yield Finding("chat-template-missing", "note", message, name)


def _difference(first: str, name: str, reference: Fingerprint, other: Fingerprint, difference: str) -> Finding:
    if reference.text_ids == other.text_ids:
        id, message = "chat-templates-differ", f"{first} and {name} put the same conversation into other tokens"
    else:
        id, message = "tokens-differ", f"{first} and {name} split the same text into other tokens"
    return Finding(
        id,
        "broken",
        message,
        name,
        difference,
        f"install in {name} the versions of {first}: "
        + ", ".join(f"{library}=={version}" for library, version in reference.versions.items()),
    )


def _adapter(model: ModelRef, inventories: Mapping[str, Inventory]) -> Iterator[Finding]:
    adapter = adapters.read(Path(model.adapter)) if model.adapter else None
    for name, found in inventories.items():
        if adapter is not None and "peft" in found.versions:
            yield from adapters.unread(name, found, [adapter])
