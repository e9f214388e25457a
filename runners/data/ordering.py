"""Random orders that are a pure function of a key.

The order of training data is part of a run's identity: it must be the same on every rank, after
every resume, and with every version of numpy, whose generators may change. So a shuffle here sorts
by a hash (splitmix64, Steele et al. 2014) of the position and the key.
"""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def _mixed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed


def random_words(count: int, *key: int) -> npt.NDArray[np.uint64]:
    """``count`` 64-bit words, a function of the key's numbers and nothing else."""
    state = np.zeros(1, np.uint64)
    for part in key:
        word = np.array([((part & _WORD) + _GOLDEN) & _WORD], np.uint64)
        state = _mixed(state * np.uint64(_GOLDEN) + word)
    counters = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return _mixed(counters + state)


def keyed_order(count: int, *key: int) -> Indices:
    """A permutation of ``range(count)``, a function of the key's numbers and nothing else."""
    return np.argsort(random_words(count, *key), kind="stable")
