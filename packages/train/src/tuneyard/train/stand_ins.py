"""A stand-in for torchaudio where none can be imported.

LLaMA-Factory imports torchaudio whenever it is imported, although only audio needs it; and there is no build of it for
every torch. The stand-in satisfies the import and raises, with the way out, as soon as something of it is used.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

from tuneyard.core.errors import SetupError


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system and inspect look for these
            raise AttributeError(name)
        raise SetupError(
            f"{self.__name__}.{name} is needed, and {self.__name__} cannot be imported in this environment",
            way_out=f"install the {self.__name__} that belongs to this torch, or leave the audio out of the dataset",
        )


def stand_in() -> bool:
    """Make `import torchaudio` work, by a stand-in where the real one is missing or broken; True for a stand-in."""
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):  # OSError: its shared library was built for another torch
        module = _StandIn("torchaudio", "Stands in for torchaudio, which cannot be imported here.")
        module.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = module
        return True
    return False
