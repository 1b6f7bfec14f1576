"""A task of the study's own: questions of one domain, from a JSONL file beside this one.

    inspect eval evals/domain_qa.py -T data=domain_qa.jsonl --model ...

The domain here is adding: sums in words that no training example has, so that what transfers can be seen.
"""

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def domain_qa(data: str = "domain_qa.jsonl", max_tokens: int = 48) -> Task:
    """Questions with one right answer, which must stand in the response."""
    file = Path(data)
    file = file if file.is_absolute() else Path(__file__).parent / file
    return Task(
        dataset=json_dataset(str(file), FieldSpec(input="question", target="answer", id="id")),
        solver=generate(max_tokens=max_tokens),
        scorer=includes(),
    )
