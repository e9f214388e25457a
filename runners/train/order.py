"""The order in which a run sees its data, and the position in it that a checkpoint remembers.

A plan is a pure function of settings and epoch, so a position is a few numbers. When a run goes on
with another number of ranks or another micro-batch, the rest of the epoch is planned anew over the
samples that were still to come: none is lost and none is seen twice.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np

from runners.config import TrainConfig
from runners.data.ordering import Indices
from runners.data.plan import EpochPlan, StepPlan, plan_epoch
from runners.data.sampling import Sampling
from runners.data.token_cache import TokenCache


@dataclass(frozen=True)
class Spread:
    """How an optimizer step is spread: rows = ranks * micro_batch * accumulation."""

    ranks: int
    micro_batch: int
    accumulation: int

    @property
    def rows(self) -> int:
        """Rows of an optimizer step: the global batch."""
        return self.ranks * self.micro_batch * self.accumulation


@dataclass(frozen=True)
class Stretch:
    """``steps`` optimizer steps of an epoch, done with one spread."""

    spread: Spread
    steps: int


@dataclass(frozen=True)
class Position:
    """``step`` optimizer steps are done; of ``epoch`` those that ``stretches`` say, in order."""

    step: int
    epoch: int
    stretches: tuple[Stretch, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Position":
        """Read what ``to_json`` gave."""
        stretches = tuple(Stretch(Spread(**s["spread"]), s["steps"]) for s in value["stretches"])
        return cls(value["step"], value["epoch"], stretches)


class DataOrder:
    """Iterates over the optimizer steps from ``position`` to the end of the run.

    ``total`` is the number of optimizer steps of the whole run, those behind included.
    ``position`` is always that after the last step yielded.
    """

    def __init__(
        self,
        cache: TokenCache,
        samples: Indices,
        config: TrainConfig,
        spread: Spread,
        position: Position | None = None,
    ) -> None:
        self._cache = cache
        self._samples = samples
        self._config = config
        self._sampling = Sampling.of(config)
        self.position = position or Position(0, 0, ())
        self.respread(spread)

    def respread(self, spread: Spread) -> None:
        """Go on from here with another spread."""
        self.spread = spread
        position = self.position
        if not position.stretches or position.stretches[-1].spread != spread:
            stretches = (*position.stretches, Stretch(spread, 0))
            self.position = replace(position, stretches=stretches)
        self._plan = self._epoch_plan(self.position.epoch, self.position.stretches)
        self.total = self._count()

    def __iter__(self) -> Iterator[StepPlan]:
        while self.position.step < self.total:
            done = self.position.stretches[-1].steps
            if done >= len(self._plan):
                self.position = Position(
                    self.position.step, self.position.epoch + 1, (Stretch(self.spread, 0),)
                )
                self._plan = self._epoch_plan(self.position.epoch, self.position.stretches)
                continue
            plan = self._plan[done]
            *before, last = self.position.stretches
            self._before = self.position
            self.position = Position(
                self.position.step + 1,
                self.position.epoch,
                (*before, replace(last, steps=done + 1)),
            )
            yield plan

    def take_back(self) -> None:
        """Make the last step yielded the next one again."""
        self.position = self._before

    @property
    def at_epoch_end(self) -> bool:
        """True when the last step yielded was its epoch's last."""
        return self.position.stretches[-1].steps >= len(self._plan)

    @property
    def epoch_progress(self) -> float:
        """Epochs done, as a fraction."""
        share = self.position.stretches[-1].steps / max(1, len(self._plan))
        return self.position.epoch + min(1.0, share)

    def _epoch_plan(self, epoch: int, stretches: tuple[Stretch, ...]) -> EpochPlan:
        plan = self._plan_over(self._samples, stretches[0].spread, epoch, self._sampling)
        for before, after in pairwise(stretches):
            rest = [row for step in range(before.steps, len(plan)) for row in plan[step].all_rows()]
            spread, same_steps = after.spread, before.spread.rows == after.spread.rows
            if same_steps or self._config.padding_mode == "concat":
                # As many rows a step are the same rows, cut otherwise. And where a sample may be
                # trained in part, what is left is rows, whatever a step takes of them.
                plan = EpochPlan(tuple(rest), spread.ranks, spread.accumulation, spread.micro_batch)
                continue
            remaining = np.concatenate(rest) if rest else np.empty(0, np.int64)
            plan = self._plan_over(remaining, spread, epoch, Sampling())
        return plan

    def _plan_over(
        self, samples: Indices, spread: Spread, epoch: int, sampling: Sampling
    ) -> EpochPlan:
        return plan_epoch(
            self._cache,
            samples,
            mode=self._config.padding_mode,
            seq_length=self._config.seq_length,
            micro_batch=spread.micro_batch,
            accumulation=spread.accumulation,
            ranks=spread.ranks,
            seed=self._config.seed,
            epoch=epoch,
            sampling=sampling,
            across_tasks=self._config.pack_across_tasks,
        )

    def _count(self) -> int:
        """Steps behind, left of this epoch, and of the epochs to come."""
        epochs, here = self._config.num_train_epochs, self.position.epoch
        steps = self.position.step
        limit = self._config.max_train_steps
        for epoch in range(here, ceil(epochs)):
            plan = self._plan if epoch == here else self._plan_of(epoch)
            done = self.position.stretches[-1].steps if epoch == here else 0
            whole = len(plan) if epoch + 1 <= epochs else ceil((epochs - epoch) * len(plan))
            steps += max(0, whole - done)
            if limit is not None and steps >= limit:
                return max(limit, self.position.step)
        return steps

    def _plan_of(self, epoch: int) -> EpochPlan:
        if self._config.padding_mode == "padding" and not self.position.stretches[:-1]:
            # One sample a row: every epoch has as many rows.
            return self._plan
        return self._plan_over(self._samples, self.spread, epoch, self._sampling)
