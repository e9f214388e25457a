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
    bounds = np.cumsum([0, *map(len, hashes)])
    order, values = _repeated(np.concatenate([np.zeros(0, np.int64), *hashes]))
    task = np.searchsorted(bounds[1:], order, side="right")
    begins = np.ones(len(order), bool)
    begins[1:] = values[1:] != values[:-1]
    # In a value's records, rising as they are, those of a task stand together.
    begins_in_task = begins.copy()
    begins_in_task[1:] |= task[1:] != task[:-1]
    again = ~begins_in_task
    within = _rising(order[again], _firsts(order, begins_in_task)[again], bounds[-1])
    shared = begins_in_task & ~begins
    across = _rising(order[shared], _firsts(order, begins)[shared], bounds[-1])
    parts = pairwise(np.searchsorted(within.records, bounds))
    return [Repeats(within.records[a:b], within.firsts[a:b]) for a, b in parts], across


def _repeated(hashes: npt.NDArray[np.int64]) -> tuple[Indices, npt.NDArray[np.int64]]:
    """Records whose hash another one has too, and the hashes: by hash, then by record."""
    order = np.argsort(hashes, kind="stable")
    values = hashes[order]
    same = values[1:] == values[:-1]
    repeated = np.zeros(len(order), bool)
    repeated[1:] |= same
    repeated[:-1] |= same
    return order[repeated], values[repeated]


def _firsts(order: Indices, begins: npt.NDArray[np.bool_]) -> Indices:
    """For each record the one that its group, begun where ``begins`` says, begins with."""
    starts = np.flatnonzero(begins)
    return np.repeat(order[starts], np.diff(starts, append=len(order)))


def _rising(records: Indices, firsts: Indices, total: int) -> Repeats:
    """Repeats in the order of their records, of ``total``; marking places beats sorting."""
    if not len(records):
        return Repeats(records, firsts)
    first_of = np.full(total, -1, np.int64)
    first_of[records] = firsts
    found = np.flatnonzero(first_of >= 0)
    return Repeats(found, first_of[found])
