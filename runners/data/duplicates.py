"""Records whose content occurs more than once, found by sorting 64-bit hashes.

Eight bytes a record are held, whatever the records hold, and a few times that while sorting. With a
hundred million records, the chance that any two different ones are taken for one is about three in
ten thousand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """Records that repeat an earlier one: ``records`` rising, and ``firsts``, what each repeats.

    Records are numbered through all tasks.
    """

    records: Indices
    firsts: Indices

    def __len__(self) -> int:
        return len(self.records)


def find_duplicates(
    hashes: Sequence[npt.NDArray[np.int64]],
) -> tuple[list[Repeats], Repeats]:
    """Repeats within each task, and across tasks.

    ``hashes`` holds one int64 array a task. Within a task every record but the first of a content
    counts; across tasks only the first of a content in a task that an earlier task has too.
    """
    everything = np.concatenate([np.zeros(0, np.int64), *hashes])
    suspects = _of_repeated_value(everything)
    bounds = np.cumsum([0, *map(len, hashes)])
    within = []
    firsts_of_tasks = [suspects[:0]]
    for start, stop in pairwise(np.searchsorted(suspects, bounds)):
        here = suspects[start:stop]
        repeats = _repeats(everything[here], here)
        within.append(repeats)
        firsts_of_tasks.append(np.setdiff1d(here, repeats.records, assume_unique=True))
    numbers = np.concatenate(firsts_of_tasks)
    return within, _repeats(everything[numbers], numbers)


def _of_repeated_value(hashes: npt.NDArray[np.int64]) -> Indices:
    """The records whose hash another record has too; in most data they are few or none."""
    # Sorting values is much faster than sorting their order.
    ranked = np.sort(hashes)
    repeated = np.unique(ranked[1:][ranked[1:] == ranked[:-1]])
    if not len(repeated):
        return np.zeros(0, np.int64)
    at = np.searchsorted(repeated, hashes)
    at[at == len(repeated)] = 0
    return np.flatnonzero(repeated[at] == hashes)


def _repeats(hashes: npt.NDArray[np.int64], numbers: Indices) -> Repeats:
    """The repeats among ``hashes``; ``numbers`` are the records they belong to, rising."""
    order = np.argsort(hashes)
    ranked = hashes[order]
    begins = np.ones(len(ranked), bool)
    begins[1:] = ranked[1:] != ranked[:-1]
    del ranked  # eight bytes a record, when most are held
    if begins.all():
        return Repeats(numbers[:0], numbers[:0])
    firsts = np.minimum.reduceat(order, np.flatnonzero(begins))
    first = np.empty_like(order)
    first[order] = firsts[np.cumsum(begins) - 1]
    again = np.flatnonzero(first != np.arange(len(first)))
    return Repeats(numbers[again], numbers[first[again]])
