"""Events from LLaMA-Factory's training loop, and a stop that leaves a checkpoint."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tuneyard.core import events
from tuneyard.core.errors import RunError
from tuneyard.core.worker import Job, Stopped

QUIET_SECONDS = 5.0
"""A progress event comes at least this often while steps are made, whatever `logging_steps` is."""

LOWER = (
    "lower engine.learning_rate, warm up (engine.warmup_steps), clip (engine.max_grad_norm), or bf16 in place of fp16"
)


class RunCallback(TrainerCallback):
    """Tells a job how the training goes, and stops it, with a checkpoint, when the job is asked to stop."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.began = self.ended = 0.0
        """Seconds of the performance counter at which the first step began and the last one ended."""
        self._told = 0.0
        self._first_step = self._first_token = 0
        self._saved: int | None = None
        self._warned = False
        self._stop = Agreement(job)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.began = time.perf_counter()
        self._first_step, self._first_token = state.global_step, state.num_input_tokens_seen
        self._stop.prepare()
        self.job.stops_itself = True
        self._progress(state, {})

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._tell_saved()
        if self._stop.agreed():
            control.should_save = control.should_training_stop = True
        elif not control.should_log and time.perf_counter() - self._told > QUIET_SECONDS:
            self._progress(state, {})
        _log_when_saving(control)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        _log_when_saving(control)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            self._progress(state, logs)
            self._warn_of_nan(state, logs)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        for name, value in (metrics or {}).items():
            if isinstance(value, int | float) and name.startswith("eval_"):
                self.job.emit(events.MetricEvent, name=name, value=value, step=state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._saved = state.global_step  # other callbacks still write into the checkpoint: it is told afterwards

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        self.ended = time.perf_counter()
        self._tell_saved()
        self.job.stops_itself = False
        if self._stop.came:
            self._stop.wait_for_all()
            raise Stopped
        refuse_nan(model)

    def _tell_saved(self) -> None:
        if self._saved is None:
            return
        path = self.job.folder.raw / str(self.job.attempt.number) / f"checkpoint-{self._saved}"
        relative = path.relative_to(self.job.folder.path).as_posix()
        self.job.emit(events.Checkpoint, step=self._saved, path=relative)
        self._saved = None

    def _progress(self, state: TrainerState, logs: dict[str, float]) -> None:
        self._told = time.perf_counter()
        elapsed, done = self._told - self.began, state.global_step - self._first_step
        tokens = state.num_input_tokens_seen - self._first_token
        self.job.emit(
            events.Progress,
            step=state.global_step,
            total=state.max_steps,
            phase="training",
            loss=logs.get("loss"),
            learning_rate=logs.get("learning_rate"),
            epoch=logs.get("epoch", state.epoch),
            elapsed=round(elapsed, 3),
            eta=round(elapsed / done * (state.max_steps - state.global_step), 1) if done else None,
            tokens_per_second=round(tokens / elapsed, 1) if tokens else None,
        )

    def _warn_of_nan(self, state: TrainerState, logs: dict[str, float]) -> None:
        """Once. The loss alone does not tell: by default transformers leaves NaN out of its mean."""
        broken = [name for name in ("loss", "grad_norm") if not math.isfinite(logs.get(name, 0.0))]
        if broken and not self._warned:
            self._warned = True
            self.job.warn(f"{broken[0]} is {logs[broken[0]]} at step {state.global_step}: {LOWER}")


def _log_when_saving(control: TrainerControl) -> None:
    """A log ends where a checkpoint does, so that a resumed run averages its losses over the same steps."""
    if control.should_save:
        control.should_log = True


def refuse_nan(model: Any) -> None:
    """Raise RunError where a trained weight is not a finite number: nothing can be done with such a model."""
    for name, parameter in model.named_parameters() if model is not None else ():
        weight = parameter.detach()
        local = weight.to_local() if hasattr(weight, "to_local") else weight  # a process's part of a sharded weight
        if parameter.requires_grad and not torch.isfinite(local).all():
            raise RunError(f"the training diverged: {name} is no longer finite", way_out=LOWER)


class Agreement:
    """Whether a job is asked to stop, decided alike by all of its processes: one that stops alone blocks the others."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.came = False
        """Whether all have agreed to stop."""
        self._group: Any = None

    def prepare(self) -> None:
        """Open a channel between the processes, where there are several; it does not touch the GPU's queue."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self._group = dist.new_group(backend="gloo")

    def agreed(self) -> bool:
        """Ask; every process must, at the same step."""
        asked = self.job.stop_requested.is_set()
        if self._group is not None:
            flag = torch.tensor([int(asked)])
            dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
            asked = bool(flag.item())
        self.came = self.came or asked
        return self.came

    def wait_for_all(self) -> None:
        """Return when every process is here: torchrun ends the others as soon as the first one leaves."""
        if self._group is not None:
            dist.barrier(group=self._group)
