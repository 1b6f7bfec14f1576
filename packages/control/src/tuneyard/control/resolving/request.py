"""What somebody asks for: a spec from a file, from Python values or from nothing at all, and the run made of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneyard.control.resolving.anchors import existing, standing_folder
from tuneyard.control.resolving.code_refs import copy_code
from tuneyard.control.resolving.overrides import Override
from tuneyard.control.resolving.resolve import Resolved, resolve
from tuneyard.control.workspace import Workspace
from tuneyard.core.documents import parse_yaml, read_yaml
from tuneyard.core.errors import RequestError, SetupError
from tuneyard.core.files import explain_os_error, write_atomically, write_json
from tuneyard.core.masking import mask_secrets
from tuneyard.core.run_folder import RunFolder, create_run
from tuneyard.core.specs import Spec


@dataclass(frozen=True)
class Request:
    """A spec as it was asked for."""

    given: dict[str, Any]
    """The mapping, nothing resolved; empty for overrides alone."""
    base: Path
    """What relative paths in it are meant from."""
    where: str
    """The file, for messages."""
    text: str = ""
    """The file's own text."""
    overrides: list[Override] = field(default_factory=list)
    """Changes to it."""
    notes: list[str] = field(default_factory=list)
    """What a person should know already."""

    def resolve(self, workspace: Workspace, kind: str | None = None) -> Resolved:
        """The request with nothing left to decide; see `resolve.resolve` for what is raised."""
        resolved = resolve(workspace, self.given, self.base, self.overrides, kind, where=self.where)
        return Resolved(resolved.spec, [*self.notes, *resolved.notes], resolved.variables)

    def as_given(self) -> str:
        """The document for spec.yaml: the text of the file, and what was changed on the command line."""
        import yaml

        text = self.text
        if not text and self.given:
            text = yaml.safe_dump(self.given, sort_keys=False, allow_unicode=True)
        origin = f"# {self.where!r}\n" if self.text else ""
        changes = "".join(f"# {o.name}={o.value!r}\n" for o in self.overrides)
        return mask_secrets(origin + text.rstrip("\n") + ("\n" if text else "") + changes)


def read_request(spec: str | Path, overrides: Sequence[Override] = ()) -> Request:
    """The request in a file. A relative path is meant from the folder the user stands in.

    Raises:
        RequestError: no such file, or it is not YAML or no mapping.
    """
    path = existing(str(spec), [standing_folder()]) or standing_folder() / spec
    given = read_yaml(path)
    if not isinstance(given, dict):
        raise RequestError("a spec is a mapping of keys to values", where=str(path))
    text = path.read_text(encoding="utf-8-sig")
    return Request(given, path.parent, str(path), text, list(overrides))


def request_from_text(text: str, base: Path) -> Request:
    """The request in a YAML text, relative paths meant from `base`; raises RequestError as `read_request` does."""
    given = parse_yaml(text, "spec")
    if not isinstance(given, dict):
        raise RequestError("a spec is a mapping of keys to values", where="spec")
    return Request(given, base, "spec", text)


def create(workspace: Workspace, spec: Spec, given: str) -> RunFolder:
    """Make the folder of a run: spec.yaml, copies of the user's code, and spec.json last. Not started yet.

    Args:
        workspace: where its runs are.
        spec: resolved.
        given: the document as it was given, for people.

    Raises:
        SetupError: the folder cannot be written; nothing of it is left.
    """
    try:
        run = create_run(workspace.runs, spec.kind, spec.name or "run")
    except (FileExistsError, NotADirectoryError) as error:
        way_out = "move it away, or set another `runs` folder in tuneyard.yaml"
        raise SetupError("is not a folder", where=str(workspace.runs), way_out=way_out) from error
    except OSError as error:
        raise explain_os_error(error, workspace.runs) from error
    try:
        write_atomically(run.given_spec, given)
        copy_code(spec.code, run.code)
        write_json(run.spec, spec.model_dump(mode="json"))
    except BaseException as error:  # Ctrl-C too: half a run is left to nobody
        shutil.rmtree(run.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise explain_os_error(error, run.path) from error
        raise
    return run
