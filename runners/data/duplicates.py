"""Records whose content occurs more than once, found by sorting 64-bit hashes.

Eight bytes a record are held, whatever the records hold. With a hundred million records, the chance
that any two different ones are taken for one is about three in ten thousand.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Place = tuple[int, int]
"""(task, record)."""


def find_duplicates(
    hashes: Sequence[npt.NDArray[np.int64]],
) -> tuple[list[list[tuple[int, int]]], list[tuple[Place, Place]]]:
    """Repeats within each task, and across tasks.

    ``hashes`` holds one int64 array a task. Within a task: (record, first record with the same
    content), every record but the first. Across tasks: the first record of a content in a task
    that an earlier task has too, and its first place there.
    """
    within = [_repeats(task) for task in hashes]
    sizes = [len(task) for task in hashes]
    tasks = np.repeat(np.arange(len(hashes)), sizes)
    records = np.arange(sum(sizes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    firsts = np.ones(len(tasks), bool)
    offset = 0
    for task, repeats in zip(hashes, within, strict=True):
        firsts[[offset + record for record, _ in repeats]] = False
        offset += len(task)
    chosen = np.flatnonzero(firsts)
    everything = np.concatenate(list(hashes)) if hashes else np.zeros(0, np.int64)
    across = [
        (
            (int(tasks[chosen[i]]), int(records[chosen[i]])),
            (int(tasks[chosen[j]]), int(records[chosen[j]])),
        )
        for i, j in _repeats(everything[chosen])
    ]
    return within, across


def _repeats(hashes: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """(index, first index with the same hash) of each repeat, by index."""
    if len(hashes) < 2:
        return []
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    begins = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    group_first = order[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    repeated = ~begins
    pairs = zip(order[repeated].tolist(), group_first[repeated].tolist(), strict=True)
    return sorted(pairs)
