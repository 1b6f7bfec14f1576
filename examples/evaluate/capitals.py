"""The questions of capitals.jsonl as a task of Inspect."""

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, system_message

QUESTIONS = Path(__file__).with_name("tasks") / "capitals.jsonl"


@task
def capitals(hint: bool = False) -> Task:
    """Capitals of countries.

    Args:
        hint: say first what kind of answer is expected.
    """
    dataset = json_dataset(str(QUESTIONS), FieldSpec(input="question", target="answer"))
    first = [system_message("Answer with the name of a city.")] if hint else []
    return Task(dataset=dataset, solver=[*first, generate()], scorer=includes())
