"""What becomes of samples longer than a row: truncated, dropped, split, or refused.

The cache keeps samples whole; this makes a view of it whose samples all fit. The reference drops
long samples without a word; here every one is counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from runners.data.token_cache import Counts, OverlongCounts, TokenCache, place_of_sample
from runners.errors import JobFailedError

Overlong = Literal["truncate", "drop", "split", "error"]


def fit_samples(cache: TokenCache, overlong: Overlong, seq_length: int | None) -> TokenCache:
    """A view of ``cache`` whose samples all fit ``seq_length`` and have something to train.

    ``seq_length`` None leaves every sample whole, as for rows that are cut out of all of them.

    Raises ``JobFailedError`` with ``overlong="error"`` when a sample does not fit.
    """
    if seq_length is None:
        seq_length = int(cache.lengths.max(initial=1))
    too_long = cache.lengths > seq_length
    if overlong == "error" and too_long.any():
        raise JobFailedError(
            f"{int(too_long.sum())} samples are longer than seq_length {seq_length}; the longest "
            f"has {int(cache.lengths.max())} tokens",
            where=place_of_sample(cache, int(np.argmax(too_long))),
            fix="Raise seq_length, or choose overlong: truncate, drop or split.",
        )
    n_tasks = len(cache.tasks)

    def per_task(which: npt.NDArray[np.bool_]) -> Counts:
        return np.bincount(cache.task_ids[which], minlength=n_tasks).astype(np.int64)

    starts, lengths, origins = _pieces(cache, overlong, seq_length, too_long)
    trained = _trained_in(cache, starts, lengths, origins, too_long)
    keep = trained > 0
    kept_origins = np.zeros(len(cache), bool)
    kept_origins[origins[keep]] = True
    none = np.zeros(n_tasks, np.int64)
    counts = OverlongCounts(
        longer=per_task(too_long),
        truncated=per_task(too_long & kept_origins) if overlong == "truncate" else none,
        dropped=per_task(too_long) if overlong == "drop" else none,
        split=per_task(too_long & kept_origins) if overlong == "split" else none,
        untrained=per_task(~kept_origins & ~(too_long & (overlong == "drop"))),
    )
    offsets = np.append(starts[keep], cache.offsets[-1])
    suffix = f"+{overlong}{seq_length}" if too_long.any() else ""
    return replace(
        cache,
        offsets=offsets,
        lengths=lengths[keep],
        trained_counts=trained[keep],
        task_ids=cache.task_ids[origins[keep]],
        origins=cache.origins[origins[keep]],
        fingerprint=cache.fingerprint + suffix,
        overlong=counts,
    )


def fitting_pieces(
    length: int, spans: Sequence[tuple[int, int]], overlong: Overlong, seq_length: int
) -> Iterator[tuple[int, int]]:
    """Length and trained tokens of each piece that one record of ``length`` tokens comes to.

    ``spans`` are its trained tokens, as (start, stop). What ``fit_samples`` does to a whole cache,
    for counts that need no cache; ``error`` is counted as ``truncate``.
    """
    if length <= seq_length:
        yield length, sum(stop - start for start, stop in spans)
    elif overlong != "drop":
        end = length if overlong == "split" else seq_length
        for begin in range(0, end, seq_length):
            stop_here = min(begin + seq_length, end)
            # A piece's first token has nothing before it to be predicted from.
            trained = (min(stop, stop_here) - max(start, begin + 1) for start, stop in spans)
            yield stop_here - begin, sum(max(0, count) for count in trained)


def _pieces(
    cache: TokenCache, overlong: Overlong, seq_length: int, too_long: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Start, length and record of each piece, in the order of the records."""
    origins = np.arange(len(cache), dtype=np.int64)
    if overlong == "drop":
        origins = origins[~too_long]
        return cache.offsets[:-1][origins], cache.lengths[origins], origins
    if overlong != "split":
        return cache.offsets[:-1], np.minimum(cache.lengths, seq_length), origins
    pieces = -(-cache.lengths // seq_length)
    origins = np.repeat(origins, pieces)
    number = np.arange(len(origins)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = number * seq_length
    lengths = np.minimum(cache.lengths[origins] - begin, seq_length).astype(np.int32)
    return cache.offsets[:-1][origins] + begin, lengths, origins


def _trained_in(
    cache: TokenCache,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int32],
    origins: npt.NDArray[np.int64],
    too_long: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int32]:
    """Trained tokens of each piece; only the pieces of long samples need their mask read."""
    trained = cache.trained_counts[origins]
    for i in np.flatnonzero(too_long[origins]):
        start = int(starts[i])
        # A piece's first token has nothing before it to be predicted from.
        trained[i] = int(cache.trained_mask[start + 1 : start + int(lengths[i])].sum())
    return trained
