"""Pretraining text joined and cut to full rows.

Texts follow each other in one stream, and the stream is cut every ``seq_length`` tokens. A text
that a cut goes through continues as a segment of its own in the next row; attention never crosses
from one text to another.
"""

import numpy as np

from runners.data.ordering import Indices
from runners.data.token_cache import TokenCache


def cut_to_rows(cache: TokenCache, samples: Indices, seq_length: int) -> list[Indices]:
    """Rows of pieces, each an int64 array [k, 3] of (sample, start, stop within the sample).

    Every row but the last is exactly full; every token of every sample is in one piece.
    """
    lengths = cache.lengths[samples].astype(np.int64)
    ends = np.cumsum(lengths)
    if len(ends) == 0:
        return []
    starts = ends - lengths
    total = int(ends[-1])
    cuts = np.union1d(np.union1d(starts, np.arange(0, total, seq_length)), [total])
    begin, stop = cuts[:-1], cuts[1:]
    owner = np.searchsorted(ends, begin, side="right")
    pieces = np.stack([samples[owner], begin - starts[owner], stop - starts[owner]], axis=1)
    row_of_piece = begin // seq_length
    return np.split(pieces, np.flatnonzero(np.diff(row_of_piece)) + 1)
