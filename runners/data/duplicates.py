"""Records whose content occurs more than once, found by sorting 64-bit hashes.

Eight bytes a record are held, whatever the records hold, and a few times that while sorting. With a
hundred million records, the chance that any two different ones are taken for one is about three in
ten thousand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    within = []
    kept = []
    before = 0
    for task in hashes:
        repeats = _repeats(task, np.arange(before, before + len(task)))
        within.append(repeats)
        first_here = np.ones(len(task), bool)
        first_here[repeats.records - before] = False
        kept.append(before + np.flatnonzero(first_here))
        before += len(task)
    if not kept:
        return [], _repeats(np.zeros(0, np.int64), np.zeros(0, np.int64))
    numbers = np.concatenate(kept)
    return within, _repeats(np.concatenate(list(hashes))[numbers], numbers)


def _repeats(hashes: npt.NDArray[np.int64], numbers: Indices) -> Repeats:
    """The repeats among ``hashes``; ``numbers`` are the records they belong to, rising."""
    # Sorting values is much faster than sorting their order, and most data has no repeats.
    ranked = np.sort(hashes)
    if not (ranked[1:] == ranked[:-1]).any():
        return Repeats(numbers[:0], numbers[:0])
    order = np.argsort(hashes)
    begins = np.ones(len(ranked), bool)
    begins[1:] = ranked[1:] != ranked[:-1]
    firsts = np.minimum.reduceat(order, np.flatnonzero(begins))
    first = np.empty_like(order)
    first[order] = firsts[np.cumsum(begins) - 1]
    again = np.flatnonzero(first != np.arange(len(first)))
    return Repeats(numbers[again], numbers[first[again]])
