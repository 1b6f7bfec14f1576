"""A worker like those of train and eval, whose library is a few lines: it really runs, and takes no time.

What it trains scores by its rank and seed; it runs out of memory where a batch is too large, and fails where told.
Copied by a fixture to where an interpreter finds it as `tuneyard.train` and `tuneyard.eval`.
"""

import ast
import hashlib
import json
import random
import time
from pathlib import Path

from tuneyard.core import events
from tuneyard.core.errors import RequestError
from tuneyard.core.evaluation import EvaluatedTask, Evaluation, Sample
from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.worker import Worker, main

NAME = Path(__file__).parent.name


def key(kind, default=None, choices=None):
    return {"type": kind, "choices": choices, "default": default}


KEYS = {
    "stage": key("str", "sft", ["pt", "sft", "rm", "ppo", "dpo", "kto"]),
    "finetuning_type": key("str", "lora", ["lora", "freeze", "full"]),
    "learning_rate": key("float", 5e-5),
    "lora_rank": key("int", 8),
    "lora_alpha": key("int | None"),
    "max_steps": key("int", -1),
    "lr_scheduler_type": key("str", "linear", ["linear", "cosine"]),
    "media_dir": key("str | None"),
    "per_device_train_batch_size": key("int", 8),
    "gradient_accumulation_steps": key("int", 1),
    "pause": key("float", 0.0),  # seconds per step
    "memory": key("int | None"),  # the largest product of rank and batch that fits
    "fail_at": key("int | None"),  # the seed whose training fails
}


class OutOfMemoryError(Exception):
    pass


def run(job):
    train(job) if NAME == "train" else evaluate(job)


def train(job):
    engine = job.spec.engine
    rank, batch = engine.get("lora_rank", 8), engine.get("per_device_train_batch_size", 8)
    if engine.get("memory") and rank * batch > engine["memory"]:
        raise OutOfMemoryError("CUDA out of memory")
    if engine.get("fail_at") == job.spec.seed:
        raise RequestError("the loss is not a number", way_out="a smaller learning rate")
    steps = engine.get("max_steps", 4)
    for step in range(1 + saved(job), steps + 1):
        time.sleep(engine.get("pause", 0))
        job.emit(events.Progress, step=step, total=steps, loss=5 / step + rank / 100)
        job.emit(events.Checkpoint, step=step, path=f"artifacts/raw/{job.attempt.number}/checkpoint-{step}")
    job.folder.adapter.mkdir(exist_ok=True)
    config = {"base_model_name_or_path": job.spec.model.name_or_path, "peft_type": "LORA"}
    (job.folder.adapter / "adapter_config.json").write_text(json.dumps(config))
    (job.folder.adapter / "adapter_model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    (job.folder.adapter / "quality.json").write_text(json.dumps([rank, job.spec.seed]))
    job.artifact("adapter", job.folder.adapter)
    job.metric("train_loss", 1.25)


def saved(job):
    """The last step that an earlier attempt saved."""
    told = [line for a in job.folder.attempts() if a.events.exists() for line in a.events.read_text().splitlines()]
    return max((json.loads(line)["step"] for line in told if '"checkpoint"' in line), default=0)


def evaluate(job):
    adapter = job.spec.adapter.path if job.spec.adapter else job.spec.model.adapter
    rank, seed = json.loads((Path(adapter) / "quality.json").read_text()) if adapter else (0, 0)
    generator = random.Random(seed)
    n = job.spec.limit or 60
    names = [task.task.rpartition("@")[2] for task in job.spec.tasks]
    rows = [
        sample(name, number, float(generator.random() < 0.1 + min(rank, 32) / 50))
        for name in names
        for number in range(n)
    ]
    job.folder.samples.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    tasks = [EvaluatedTask(task=name, documents_sha256="d", prompts_sha256="p", n=n) for name in names]
    model = job.spec.model.reference
    document = Evaluation(framework="lm-eval", framework_version="0", model=model, tasks=tasks)
    job.folder.evaluation.write_text(document.model_dump_json())
    job.artifact("samples", job.folder.samples)
    for name in names:
        own = [row.scores["none"]["exact_match"] for row in rows if row.task == name]
        job.metric(f"{name}/exact_match,none", sum(own) / n, 0.05, n)


def sample(task, number, score):
    return Sample(
        task=task,
        id=str(number),
        document_sha256=hashlib.sha256(f"{task} {number}".encode()).hexdigest(),
        prompt=f"Question {number}",
        response=str(score),
        target="1.0",
        scores={"none": {"exact_match": score}},
    )


def arguments(spec):
    given = {"model_name_or_path": spec.model.name_or_path, "dataset_dir": "data", "dataset": "train"}
    return {"arguments": {**given, "output_dir": "saves", "do_train": True, "seed": spec.seed, **spec.engine}}


def check(path, name):
    """As the real one: parsed, and the tasks in it by name."""
    try:
        tree = ast.parse(path.read_text())
    except SyntaxError as error:
        raise RequestError(f"is not Python: {error}", where=f"{path}:{error.lineno}") from error
    tasks = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    if not tasks:
        raise RequestError("defines no task (a function under `@task`)", where=str(path))
    if name and name not in tasks:
        raise RequestError(f"Function {name!r} not found in {path}", way_out=f"the tasks there: {', '.join(tasks)}")
    for node in tree.body:
        if isinstance(node, ast.Import) and node.names[0].name == "not_there":
            raise RequestError("importing it failed: ModuleNotFoundError: No module named 'not_there'", where=str(path))
    return {"tasks": tasks}


def fingerprint(model):
    return Fingerprint(worker=NAME, tokenizer_class="Small", vocabulary_size=1, text_ids=[0], conversation_ids=None)


def schema():
    return {"keys": KEYS, "versions": {"small-library": "1.0"}}


if __name__ == "__main__":
    main(Worker(NAME, run=run, arguments=arguments, schema=schema, fingerprint=fingerprint, check=check))
