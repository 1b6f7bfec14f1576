"""Datasets of the Hugging Face hub: which files a split consists of, and the files themselves, at one commit.

Files come through the hub's own cache, so that a second use needs no network, and HF_HUB_OFFLINE, HF_HOME, HF_TOKEN
and HF_ENDPOINT mean what they mean everywhere else. Parquet, JSON and CSV are read; loading scripts are never run, the
Parquet files that the hub makes of such datasets are read in their place.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.core.errors import RequestError, SetupError, TuneyardError, unknown
from tuneyard.core.files import explain_os_error, write_atomically
from tuneyard.core.patience import within
from tuneyard.data.folders import NO_DATA, of_split
from tuneyard.data.reading import is_data_file

ANSWER_SECONDS = 8.0
"""How long the hub may take to say what a repository holds."""

CONVERTED = "refs/convert/parquet"
"""The branch on which the hub keeps a dataset as Parquet."""


@dataclass(frozen=True)
class HubFiles:
    """The files of one split, on this machine."""

    files: list[Path]
    commit: str


@dataclass(frozen=True)
class _Repository:
    """What a repository holds at a commit."""

    name: str
    commit: str
    files: list[str]
    online: bool

    def download(self, file: str) -> Path:
        from huggingface_hub import hf_hub_download

        return Path(
            _translated(
                self.name,
                lambda: hf_hub_download(
                    self.name, file, repo_type="dataset", revision=self.commit, local_files_only=not self.online
                ),
            )
        )


def fetch(name: str, config: str | None, split: str, revision: str | None) -> HubFiles:
    """The files of a split of a hub dataset.

    Args:
        name: `owner/name`.
        config: its configuration; None: the default one.
        split: its split.
        revision: branch, tag or commit; None: main.

    Raises:
        RequestError: no such dataset, configuration or split, no data files, or no access to them.
        SetupError: the hub cannot be reached and its cache does not hold the dataset; or its client is missing.
    """
    repository = _look(name, revision)
    chosen = _choose(repository, config, split)
    if not chosen:
        repository, revision = _converted(name), CONVERTED
        chosen = _choose(repository, config, split)
    files = [repository.download(file) for file in chosen]
    if repository.online:
        _remember(repository, revision or "main")
    return HubFiles(files, repository.commit)


def _converted(name: str) -> _Repository:
    """The dataset as the hub converted it."""
    try:
        return _look(name, CONVERTED)
    except RequestError as error:
        raise RequestError(
            "the repository holds no JSON, CSV or Parquet file", where=name, way_out="give a local file or folder"
        ) from error


def _remember(repository: _Repository, revision: str) -> None:
    """Note in the cache which commit a branch is, which the client does not where it is asked for a commit."""
    from huggingface_hub import constants

    if revision != repository.commit:
        reference = _cache_of(Path(constants.HF_HUB_CACHE), repository.name) / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(reference, repository.commit)


def _cache_of(cache: Path, name: str) -> Path:
    return cache / f"datasets--{name.replace('/', '--')}"


def _choose(repository: _Repository, config: str | None, split: str) -> list[str]:
    names = [n for n in repository.files if is_data_file(Path(n)) and Path(n).name not in NO_DATA]
    names = sorted(n for n in names if not n.startswith("."))
    if not names:
        return []
    described = _configurations(repository)
    if described:
        return _described(described, names, config, split, repository.name)
    folders = {n.partition("/")[0] for n in names if "/" in n}
    if config is not None:
        if config not in folders:
            raise unknown("configuration", config, folders, where=repository.name)
        names = [n for n in names if n.startswith(f"{config}/")]
    return of_split(names, split, repository.name)


def _described(described: dict[str, Any], names: list[str], config: str | None, split: str, where: str) -> list[str]:
    if config is None:
        config = "default" if "default" in described else next(iter(described))
        marked = [name for name, entry in described.items() if entry.get("default")]
        if len(described) > 1 and not marked and config != "default":
            raise RequestError(
                f"it has {len(described)} configurations", where=where, way_out=f"name: one of {', '.join(described)}"
            )
        config = marked[0] if marked else config
    if config not in described:
        raise unknown("configuration", config, described, where=where)
    patterns = _patterns(described[config])
    if not patterns:
        folder = str(described[config].get("data_dir") or "").strip("/")
        return of_split([n for n in names if n.startswith(f"{folder}/")] if folder else names, split, where)
    if split not in patterns and not (split == "train" and set(patterns) == {""}):
        raise unknown("split", split, patterns, where=where)
    wanted = patterns.get(split) or patterns[""]
    return [n for n in names if any(fnmatch.fnmatchcase(n, p.removeprefix("./")) for p in wanted)]


def _patterns(entry: dict[str, Any]) -> dict[str, list[str]]:
    """Split -> patterns of file names, from `data_files` in whichever way it is written; `` for no split."""
    given = entry.get("data_files")
    if isinstance(given, list) and given and isinstance(given[0], dict):
        given = {part.get("split", ""): part.get("path") for part in given}
    if not isinstance(given, dict):
        given = {"": given} if given else {}
    return {str(split): [p] if isinstance(p, str) else list(p or ()) for split, p in given.items()}


def _configurations(repository: _Repository) -> dict[str, Any]:
    """Name -> description of the configurations in the header of the README; empty where it tells of none."""
    if "README.md" not in repository.files:
        return {}
    import yaml

    text = repository.download("README.md").read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return {}
    try:
        header = yaml.safe_load(text[3:].partition("\n---")[0])
    except yaml.YAMLError:
        return {}
    entries = header.get("configs") if isinstance(header, dict) else None
    return {str(e.get("config_name", "default")): e for e in entries or [] if isinstance(e, dict)}


def _look(name: str, revision: str | None) -> _Repository:
    """What the repository holds, from the hub, or from its cache where the hub does not answer."""
    try:
        from huggingface_hub import HfApi, constants
    except ImportError as error:
        raise SetupError(
            "datasets of the hub need the package huggingface_hub",
            where=name,
            way_out="`./pixiw install --all`, or give a local file or folder",
        ) from error

    why = "HF_HUB_OFFLINE is set"
    if not constants.is_offline_mode():
        try:
            asked = within(
                ANSWER_SECONDS, lambda: HfApi().dataset_info(name, revision=revision, timeout=ANSWER_SECONDS)
            )
            return _Repository(name, str(asked.sha), [s.rfilename for s in asked.siblings or []], online=True)
        except Exception as error:  # the client raises its transport's errors as they come: sorted out at once
            if not _is_of_network(error):
                raise _refusal(error, name, revision) from error
            why = str(error) or type(error).__name__
    cached = _cached(Path(constants.HF_HUB_CACHE), name, revision)
    if cached is None:
        raise unreachable(name, constants.ENDPOINT, why)
    return cached


def _cached(cache: Path, name: str, revision: str | None) -> _Repository | None:
    folder = _cache_of(cache, name)
    reference = folder / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision or "main"
    snapshot = folder / "snapshots" / commit
    if not snapshot.is_dir():
        return None
    files = [p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*") if p.is_file()]
    return _Repository(name, commit, files, online=False) if files else None


def unreachable(name: str, endpoint: str, why: str) -> SetupError:
    """The error where the hub is needed and not to be had, with the three ways out."""
    return SetupError(
        f"the hub {endpoint} cannot be reached ({why.splitlines()[0]:.120}), and its cache does not hold {name}",
        where=name,
        way_out="(1) give a local file or folder as `source`; (2) fill the cache on a machine with network "
        f"(`hf download --repo-type dataset {name}`) and point HF_HOME to it; (3) set HF_ENDPOINT to a mirror",
    )


def _translated(name: str, act: Callable[[], Any]) -> Any:
    from huggingface_hub import constants

    try:
        return act()
    except Exception as error:  # as in _look
        if isinstance(error, OSError) and error.errno is not None:
            raise explain_os_error(error, Path(constants.HF_HUB_CACHE)) from error
        if _is_of_network(error):
            raise unreachable(name, constants.ENDPOINT, str(error) or type(error).__name__) from error
        raise _refusal(error, name, None) from error


def _is_of_network(error: Exception) -> bool:
    from httpx import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else 0
        return status == 429 or status >= 500
    return isinstance(error, HTTPError | ConnectionError | TimeoutError | LocalEntryNotFoundError)


def _refusal(error: Exception, name: str, revision: str | None) -> Exception:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RevisionNotFoundError

    if isinstance(error, TuneyardError):
        return error
    if isinstance(error, GatedRepoError):
        return RequestError(
            "the hub lets only those read this dataset who accepted its terms",
            where=name,
            way_out="accept them on its hub page, then set HF_TOKEN or run `hf auth login`",
        )
    if isinstance(error, RevisionNotFoundError):
        return RequestError(f"the dataset has no revision {revision!r}", where=name)
    if isinstance(error, HfHubHTTPError | HFValidationError):
        return RequestError(
            "the hub has no such dataset, or does not show it to you",
            where=name,
            way_out="look the name up on the hub; a private one needs HF_TOKEN; a local folder needs ./ in front",
        )
    return error
