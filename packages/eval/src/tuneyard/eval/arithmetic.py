"""`arithmetic`: the held-out half of the made-up corpus as a task of lm-eval, scored by the corpus's own score."""

from __future__ import annotations

import json
from typing import Any

from tuneyard.core.errors import unknown
from tuneyard.core.run_folder import RunFolder
from tuneyard.data import arithmetic

DIGITS, SIZE, SEED = 3, 500, 0
"""What is asked where neither the task's arguments nor the training run say it."""

CORPUS = "builtin:arithmetic"


def arguments_of(asked: dict[str, Any], run: RunFolder | None) -> tuple[dict[str, Any], list[str]]:
    """Digits, size and seed of the problems to ask, and a note on where the digits come from.

    Args:
        asked: the task's own arguments; they win.
        run: the run that trained the model; its digits are asked where `asked` has none.

    Raises:
        RequestError: an argument that the task does not have.
    """
    for name in asked:
        if name not in ("digits", "size", "seed"):
            raise unknown("argument of arithmetic", name, ("digits", "size", "seed"), where="tasks")
    trained, note = _digits_of(run)
    notes = [] if "digits" in asked else [f"arithmetic: {note}"]
    return {"digits": trained, "size": SIZE, "seed": SEED, **asked}, notes


def _digits_of(run: RunFolder | None) -> tuple[int, str]:
    if run is None:
        return DIGITS, f"{DIGITS} digits, the default: the model has no run that says what it was trained on"
    sources = [d for d in run.read_spec().get("dataset", []) if d.get("source") == CORPUS]
    if not sources:
        return DIGITS, f"{DIGITS} digits, the default: {run.id} was not trained on {CORPUS}"
    digits = max(int((source.get("arguments") or {}).get("digits", DIGITS)) for source in sources)
    return digits, f"{digits} digits, as {run.id} was trained on"


def task_file(arguments: dict[str, Any]) -> str:
    """The text of lm-eval's task file: prompts as the corpus writes them, no examples, greedy."""
    digits = arguments["digits"]
    longest = max(len(arithmetic.worked_answer(10**digits - 1, 10**digits - 1)), 16)
    # Twice the longest answer, counted in bytes: no tokenizer needs more, and rambling on is wrong anyhow.
    return f"""\
task: arithmetic
custom_dataset: !function tuneyard.eval.arithmetic.dataset
dataset_kwargs: {json.dumps(arguments)}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{target}}}}"
target_delimiter: ""
process_results: !function tuneyard.eval.arithmetic.process_results
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
generation_kwargs: {{until: [], do_sample: false, temperature: 0.0, max_gen_toks: {2 * longest}}}
num_fewshot: 0
metadata: {{version: 1.0}}
"""


def dataset(*, digits: int, size: int, seed: int, **metadata: Any) -> dict[str, Any]:
    """The split as `datasets` holds it. lm-eval also passes the model's arguments, which are none of our business."""
    from datasets import Dataset

    rows = arithmetic.problems(digits=digits, size=size, seed=seed, split="test")
    columns = ("id", "prompt", "response", "target")
    return {"test": Dataset.from_list([{column: row[column] for column in columns} for row in rows])}


def process_results(document: dict[str, Any], responses: list[str]) -> dict[str, float]:
    """The corpus's own score of the first response."""
    return {"exact_match": arithmetic.score(responses[0], document["target"])}
