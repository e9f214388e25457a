"""What every rank does in every step of an epoch, decided before it begins.

A plan is a pure function of the cache, the samples, the settings, the seed and the epoch: every
rank makes the same one, so nobody shards, nobody communicates, and (epoch, step) is the whole state
needed to go on in the middle. Each sample of the epoch is in exactly one row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from runners.data.concat import cut_to_rows
from runners.data.ordering import Indices, keyed_order
from runners.data.packing import Rows, pack_best_fit
from runners.data.sampling import Sampling, epoch_samples
from runners.data.token_cache import TokenCache

Mode = Literal["padding", "pack", "concat"]
Row = npt.NDArray[np.int64]
"""Sample indices [k]; in concat mode pieces of samples [k, 3]: sample, start, stop."""

_SHUFFLE_SAMPLES = 0x5A
_SHUFFLE_ROWS = 0x50
_GROUPED_STEPS = 32
"""Steps whose samples are sorted by length together: enough for rows of one batch to be alike,
few enough that an epoch's order stays random."""


@dataclass(frozen=True)
class StepPlan:
    """One optimizer step: ``rows[rank][micro]`` is a tuple of rows, empty near an epoch's end."""

    rows: tuple[tuple[tuple[Row, ...], ...], ...]

    def all_rows(self) -> Iterator[Row]:
        """Every row of the step, over all ranks and micro-batches."""
        return (row for rank in self.rows for micro in rank for row in micro)


@dataclass(frozen=True)
class EpochPlan:
    """The steps of an epoch. ``len`` is the number of optimizer steps; indexing makes a step.

    A step takes ``ranks * accumulation * micro_batch`` consecutive ``rows``; the last one takes
    what is left, dealt out so that no rank gets two rows more than another.
    """

    rows: Rows | tuple[Row, ...]
    ranks: int
    accumulation: int
    micro_batch: int

    @property
    def rows_per_step(self) -> int:
        """Rows of a whole step."""
        return self.ranks * self.accumulation * self.micro_batch

    def __len__(self) -> int:
        return (len(self.rows) + self.rows_per_step - 1) // self.rows_per_step

    def __getitem__(self, step: int) -> StepPlan:
        if not 0 <= step < len(self):
            raise IndexError(step)
        first = step * self.rows_per_step
        rows = [self.rows[i] for i in range(first, min(first + self.rows_per_step, len(self.rows)))]
        slots: list[list[list[Row]]] = [
            [[] for _ in range(self.accumulation)] for _ in range(self.ranks)
        ]
        # Neighbours are alike in length, so a micro-batch takes neighbours; dealing to the ranks
        # comes first, so that a short step is spread over them.
        full = len(rows) == self.rows_per_step
        for i, row in enumerate(rows):
            if full:
                micro, rest = divmod(i, self.ranks * self.micro_batch)
                slots[rest // self.micro_batch][micro].append(row)
            else:
                turn, rank = divmod(i, self.ranks)
                slots[rank][turn // self.micro_batch].append(row)
        return StepPlan(tuple(tuple(tuple(micro) for micro in rank) for rank in slots))


def plan_epoch(
    cache: TokenCache,
    samples: Indices,
    *,
    mode: Mode,
    seq_length: int,
    micro_batch: int,
    accumulation: int,
    ranks: int,
    seed: int,
    epoch: int,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    across_tasks: bool = True,
) -> EpochPlan:
    """Plan an epoch over ``samples`` (int64 indices into ``cache``).

    ``padding``: one sample a row, rows of like length together. ``pack``: rows filled with whole
    samples, of several tasks unless ``across_tasks`` is false. ``concat``: samples joined and cut
    to rows that are all full. The order of rows is shuffled by seed and epoch.
    """
    chosen = epoch_samples(cache, samples, sampling, seed, epoch)
    chosen = chosen[keyed_order(len(chosen), seed, epoch, _SHUFFLE_SAMPLES)]
    rows: Rows | tuple[Row, ...]
    if mode == "pack":
        rows = _packed(cache, chosen, seq_length, across_tasks)
        rows = _reordered(rows, keyed_order(len(rows), seed, epoch, _SHUFFLE_ROWS))
    elif mode == "concat":
        pieces = cut_to_rows(cache, chosen, seq_length)
        order = keyed_order(len(pieces), seed, epoch, _SHUFFLE_ROWS)
        rows = tuple(pieces[i] for i in order)
    else:
        batch = ranks * accumulation * micro_batch
        rows = _grouped_by_length(cache, chosen, batch, ranks * micro_batch, seed, epoch)
    return EpochPlan(rows, ranks, accumulation, micro_batch)


def _packed(cache: TokenCache, samples: Indices, seq_length: int, across_tasks: bool) -> Rows:
    if across_tasks:
        rows = pack_best_fit(cache.lengths[samples], seq_length)
        return Rows(rows.starts, samples[rows.samples])
    groups = [samples[cache.task_ids[samples] == task] for task in range(len(cache.tasks))]
    packed = [_packed(cache, group, seq_length, across_tasks=True) for group in groups]
    sizes = np.concatenate([np.diff(rows.starts) for rows in packed])
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Rows(starts, np.concatenate([rows.samples for rows in packed]))


def _reordered(rows: Rows, order: Indices) -> Rows:
    sizes = np.diff(rows.starts)[order]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    within = np.arange(len(rows.samples)) - np.repeat(starts[:-1], sizes)
    return Rows(starts, rows.samples[np.repeat(rows.starts[:-1][order], sizes) + within])


def _grouped_by_length(
    cache: TokenCache, samples: Indices, step: int, micro: int, seed: int, epoch: int
) -> Rows:
    """Samples in an order in which those of one micro-batch of all ranks are of like length."""
    lengths = cache.lengths[samples]
    window = np.arange(len(samples)) // (step * _GROUPED_STEPS)
    grouped = samples[np.lexsort((lengths, window))]
    # Whole micro-batches are dealt at random over the epoch; what is left over stays last.
    whole = len(grouped) // micro
    order = keyed_order(whole, seed, epoch, _SHUFFLE_ROWS)
    batches = grouped[: whole * micro].reshape(whole, micro)[order]
    ordered = np.concatenate([batches.ravel(), grouped[whole * micro :]])
    return Rows(np.arange(len(ordered) + 1, dtype=np.int64), ordered)
