"""What transformers and PEFT raise while weights are loaded, said so that a person knows what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tuneyard.core.errors import RequestError, SetupError, TuneyardError

NO_FIT = ("size mismatch", "Target modules", "not found in the base model", "do not match")


@contextmanager
def explained(weights: str, adapter: str | None) -> Iterator[None]:
    """Turn what loading the weights and the adapter raises into errors with a way out.

    Raises:
        RequestError: the adapter is for another base, or the weights cannot be read.
        SetupError: the hub cannot be reached, or memory ran out.
    """
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    broken = (SafetensorError, UnpicklingError, EOFError)
    try:
        yield
    except TuneyardError:
        raise
    except broken as error:
        message = f"its weights cannot be read: {first_line(str(error)) or type(error).__name__}"
        way_out = "the file is broken, as by a download or save that was cut short: get it anew"
        raise RequestError(message, where=weights, way_out=way_out) from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _explain(error, weights, adapter) from error


def _explain(error: Exception, weights: str, adapter: str | None) -> Exception:
    text = str(error)
    if adapter and any(sign in text for sign in NO_FIT):
        return RequestError(
            f"the adapter does not fit the model {weights}: {first_line(text)}",
            where=adapter,
            way_out="name the base that it was trained on; where training added tokens (resize_vocab), train with "
            "`merge: true` and evaluate the merged model",
        )
    if isinstance(error, OSError) and ("huggingface.co" in text or "Hub" in text or "offline" in text):
        return SetupError(
            f"the model cannot be had from the hub or its cache: {first_line(text)}",
            where=weights,
            way_out="connect to the hub and run again; or `hf download` it where the hub can be reached and copy the "
            "cache (HF_HOME); or give the folder of a downloaded copy as `model`",
        )
    if isinstance(error, OSError | KeyError | ValueError):
        return RequestError(f"cannot be loaded: {type(error).__name__}: {first_line(text)}", where=weights)
    return error


def first_line(text: str) -> str:
    """The first line of a message that says something, at most 500 characters."""
    return next((line.strip() for line in text.splitlines() if line.strip()), text)[:500]
