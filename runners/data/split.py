"""Each task's samples divided into training, validation and test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runners.data.ordering import Indices, keyed_order
from runners.data.token_cache import TokenCache

_PURPOSE = 0x5B117


@dataclass(frozen=True)
class Split:
    """Sample indices (int64) of the three parts, each in the order of the data."""

    train: Indices
    valid: Indices
    test: Indices


def split_samples(
    cache: TokenCache, shares: str | Sequence[float], seed: int, shuffle: bool
) -> Split:
    """Divide every task's records by ``shares`` (train, valid, test; "95,5,0").

    Shuffled by seed first, or, with ``shuffle`` false, by position. The pieces of a split record
    stay together. A task with two records or more keeps at least one in training, and gives at
    least one to each part whose share is above zero as far as they reach.
    """
    numbers = [float(s) for s in shares.split(",")] if isinstance(shares, str) else list(shares)
    wanted = np.array(numbers) / sum(numbers)
    part_of_sample = np.zeros(len(cache), np.int8)
    for task in range(len(cache.tasks)):
        members = np.flatnonzero(cache.task_ids == task)
        records, piece_of = np.unique(cache.origins[members], return_inverse=True)
        order = keyed_order(len(records), seed, task, _PURPOSE) if shuffle else None
        parts = np.repeat(np.arange(3, dtype=np.int8), _sizes(len(records), wanted))
        part_of_record = np.zeros(len(records), np.int8)
        part_of_record[slice(None) if order is None else order] = parts
        part_of_sample[members] = part_of_record[piece_of]
    train, valid, test = (np.flatnonzero(part_of_sample == part) for part in range(3))
    return Split(train, valid, test)


def _sizes(count: int, shares: np.ndarray) -> list[int]:
    sizes = [0, *(round(count * share) for share in shares[1:])]
    for part in (1, 2):
        if shares[part] > 0 and sizes[part] == 0 and count > sum(sizes) + 1:
            sizes[part] = 1
    while sizes[1] + sizes[2] > max(count - 1, 0):
        sizes[1 if sizes[1] >= sizes[2] else 2] -= 1
    sizes[0] = count - sizes[1] - sizes[2]
    return sizes
