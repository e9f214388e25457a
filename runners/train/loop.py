"""The training loop.

It pulls steps from the data order, runs them on an engine, and tells its sinks; whatever else there
is to know (losses, schedule, checkpoints, validation) is a module of its own. Every decision that
could differ between ranks is taken on sums over all ranks, so that all take the same.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from runners.config import TrainConfig
from runners.data.ordering import Indices
from runners.data.plan import StepPlan
from runners.errors import JobFailedError
from runners.lifecycle.events import Level
from runners.train.batching import Batcher
from runners.train.checkpoint import CheckpointFolder, RandomState
from runners.train.coba import CoBa
from runners.train.engine import Engine
from runners.train.memory import (
    NO_RESTART,
    Cut,
    cut_smaller,
    is_out_of_memory,
    out_of_memory,
    restarts,
)
from runners.train.order import DataOrder
from runners.train.schedule import Schedule
from runners.train.sinks import Sink
from runners.train.tally import Interval, StepTally, StepTotals, task_values
from runners.train.validation import EarlyStopping, Losses, validate
from runners.train.weights import StepWeights

End = Literal["finished", "stopped", "early"]

LONG_STEP = 10.0
"""Seconds of a step from which on a stop is not put off to its end: the grace may be shorter."""


@dataclass
class Training:
    """All that the loop works with. What changes while it runs is saved by ``state``.

    ``pending`` is true between a step and the validation and saving that are due after it: a stop
    does not wait for them, and the run does them first when it goes on. ``saved`` is the step of
    the last checkpoint.
    """

    config: TrainConfig
    engine: Engine
    module: torch.nn.Module
    batcher: Batcher
    order: DataOrder
    schedule: Schedule
    checkpoints: CheckpointFolder
    interval: Interval
    early: EarlyStopping
    sinks: list[Sink]
    stopping: Callable[[], bool]
    valid: Indices
    coba: CoBa | None = None
    coba_samples: Indices = field(default_factory=lambda: np.empty(0, np.int64))
    fixed: NDArray[np.float64] | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    model_config: Mapping[str, Any] = field(default_factory=dict)
    notice: Callable[[Level, str], None] = lambda _level, _text: None
    measures: Callable[[Interval], Mapping[str, float]] = lambda _: {}
    clock: Callable[[], float] = time.monotonic
    norm: float = float("nan")
    long_steps: bool = False
    pending: bool = False
    saved: int = -1

    @property
    def done(self) -> int:
        """Optimizer steps done."""
        return self.order.position.step

    @property
    def task_weights(self) -> NDArray[np.float64] | None:
        """Shares of the tasks in modes coba and fixed."""
        return self.coba.weights if self.coba is not None else self.fixed

    def state(self) -> dict[str, Any]:
        """The JSON part of a checkpoint."""
        return {
            "position": self.order.position.to_json(),
            "interval": self.interval.state(),
            "early_stopping": self.early.state(),
            "coba": self.coba.state() if self.coba is not None else None,
            "engine": self.engine.extra_state(),
            "pending": self.pending,
            **self.identity,
        }

    def tell(self, values: Mapping[str, float]) -> None:
        """Give values at the current step to every sink."""
        for sink in self.sinks:
            sink.metrics(self.done, values)


def run(training: Training) -> End:
    """Train from where ``training`` stands to the end of the run, or until asked to stop."""
    training.module.train()
    if training.pending and (end := _settle(training)) is not None:
        return end
    for plan in training.order:
        began = training.clock()
        before = RandomState.now(training.engine.device) if training.long_steps else None
        try:
            stepped = _step(training, plan)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            _make_room(training, error)
            continue
        if stepped is None:
            _take_back(training)
            save(training, random_state=before)
            return "stopped"
        totals, weights = stepped
        training.interval.add(totals, weights.task_tokens.tolist(), training.clock() - began)
        _report(training)
        training.pending = True
        if totals.stopping and training.done < training.order.total:
            save(training)
            return "stopped"
        if (end := _settle(training)) is not None:
            return end
    return "finished"


def _step(training: Training, plan: StepPlan) -> tuple[StepTotals, StepWeights] | None:
    """One optimizer step: forward and backward of every micro-batch, then the update.

    None when the run is to stop and the step, a long one, was broken off.
    """
    engine, batcher = training.engine, training.batcher
    began = training.clock()
    weights = batcher.weights(plan, training.task_weights)
    tally = StepTally(len(batcher.cache.tasks), engine.device)
    micros = list(batcher.micro_batches(plan, engine.rank, weights))
    totals = None
    for number, inputs in enumerate(micros, 1):
        if training.long_steps and _anyone_stopping(training):
            return None
        last = number == len(micros)
        loss, task_sums = engine.forward(inputs, last=last)
        tally.add(loss, task_sums, inputs)
        if last:
            # The step's one exchange: losses for the log, and what all ranks must agree on.
            seconds = training.clock() - began
            told = tally.vector(stopping=training.stopping(), seconds=seconds)
            totals = StepTotals.read(engine.sum(told))
            training.long_steps = totals.seconds / engine.ranks > LONG_STEP
            if totals.bad_ranks:
                break
        engine.backward(loss, last=last)
    assert totals is not None, "a step has at least one row"
    usable = totals.bad_ranks == 0
    norm = engine.step(training.schedule.at(training.done - 1), usable=usable)
    if not usable or not isfinite(norm):
        _nonfinite(training, totals)
    training.norm = norm
    return totals, weights


def _anyone_stopping(training: Training) -> bool:
    if training.engine.ranks == 1:
        return training.stopping()
    asked = torch.tensor([float(training.stopping())], device=training.engine.device)
    return bool(training.engine.sum(asked) > 0)


def _take_back(training: Training) -> None:
    """Throw away what a step has accumulated, and make it the next one again."""
    training.engine.step(0.0, usable=False)
    training.order.take_back()


def _make_room(training: Training, error: BaseException) -> None:
    """Cut the step smaller and do it again, or say what would help.

    With several ranks the others wait inside a collective for the one that ran out, and DeepSpeed's
    buckets do not survive a backward pass broken off: then the rank writes down how to go on and
    ends, and the launcher starts all ranks again.
    """
    failed = training.done
    smaller = cut_smaller(training.order.spread)
    if not training.config.auto_batch_size or smaller is None:
        step = f"step {failed}"
        raise out_of_memory(training.config, training.model_config, step) from error
    if training.engine.ranks > 1 or not training.engine.recovers:
        Cut(smaller, restarts()).write(training.checkpoints.root)
        raise JobFailedError(
            f"a rank ran out of memory in step {failed}: all ranks start again with "
            f"{smaller.micro_batch} rows a micro-batch",
        ) from error
    # Written down for a resume: another spread would put the rest of the epoch in another order.
    Cut(smaller, NO_RESTART).write(training.checkpoints.root)
    _take_back(training)
    if training.engine.device.type == "cuda":
        torch.cuda.empty_cache()
    training.order.respread(smaller)
    training.schedule = replace(training.schedule, total=training.order.total)
    training.notice(
        "warning",
        f"step {failed} ran out of memory: going on with {smaller.micro_batch} rows a micro-batch "
        f"and {smaller.accumulation} micro-batches a step, the same global batch",
    )


def _nonfinite(training: Training, totals: StepTotals) -> None:
    what = "loss" if totals.bad_ranks else "gradient"
    training.interval.skipped += 1
    training.tell({"nonfinite_steps": 1.0})
    # With a scaled loss gradients overflow by design, and the scale then falls; a loss never may.
    expected = training.engine.scaled and not totals.bad_ranks
    if training.config.nonfinite_loss == "stop" and not expected:
        raise JobFailedError(
            f"the {what} of step {training.done} is not finite (on {max(1, totals.bad_ranks)} of "
            f"{training.engine.ranks} ranks), so the step was not taken",
            where=f"step {training.done}",
            fix="Lower learning_rate, use mixed_precision=bf16 instead of fp16, look at the data "
            "of this step, or set nonfinite_loss=skip to pass over such steps.",
        )


def _report(training: Training) -> None:
    """Tell that a step is done, and at the end of an interval what it was like."""
    done, total = training.done, training.order.total
    for sink in training.sinks:
        sink.progress(done, total)
    if done % training.config.log_interval == 0 or done >= total:
        _log(training)


def _settle(training: Training) -> End | None:
    """Validate and save as the settings say; in this order, so a checkpoint knows it all.

    Returns how the run ends here, or None when it goes on. Asked to stop while it validates, it
    leaves all of this for the run to begin with when it goes on.
    """
    try:
        improved = _assess(training)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(
            training.config, training.model_config, f"validation after step {training.done}"
        ) from error
    if improved is None:
        save(training)
        return "stopped"
    training.pending = False
    config, done = training.config, training.done
    epoch_end = config.epoch_checkpointing and training.order.at_epoch_end
    every = config.checkpointing_steps
    last = done >= training.order.total
    due = epoch_end or (every is not None and done % every == 0 and not last)
    if improved or (due and training.saved != done):
        save(training, best=improved)
    return "early" if config.early_stopping and training.early.stalled else None


def _assess(training: Training) -> bool | None:
    """Take in what validations are due; True when the loss is the best so far.

    None, with nothing taken in, when the run is to stop before they are done.
    """
    config, done = training.config, training.done
    tasks = whole = None
    if training.coba is not None and done % config.coba_update_interval == 0:
        tasks = _losses(training, training.coba_samples)
        if tasks is None:
            return None
    every, last = config.evaluation_steps, done >= training.order.total
    if len(training.valid) > 0 and every > 0 and (done % every == 0 or last):
        whole = _losses(training, training.valid)
        if whole is None:
            return None
    if training.coba is not None and tasks is not None:
        _update_coba(training, training.coba, tasks)
    if whole is None:
        return False
    _tell_validation(training, whole)
    return training.early.update(whole)


def _losses(training: Training, samples: Indices) -> Losses | None:
    return validate(
        training.engine,
        training.module,
        training.batcher,
        samples,
        training.config.per_device_eval_batch_size,
        stopping=lambda: _anyone_stopping(training),
    )


def _log(training: Training) -> None:
    interval = training.interval
    left = training.order.total - training.done
    values = interval.values() | {
        "learning_rate": training.schedule.at(training.done - 1),
        "epoch": training.order.epoch_progress,
        "seconds_left": left * interval.seconds / max(1, interval.steps),
        **training.measures(interval),
    }
    if isfinite(training.norm):
        values["gradient_norm"] = training.norm
    if training.coba is not None:
        values["coba/divergence_factor"] = training.coba.divergence_factor
    if (weights := training.task_weights) is not None:
        names = training.batcher.cache.tasks
        values |= {f"weight/{name}": float(w) for name, w in zip(names, weights, strict=True)}
    training.tell(values)
    interval.reset()


def _tell_validation(training: Training, losses: Losses) -> None:
    values = {"eval_loss": losses.total}
    for name, loss in zip(training.batcher.cache.tasks, losses.tasks.tolist(), strict=True):
        if isfinite(loss):
            values |= task_values("eval_", name, loss)
    training.tell(values)


def _update_coba(training: Training, coba: CoBa, losses: Losses) -> None:
    if np.isfinite(losses.tasks).all():
        warming_up = training.done < training.config.coba_warmup_steps
        coba.update(losses.tasks, warming_up=warming_up)
        return
    names = zip(training.batcher.cache.tasks, losses.tasks.tolist(), strict=True)
    bad = ", ".join(name for name, loss in names if not isfinite(loss))
    training.notice(
        "warning",
        f"step {training.done}: the validation loss of {bad} is not finite, so CoBa keeps its "
        "weights",
    )


def save(
    training: Training, *, best: bool = False, random_state: RandomState | None = None
) -> None:
    """Write a checkpoint of the current step; ``random_state`` is the present one by default."""
    engine = training.engine
    training.saved = training.done
    training.checkpoints.write(
        training.done,
        engine.tensors(),
        random_state or RandomState.now(engine.device),
        training.state(),
        rank=engine.rank,
        wait=lambda: _barrier(engine),
        best=best,
    )


def _barrier(engine: Engine) -> None:
    engine.sum(torch.zeros(1, device=engine.device))
