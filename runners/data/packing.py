"""Packing: samples into rows of a fixed length, as few rows as can be.

Best-fit decreasing (Johnson 1973): the longest sample first, each into the fullest row that still
holds it. Rows are only lengths here, so the search for the fullest row is a search for the smallest
space that occurs, and the spaces that occur are kept as the bits of one integer: finding the next
one is a shift and a count of trailing zeros over a few hundred bytes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runners.data.ordering import Indices


@dataclass(frozen=True)
class Rows:
    """Rows of samples, as two flat arrays.

    Row i holds ``samples[starts[i] : starts[i + 1]]``; ``starts`` int64 [rows + 1].
    """

    starts: Indices
    samples: Indices

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> Indices:
        return self.samples[self.starts[row] : self.starts[row + 1]]


def pack_best_fit(lengths: npt.NDArray[np.int32], capacity: int) -> Rows:
    """Pack samples of the given lengths (each in 1..capacity) into rows.

    Returns rows of indices into ``lengths``. Samples of equal length are taken in the order given,
    so a shuffled order gives other rows. Raises ``ValueError`` for a length that does not fit.
    """
    if len(lengths) == 0:
        return Rows(np.zeros(1, np.int64), np.zeros(0, np.int64))
    if int(lengths.max()) > capacity or int(lengths.min()) < 1:
        raise ValueError(f"sample lengths must lie in 1..{capacity}")
    order = np.argsort(-lengths, kind="stable")
    rows = _best_fit([int(x) for x in lengths[order]], capacity)
    by_row = np.argsort(rows, kind="stable")
    starts = np.zeros(int(rows.max()) + 2, np.int64)
    np.cumsum(np.bincount(rows), out=starts[1:])
    return Rows(starts, order[by_row])


def _best_fit(lengths: list[int], capacity: int) -> Indices:
    """The row of each sample, for lengths that do not rise."""
    with_space: list[list[int]] = [[] for _ in range(capacity + 1)]
    spaces = 0  # bit s is set while some row has exactly s free positions
    placed = []
    rows = 0
    for length in lengths:
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = with_space[space].pop()
            if not with_space[space]:
                spaces ^= 1 << space
        else:
            row, space = rows, capacity
            rows += 1
        placed.append(row)
        left = space - length
        if left:
            if not with_space[left]:
                spaces |= 1 << left
            with_space[left].append(row)
    return np.array(placed, np.int64)


def fill(rows: Rows, lengths: npt.NDArray[np.int32], capacity: int) -> float:
    """The share of positions that hold a token, 0 to 1."""
    if len(rows) == 0:
        return 0.0
    return float(lengths[rows.samples].sum(dtype=np.int64)) / (len(rows) * capacity)
