"""Importing LLaMA-Factory: quickly, with its warnings kept, and with a stand-in for what text does not need."""

from __future__ import annotations

import atexit
import gc
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tuneyard.core.errors import SetupError
from tuneyard.core.importing import uncollected
from tuneyard.train.stand_ins import stand_in

atexit.register(gc.freeze)  # else the end of the process collects garbage among everything that was imported


@contextmanager
def imported() -> Iterator[None]:
    """Import the library inside this block.

    Imports make 800,000 objects that live as long as the process. Collecting garbage among them again and again
    takes a quarter of the time, and once more at the end of the process as much; so they are set aside instead.

    Raises:
        SetupError: a package is missing or does not go with the others.
    """
    try:
        with uncollected():
            stand_in()
            yield
    except (ImportError, RuntimeError) as error:  # RuntimeError: an operator of a torchvision for another torch
        raise SetupError(
            f"LLaMA-Factory cannot be imported: {type(error).__name__}: {error}",
            way_out="`./pixiw install -e train` builds the environment anew",
        ) from error


WILDCARDS = re.compile(r"[*?\[\]]|::")
"""What the datasets library takes for a pattern, or for a chain of addresses."""

COMMA = re.compile(",")
"""What LLaMA-Factory splits a list of adapters at."""


@contextmanager
def aliased(path: str, syntax: re.Pattern[str]) -> Iterator[str]:
    """`path`, or, where it holds what a library would read as `syntax`, another name for it as long as the block."""
    if not syntax.search(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tuneyard-") as place:
        os.symlink(path, f"{place}/it")
        yield f"{place}/it"
