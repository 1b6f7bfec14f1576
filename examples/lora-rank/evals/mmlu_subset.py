"""A part of MMLU by inspect_evals, whose documents come from the hub: where it can be reached, add to experiment.yaml

- {task: mmlu_subset.py@mmlu_subset, arguments: {subjects: elementary_mathematics}}
"""

from inspect_ai import Task, task


@task
def mmlu_subset(subjects: str = "elementary_mathematics,abstract_algebra") -> Task:
    """MMLU without worked examples, on a list of subjects with commas between them."""
    from inspect_evals.mmlu import mmlu_0_shot

    return mmlu_0_shot(subjects=[subject.strip() for subject in subjects.split(",")])
