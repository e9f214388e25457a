"""Counting while training: what one step did on all ranks, and what an interval of steps did.

Pure bookkeeping, apart from the loop so that the loop stays readable; the interval's counts go into
checkpoints, so a resumed run logs the very series of an uninterrupted one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, inf, isfinite
from typing import Any

import torch
from torch import Tensor

from runners.train.inputs import Inputs


class StepTally:
    """What this rank's micro-batches of one step add up to; ``vector`` sums over ranks."""

    def __init__(self, tasks: int, device: torch.device) -> None:
        self._sums = torch.zeros(tasks, dtype=torch.float64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._tokens = self._squares = self._trained = 0

    def add(self, loss: Tensor, task_sums: Tensor, inputs: Inputs) -> None:
        """Count a micro-batch; nothing here waits for the device."""
        self._loss += loss.detach().double()
        self._sums += task_sums
        self._tokens += inputs.tokens
        self._squares += inputs.squares
        self._trained += len(inputs.targets)

    def vector(self, *, stopping: bool, seconds: float) -> Tensor:
        """Everything as one float64 tensor, to be summed over ranks in one go.

        A non-finite loss travels as a flag and its sums as zeros, so that those of the others stay
        readable.
        """
        finite = self._loss.isfinite() & self._sums.isfinite().all()
        loss, sums = (
            torch.where(finite, told, torch.zeros_like(told)) for told in (self._loss, self._sums)
        )
        counts = torch.tensor(
            [self._tokens, self._squares, self._trained, stopping, seconds],
            dtype=torch.float64,
            device=self._sums.device,
        )
        flag = (~finite).double().unsqueeze(0)
        return torch.cat([loss.unsqueeze(0), flag, counts, sums])


@dataclass(frozen=True)
class StepTotals:
    """A step over all ranks. ``bad_ranks`` had a non-finite loss; ``seconds`` add up too."""

    loss: float
    bad_ranks: int
    tokens: int
    squares: int
    trained: int
    stopping: bool
    seconds: float
    task_sums: tuple[float, ...]

    @classmethod
    def read(cls, vector: Tensor) -> "StepTotals":
        """From ``StepTally.vector``, summed over ranks."""
        loss, bad, tokens, squares, trained, stopping, seconds, *sums = vector.tolist()
        counts = int(bad), int(tokens), int(squares), int(trained)
        return cls(loss, *counts, stopping > 0, seconds, (*sums,))


@dataclass
class Interval:
    """The steps since the last logged values. ``bad`` ones had a loss that was not finite: their
    time and tokens count, their losses do not. ``skipped`` ones, bad or not, were not taken."""

    tasks: Sequence[str]
    steps: int = 0
    bad: int = 0
    skipped: int = 0
    loss: float = 0.0
    tokens: int = 0
    squares: int = 0
    trained: int = 0
    task_sums: list[float] = field(default_factory=list)
    task_tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a new interval."""
        self.steps = self.bad = self.skipped = self.tokens = self.squares = self.trained = 0
        self.loss = self.seconds = 0.0
        self.task_sums = [0.0] * len(self.tasks)
        self.task_tokens = [0] * len(self.tasks)

    def add(self, totals: StepTotals, task_tokens: Sequence[int], seconds: float) -> None:
        """Count a step."""
        self.steps += 1
        self.tokens += totals.tokens
        self.squares += totals.squares
        self.trained += totals.trained
        self.seconds += seconds
        if totals.bad_ranks:
            self.bad += 1
            return
        self.loss += totals.loss
        for task, (lost, count) in enumerate(zip(totals.task_sums, task_tokens, strict=True)):
            self.task_sums[task] += lost
            self.task_tokens[task] += int(count)

    def values(self) -> dict[str, float]:
        """Loss as optimized (mean over steps); each task's loss, perplexity and tokens; speed."""
        found: dict[str, float] = {}
        if self.steps > self.bad:
            found["loss"] = self.loss / (self.steps - self.bad)
        for task, lost, count in zip(self.tasks, self.task_sums, self.task_tokens, strict=True):
            if count:
                found |= task_values("", task, lost / count)
                found[f"trained_tokens/{task}"] = count
        if self.skipped:
            found["skipped_steps"] = self.skipped
        if self.seconds > 0:
            found["tokens_per_second"] = self.tokens / self.seconds
            found["trained_tokens_per_second"] = self.trained / self.seconds
        return found

    def state(self) -> dict[str, Any]:
        """For a checkpoint. Seconds are not part of what must repeat, but help the speed shown."""
        return {key: value for key, value in vars(self).items() if key != "tasks"}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state``."""
        for key, value in state.items():
            setattr(self, key, value)


def task_values(prefix: str, task: str, loss: float) -> dict[str, float]:
    """A task's loss and perplexity under their metric names."""
    perplexity = exp(loss) if isfinite(loss) and loss < 700 else inf
    return {f"{prefix}loss/{task}": loss, f"{prefix}perplexity/{task}": perplexity}
