"""tuneyard.yaml: the settings of one workspace. Every key is optional, and so is the file."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tuneyard.core.documents import Document


class EnvironmentSettings(Document):
    """One environment."""

    interpreter: str | None = None
    """Python of an environment that exists already, such as `~/miniconda3/envs/lf/bin/python`. Null: the one that
    pixi or pixiw built."""


class DefaultSpecs(Document):
    """What runs where no spec is given."""

    train: str | None = None
    """Spec of `train` without arguments. Null: an example, chosen by what the machine has."""
    eval: str | None = None
    """Spec of `eval` without arguments. Null: none."""


class HubSettings(Document):
    """The Hugging Face hub."""

    endpoint: str | None = None
    """Address of a mirror (HF_ENDPOINT). Null: as the caller's variables say, else the hub itself."""
    cache: str | None = None
    """Folder of the hub's cache (HF_HOME). Null: as the caller's variables say, else ~/.cache/huggingface."""


class Settings(Document):
    """tuneyard.yaml. Relative paths in it are relative to the workspace; `~` is the home folder."""

    runs: str = "runs"
    """Folder of the runs. Default: `runs` in the workspace."""
    environments: dict[str, EnvironmentSettings] = Field(default_factory=dict)
    """Environment name (train, eval, serve) -> its settings."""
    defaults: DefaultSpecs = Field(default_factory=DefaultSpecs)
    """Specs that run where none is given."""
    hub: HubSettings = Field(default_factory=HubSettings)
    """The Hugging Face hub."""
    slurm: dict[str, Any] = Field(default_factory=dict)
    """Options of jobs on SLURM under sbatch's own names, such as `partition: gpu` (docs/slurm.md)."""
    allowed_paths: list[str] = Field(default_factory=list)
    """Folders outside the workspace from which an agent's tools may read data and run code."""
