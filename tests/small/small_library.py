"""A worker like those of train and eval, whose library is a few lines: it really runs, and takes no time.

Copied by a fixture to where an interpreter finds it as `tuneyard.train` and `tuneyard.eval`.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from tuneyard.core import events
from tuneyard.core.errors import RequestError
from tuneyard.core.evaluation import EvaluatedTask, Evaluation, Sample
from tuneyard.core.files import link_tree, read_json_lines
from tuneyard.core.fingerprint import Fingerprint
from tuneyard.core.worker import Worker, main

NAME = Path(__file__).parent.name

KEYS = {
    "stage": {"type": "str", "choices": ["pt", "sft", "rm", "ppo", "dpo", "kto"], "default": "sft"},
    "finetuning_type": {"type": "str", "choices": ["lora", "freeze", "full"], "default": "lora"},
    "learning_rate": {"type": "float", "choices": None, "default": 5e-5},
    "lora_rank": {"type": "int", "choices": None, "default": 8},
    "lora_target": {"type": "str | list[str]", "choices": None, "default": "all"},
    "max_steps": {"type": "int", "choices": None, "default": -1},
    "bf16": {"type": "bool", "choices": None, "default": False},
    "deepspeed": {"type": "dict | str | None", "choices": None, "default": None},
    "save_strategy": {"type": "str", "choices": ["no", "steps", "epoch"], "default": "steps"},
    "media_dir": {"type": "str | None", "choices": None, "default": None},
    "template": {"type": "str | None", "choices": None, "default": None},
    "per_device_train_batch_size": {"type": "int", "choices": None, "default": 8},
    "gradient_accumulation_steps": {"type": "int", "choices": None, "default": 1},
    "create_new_adapter": {"type": "bool", "choices": None, "default": False},
    "resize_vocab": {"type": "bool", "choices": None, "default": False},
    "callback": {"type": "any", "choices": None, "default": None},
    "pause": {"type": "float", "choices": None, "default": 0.0, "help": "seconds per step"},
    "stubborn": {"type": "bool", "choices": None, "default": False, "help": "take no notice of TERM"},
    "fail": {"type": "str | None", "choices": None, "default": None, "help": "what goes wrong"},
    "saves": {"type": "bool", "choices": None, "default": False, "help": "tell a checkpoint after each step"},
}


def run(job):
    engine = job.spec.engine
    if engine.get("fail"):
        print("hf_abcdefghijklmnopqrstuvwxyz", file=sys.stderr)
        raise RequestError(engine["fail"], where="small library", way_out="ask for something else")
    if engine.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    steps = engine.get("max_steps", 3)
    for step in range(1 + saved(job), steps + 1):
        time.sleep(engine.get("pause", 0))
        job.emit(events.Progress, step=step, total=steps, phase="working", loss=5 / step, learning_rate=1e-4, eta=1.0)
        if engine.get("saves"):
            job.emit(events.Checkpoint, step=step, path=f"artifacts/raw/{job.attempt.number}/checkpoint-{step}")
    train(job) if NAME == "train" else evaluate(job)


def saved(job):
    """The last step that an earlier attempt saved."""
    told = [e for a in job.folder.attempts() if a.events.exists() for e, _ in read_json_lines(a.events)]
    return max((event["step"] for event in told if event["event"] == "checkpoint"), default=0)


def train(job):
    model = job.spec.engine.get("finetuning_type") == "full"
    if model or job.spec.merge:
        link_tree(Path(job.spec.model.path), job.folder.model)
        job.artifact("model", job.folder.model)
    if not model:
        job.folder.adapter.mkdir(exist_ok=True)  # an earlier attempt may have come so far
        config = {"base_model_name_or_path": job.spec.model.name_or_path, "peft_type": "LORA"}
        (job.folder.adapter / "adapter_config.json").write_text(json.dumps(config))
        (job.folder.adapter / "adapter_model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
        job.artifact("adapter", job.folder.adapter)
    job.metric("train_loss", 1.25)


def evaluate(job):
    right = int(job.spec.dtype or 3)
    rows = [sample(n, float(n < right)) for n in range(job.spec.limit or 10)]
    job.folder.samples.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    task = EvaluatedTask(task="quiz", documents_sha256="d", prompts_sha256="p", n=len(rows), filters=["none"])
    model = job.spec.model.reference
    document = Evaluation(framework="lm-eval", framework_version="0", model=model, tasks=[task])
    job.folder.evaluation.write_text(document.model_dump_json())
    job.artifact("samples", job.folder.samples)
    job.metric("quiz/exact_match", right / len(rows), 0.1, len(rows))


def sample(number, score):
    return Sample(
        task="quiz",
        id=str(number),
        document_sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        prompt=f"Question {number}",
        response=str(score),
        target="1.0",
        scores={"none": {"exact_match": score}},
    )


def arguments(spec):
    return {"arguments": spec.engine, "offline": os.environ.get("HF_HUB_OFFLINE"), "command": ["small", "library"]}


def fingerprint(model):
    return Fingerprint(worker=NAME, tokenizer_class="Small", vocabulary_size=1, text_ids=[0], conversation_ids=None)


def schema():
    return {"keys": KEYS, "versions": {"small-library": "1.0"}}


if __name__ == "__main__":
    main(Worker(NAME, run=run, arguments=arguments, schema=schema, fingerprint=fingerprint, check=lambda p, n: {}))
