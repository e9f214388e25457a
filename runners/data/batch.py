"""Rows of a plan to the arrays a model takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runners.data.plan import Row
from runners.data.token_cache import TokenCache

PAD_MULTIPLE = 8
"""Rows of dynamic length are padded to a multiple of this, which suits tensor cores."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch; every array is [rows, length].

    ``input_ids`` int64. ``loss_mask`` bool: the token is trained as a target, predicted from the
    position before it; never true at a segment's first token. ``position_ids`` int64, from 0 in
    each segment. ``segment_ids`` int32, 1.. in a row, 0 on padding. ``task_ids`` int32 and
    ``sample_ids`` int64, -1 on padding.
    """

    input_ids: npt.NDArray[np.int64]
    loss_mask: npt.NDArray[np.bool_]
    position_ids: npt.NDArray[np.int64]
    segment_ids: npt.NDArray[np.int32]
    task_ids: npt.NDArray[np.int32]
    sample_ids: npt.NDArray[np.int64]


def segments_of(cache: TokenCache, row: Row) -> Iterator[tuple[int, int, int]]:
    """(sample, start, stop) of each segment of a row, in every mode; positions in the sample."""
    if row.ndim == 2:
        for sample, start, stop in row.tolist():
            yield sample, start, stop
    else:
        for sample in row.tolist():
            yield sample, 0, int(cache.lengths[sample])


def row_length(cache: TokenCache, row: Row) -> int:
    """Tokens in a row, padding not counted."""
    if row.ndim == 2:
        return int((row[:, 2] - row[:, 1]).sum())
    return int(cache.lengths[row].sum())


def trained_in_row(cache: TokenCache, row: Row) -> list[tuple[int, int]]:
    """(sample, trained tokens) of each segment of a row: what loss denominators are made of."""
    if row.ndim == 1:
        return list(zip(row.tolist(), cache.trained_counts[row].tolist(), strict=True))
    return [
        (sample, int(cache.sample(sample)[1][start + 1 : stop].sum()))
        for sample, start, stop in segments_of(cache, row)
    ]


def collate(
    cache: TokenCache,
    rows: Sequence[Row],
    *,
    seq_length: int,
    dynamic: bool,
    pad_id: int,
) -> Batch:
    """Lay rows out as arrays, padded on the right with ``pad_id``.

    The length is ``seq_length``, or, when ``dynamic``, the longest row's, rounded up to a multiple
    of eight. No rows give one row of padding, so that ranks can step together at an epoch's end.
    """
    length = seq_length
    if dynamic:
        longest = max((row_length(cache, row) for row in rows), default=1)
        length = min(seq_length, -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE)
    shape = (max(1, len(rows)), length)
    batch = Batch(
        input_ids=np.full(shape, pad_id, np.int64),
        loss_mask=np.zeros(shape, bool),
        position_ids=np.zeros(shape, np.int64),
        segment_ids=np.zeros(shape, np.int32),
        task_ids=np.full(shape, -1, np.int32),
        sample_ids=np.full(shape, -1, np.int64),
    )
    for r, row in enumerate(rows):
        at = 0
        for number, (sample, start, stop) in enumerate(segments_of(cache, row), 1):
            ids, mask = cache.sample(sample)
            here = slice(at, at + stop - start)
            batch.input_ids[r, here] = ids[start:stop]
            batch.loss_mask[r, here] = mask[start:stop]
            batch.loss_mask[r, at] = False
            batch.position_ids[r, here] = np.arange(stop - start)
            batch.segment_ids[r, here] = number
            batch.task_ids[r, here] = cache.task_ids[sample]
            batch.sample_ids[r, here] = sample
            at += stop - start
    return batch
