"""Validation losses of each task, and what follows from them: stopping early."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from runners.data.ordering import Indices
from runners.data.token_cache import TokenCache
from runners.train.batching import Batcher
from runners.train.engine import Engine
from runners.train.weights import StepWeights

_NO_WEIGHTS = StepWeights(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))


@dataclass(frozen=True)
class Losses:
    """Mean token loss of each task (NaN without tokens) and over all tokens."""

    tasks: NDArray[np.float64]
    total: float


def first_of_each(cache: TokenCache, samples: Indices, most: int | None) -> Indices:
    """At most ``most`` samples of each task, the first ones."""
    if most is None:
        return samples
    kinds = cache.task_ids[samples]
    kept = [samples[kinds == task][:most] for task in range(len(cache.tasks))]
    return np.sort(np.concatenate(kept))


def validate(
    engine: Engine,
    module: torch.nn.Module,
    batcher: Batcher,
    samples: Indices,
    rows: int,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> Losses | None:
    """Mean losses over ``samples``, ``rows`` at a time, batches dealt to the ranks in turn.

    Draws no random number, so a run that validates more often trains the same. None when
    ``stopping``, which all ranks must answer alike, turned true before the end.
    """
    batches = [samples[i : i + rows] for i in range(0, len(samples), rows)]
    sums = torch.zeros(len(batcher.cache.tasks), dtype=torch.float64, device=engine.device)
    counts = torch.zeros_like(sums)
    was_training = module.training
    module.eval()
    stopped = False
    with torch.no_grad():
        for first in range(0, len(batches), engine.ranks):
            if stopped := stopping():
                break
            turn = [
                [np.array([i]) for i in batch] for batch in batches[first : first + engine.ranks]
            ]
            turn += [[] for _ in range(engine.ranks - len(turn))]
            inputs = batcher.inputs(turn, engine.rank, _NO_WEIGHTS)
            sums += engine.forward(inputs)[1]
            counts += torch.bincount(inputs.tasks, minlength=len(counts)).double()
    module.train(was_training)
    if stopped:
        return None
    lost, seen = engine.sum(torch.stack([sums, counts])).cpu().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        return Losses(lost / seen, float(lost.sum() / seen.sum()))


@dataclass
class EarlyStopping:
    """Watches validation losses; ``stalled`` turns true when they have stopped getting better.

    ``on`` total: the total loss has not improved for ``patience`` validations. each_task: no task
    has for as long, each counted by itself.
    """

    tasks: Sequence[str]
    patience: int
    on: Literal["total", "each_task"]
    best: float = inf
    best_tasks: list[float] = field(default_factory=list)
    stalls: int = 0
    task_stalls: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.best_tasks = self.best_tasks or [inf] * len(self.tasks)
        self.task_stalls = self.task_stalls or [0] * len(self.tasks)

    def update(self, losses: Losses) -> bool:
        """Take in a validation; return True when the total is the best so far."""
        improved = losses.total < self.best
        self.stalls = 0 if improved else self.stalls + 1
        self.best = min(self.best, losses.total) if improved else self.best
        for task, loss in enumerate(losses.tasks.tolist()):
            if loss < self.best_tasks[task]:
                self.best_tasks[task], self.task_stalls[task] = loss, 0
            elif loss == loss:
                self.task_stalls[task] += 1
        return improved

    @property
    def stalled(self) -> bool:
        """Whether to stop."""
        if self.on == "total":
            return self.stalls >= self.patience
        watched = [
            stalls
            for stalls, best in zip(self.task_stalls, self.best_tasks, strict=True)
            if best < inf
        ]
        return bool(watched) and all(stalls >= self.patience for stalls in watched)

    def state(self) -> dict[str, Any]:
        """For a checkpoint; infinity, which JSON lacks, as None."""
        return {
            "best": None if self.best == inf else self.best,
            "best_tasks": [None if best == inf else best for best in self.best_tasks],
            "stalls": self.stalls,
            "task_stalls": self.task_stalls,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state``."""
        self.best = inf if state["best"] is None else state["best"]
        self.best_tasks = [inf if best is None else best for best in state["best_tasks"]]
        self.stalls = state["stalls"]
        self.task_stalls = list(state["task_stalls"])
