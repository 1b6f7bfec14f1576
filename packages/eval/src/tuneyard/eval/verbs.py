"""The worker's five verbs. Each imports the library it needs and no more: `schema` must not wait for a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.importing import uncollected
from tuneyard.core.references import ModelRef
from tuneyard.core.specs import EvalSpec, GenerateSpec, Spec
from tuneyard.core.worker import Job
from tuneyard.eval.tasks import framework_of

DISTRIBUTIONS = ("lm-eval", "inspect-ai", "inspect-evals", "transformers", "tokenizers", "peft", "torch", "datasets")
"""The packages whose versions decide a result, the one that names most keys first."""

# As lm-eval's own command sets it: without it, tokenizers warn of every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def run(job: Job) -> None:
    """Evaluate the model of the run on its tasks, or generate; leave metrics, and samples or responses."""
    if isinstance(job.spec, GenerateSpec):
        with job.timed("import"), uncollected():
            from tuneyard.eval import generate
        generate.run(job)
    elif framework_of(job.spec) == "inspect":
        with job.timed("import"), uncollected():
            from tuneyard.eval import inspect_run
        inspect_run.run(job)
    else:
        with job.timed("import"), uncollected():
            from tuneyard.eval import lm_eval_run
        lm_eval_run.run(job)


def arguments(spec: Spec) -> dict[str, Any]:
    """The arguments that the library gets, and its nearest command; see tuneyard.eval.arguments."""
    if isinstance(spec, GenerateSpec):
        from tuneyard.eval import generate

        return generate.arguments(spec)
    assert isinstance(spec, EvalSpec)
    with uncollected():
        from tuneyard.eval import arguments as library

        return library.of_inspect(spec) if framework_of(spec) == "inspect" else library.of_lm_eval(spec)


def schema() -> dict[str, Any]:
    """The keys that `engine` may hold; see tuneyard.eval.schema."""
    with uncollected():
        from tuneyard.eval import schema as library

        return library.schema()


def fingerprint(model: ModelRef) -> Fingerprint:
    """The ids that this environment gives to the fixed text and conversation."""
    with uncollected():
        from tuneyard.eval import tokens

        return tokens.fingerprint_of(tokens.load(model))


def check(path: Path, name: str | None) -> dict[str, Any]:
    """Whether a task file, task folder or `lm` function can be used; see tuneyard.eval.check."""
    from tuneyard.eval import check as library

    return library.check(path, name)
