"""What the verb `arguments` answers: the library's own arguments, and what does the same without us."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from tuneyard.core.specs import EvalSpec
from tuneyard.eval import model as models
from tuneyard.eval.lm_eval_arguments import FILE_NAME

SCRIPT = "inspect.sh"
"""One `inspect eval` per task."""

DEVICE = "cuda:0"
"""Where a dry run, which has no lease, says that a run with GPUs would compute."""


def of_lm_eval(spec: EvalSpec) -> dict[str, Any]:
    """HFLM's, `simple_evaluate`'s and the task manager's arguments; nothing is loaded.

    Raises:
        RequestError: an unknown task, a key that is taken, or broken data.
    """
    from tuneyard.eval import lm_eval_arguments as library
    from tuneyard.eval import lm_eval_asked as asked

    source = models.source_of(spec.model, spec.adapter) if spec.lm is None and spec.model else None
    trained = models.trained_by(source) if source else None
    notes: list[str] = []
    tasks = asked.named(spec, trained, notes)
    _, _, manager = library.parts(spec.engine)
    own = spec.lm is not None
    kind, model = ("", {}) if own else library.of_any(spec, source, DEVICE if spec.gpus else "cpu")
    evaluate = library.of_evaluate(spec, _chat(spec, trained))
    names = [asked.command_name(task, Path("tasks")) for task in tasks]
    made = {f"tasks/{task.name}.yaml": task.text for task in tasks if task.text is not None}
    return {
        "arguments": {"model": model, "simple_evaluate": evaluate, "task_manager": manager, "tasks": names},
        "file": "" if own else library.command_file(model, evaluate, manager, names, kind) + _as_comments(made),
        "file_name": FILE_NAME,
        "command": [] if own else ["lm_eval", "run", "--config", FILE_NAME],
        "task_files": made,
        "notes": notes,
    }


def _as_comments(files: dict[str, str]) -> str:
    """Task files that a run makes, below the file that names them."""
    lines = [line for name, text in files.items() for line in (f"{name}:", *text.splitlines())]
    return "".join(f"# {line}\n" for line in lines)


def of_inspect(spec: EvalSpec) -> dict[str, Any]:
    """The Hugging Face provider's and `eval`'s arguments; no model is loaded.

    Raises:
        RequestError: an unknown task or argument, or a key that is taken.
    """
    from tuneyard.eval import inspect_arguments as library
    from tuneyard.eval import inspect_tasks

    tasks = [found for task in spec.tasks for found in inspect_tasks.find(task)]
    evaluation = library.of_evaluation(spec)
    provider, model, notes = _of_server(spec) if spec.endpoint else _of_provider(spec)
    commands = [shlex.join(library.command(task, provider, evaluation, model)) for task in tasks]
    return {
        "arguments": {"model": provider, "eval": evaluation, "tasks": [vars(task) for task in tasks]},
        "file": "".join(f"{command}\n" for command in commands),
        "file_name": SCRIPT,
        "command": ["sh", SCRIPT],
        "notes": notes,
    }


def _of_provider(spec: EvalSpec) -> tuple[dict[str, Any], list[str], list[str]]:
    from tuneyard.eval import inspect_arguments as library

    source = models.source_of(spec.model, spec.adapter)
    provider = library.of_provider(spec, source, DEVICE if spec.gpus else "cpu", None)
    return provider, ["--model", "hf/local"], ["inspect's command takes no adapter"] if source.adapter else []


def _of_server(spec: EvalSpec) -> tuple[dict[str, Any], list[str], list[str]]:
    model = f"openai-api/tuneyard/{spec.endpoint_model or 'NAME'}"
    return {}, ["--model", model, "--model-base-url", str(spec.endpoint)], []


def _chat(spec: EvalSpec, trained: Any) -> bool:
    if spec.apply_chat_template is not None:
        return spec.apply_chat_template
    if spec.endpoint and spec.model is None:
        return True
    training = models.fingerprint_of_training(trained)
    return bool(training and training.chat)
