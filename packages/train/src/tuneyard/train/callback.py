"""Events from LLaMA-Factory's training loop, and a stop that leaves a checkpoint."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tuneyard.core import events
from tuneyard.core.worker import Job, Stopped

QUIET_SECONDS = 5.0
"""A progress event comes at least this often while steps are made, whatever `logging_steps` is."""


class RunCallback(TrainerCallback):
    """Tells a job how the training goes, and stops it, with a checkpoint, when the job is asked to stop."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.began = self.told = 0.0
        self.first_step = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.began, self.first_step = time.perf_counter(), state.global_step
        self.job.stops_itself = True
        self._progress(state, {})

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            self._progress(state, logs)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.job.stop_requested.is_set():
            control.should_save = control.should_training_stop = True
        elif time.perf_counter() - self.told > QUIET_SECONDS:
            self._progress(state, {})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        path = self.job.folder.raw / str(self.job.attempt.number) / f"checkpoint-{state.global_step}"
        relative = path.relative_to(self.job.folder.path).as_posix()
        self.job.emit(events.Checkpoint, step=state.global_step, path=relative)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        for name, value in (metrics or {}).items():
            if isinstance(value, int | float) and name.startswith("eval_"):
                self.job.emit(events.MetricEvent, name=name, value=value, step=state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.job.stops_itself = False
        if self.job.stop_requested.is_set():
            raise Stopped

    def _progress(self, state: TrainerState, logs: dict[str, float]) -> None:
        self.told = time.perf_counter()
        elapsed, done = self.told - self.began, state.global_step - self.first_step
        left = state.max_steps - state.global_step
        self.job.emit(
            events.Progress,
            step=state.global_step,
            total=state.max_steps,
            phase="training",
            loss=logs.get("loss"),
            learning_rate=logs.get("learning_rate"),
            epoch=logs.get("epoch", state.epoch),
            elapsed=round(elapsed, 3),
            eta=round(elapsed / done * left, 1) if done else None,
        )
