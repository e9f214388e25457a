"""Mixing: how many samples of each task an epoch takes, and which.

An epoch takes the next n samples of its task from an endless stream of shuffles of that task. So a
task that is taken whole is seen once an epoch, one that is under-sampled comes round evenly over
the epochs, and one that is over-sampled repeats no sample before all were seen. Within an epoch,
the times that two samples of a task are taken differ by one at most.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from runners.config import TrainConfig
from runners.data.ordering import Indices, keyed_order
from runners.data.token_cache import TokenCache
from runners.errors import UsageError

_PURPOSE = 0x317


@dataclass(frozen=True)
class Sampling:
    """How tasks are mixed.

    ``all`` takes every sample once. ``temperature`` gives task shares proportional to
    size^(1/temperature), ``weights`` to ``weights``; both keep an epoch's number of samples.
    ``max_samples_per_task`` caps a task's size before its share is taken.
    """

    mode: Literal["all", "temperature", "weights"] = "all"
    temperature: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    max_samples_per_task: int | None = None

    @classmethod
    def of(cls, config: TrainConfig) -> "Sampling":
        """As a config asks for it."""
        return cls(
            config.sampling,
            config.sampling_temperature,
            config.task_weights,
            config.max_samples_per_task,
        )


def epoch_samples(
    cache: TokenCache, samples: Indices, sampling: Sampling, seed: int, epoch: int
) -> Indices:
    """The samples of an epoch, task by task; which they are depends on seed and epoch alone.

    Raises ``UsageError`` when weights name an unknown task or leave nothing to sample.
    """
    members = [samples[cache.task_ids[samples] == task] for task in range(len(cache.tasks))]
    sizes = np.array([len(m) for m in members], np.int64)
    taken = _counts(sizes, cache.tasks, sampling)
    chosen = [
        m[_stream(len(m), int(n), epoch, seed, task)]
        for task, (m, n) in enumerate(zip(members, taken, strict=True))
        if n > 0
    ]
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


def _counts(sizes: Indices, tasks: tuple[str, ...], sampling: Sampling) -> Indices:
    if sampling.max_samples_per_task is not None:
        sizes = np.minimum(sizes, sampling.max_samples_per_task)
    if sampling.mode == "all" or sizes.sum() == 0:
        return sizes
    if sampling.mode == "temperature":
        weights = np.where(sizes > 0, sizes.astype(float), 0) ** (1 / sampling.temperature)
    else:
        weights = _named_weights(tasks, sampling.weights)
    weights = np.where(sizes > 0, weights, 0.0)
    if weights.sum() <= 0:
        raise UsageError(
            "no task with samples has a weight above 0",
            where="task_weights",
            fix="Give at least one task with data a positive weight.",
        )
    return _apportion(int(sizes.sum()), weights / weights.sum())


def _named_weights(tasks: tuple[str, ...], weights: Mapping[str, float]) -> np.ndarray:
    if unknown := sorted(set(weights) - set(tasks)):
        raise UsageError(
            f"there is no task {unknown[0]!r} in the data",
            where="task_weights",
            fix=f"The tasks are: {', '.join(tasks)}.",
        )
    return np.array([max(0.0, float(weights.get(task, 0.0))) for task in tasks])


def _apportion(total: int, shares: np.ndarray) -> Indices:
    """Whole numbers that sum to ``total``, by largest remainder."""
    exact = shares * total
    counts: Indices = np.floor(exact).astype(np.int64)
    short = total - int(counts.sum())
    counts[np.argsort(-(exact - counts), kind="stable")[:short]] += 1
    return counts


def _stream(size: int, count: int, epoch: int, seed: int, task: int) -> Indices:
    """Positions ``epoch * count`` to ``(epoch + 1) * count`` of the task's stream of shuffles."""
    first, last = epoch * count, (epoch + 1) * count
    cycles = range(first // size, -(-last // size))
    stream = np.concatenate([_cycle(size, count, cycle, seed, task) for cycle in cycles])
    skipped = first - cycles.start * size
    taken: Indices = stream[skipped : skipped + count]
    return taken


@dataclass(frozen=True)
class _Seam:
    """Where an epoch that began within one cycle, ``before``, at position ``start`` of it, ends
    within another, ``cycle``, whose first ``head`` samples it takes."""

    cycle: int
    head: int
    before: int
    start: int


def _seam(size: int, count: int, cycle: int) -> _Seam | None:
    """The seam that ends in ``cycle``, if one does."""
    boundary = cycle * size
    epoch = (boundary - 1) // count
    end = (epoch + 1) * count
    before, start = divmod(max(0, epoch) * count, size)
    if start == 0 or not boundary < end < boundary + size:
        return None
    return _Seam(cycle, end - boundary, before, start)


def _cycle(size: int, count: int, cycle: int, seed: int, task: int) -> Indices:
    """One shuffle of the stream.

    What an epoch took from the shuffle it began in must not come again at once in the one it ends
    in, so there the others come first. That depends on how the earlier one begins in turn, though
    seldom: what is put first reaches no further than the two parts of the epoch together.
    """
    seams: list[_Seam] = []
    seam = _seam(size, count, cycle)
    while seam is not None:
        seams.append(seam)
        earlier = _seam(size, count, seam.before)
        if earlier is not None and earlier.head + size - earlier.start <= seam.start:
            earlier = None
        seam = earlier
    order = keyed_order(size, seed, task, seams[-1].before if seams else cycle, _PURPOSE)
    for seam in reversed(seams):
        taken = np.zeros(size, bool)
        taken[order[seam.start :]] = True
        order = keyed_order(size, seed, task, seam.cycle, _PURPOSE)
        fresh = np.flatnonzero(~taken[order])[: seam.head]
        order = np.concatenate([order[fresh], np.delete(order, fresh)])
    return order
