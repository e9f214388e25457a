"""Run ids: short, in the order they were made, and typed without looking twice.

Seven characters of time, in thirty-seconds of a second since 2025, and three of chance. The
alphabet is Crockford's base 32 in lower case: no i, l, o or u, so nothing is mistaken for a digit.
Ids made by one clock sort as they were made; two made within the same 31 ms meet with a chance of
one in 32,768, and then the store refuses the second.
"""

import secrets
import time
from collections.abc import Callable

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 10
_TIME_CHARACTERS = 7
_TICKS_A_SECOND = 32
_EPOCH = 1_735_689_600  # 2025-01-01 UTC


def new_run_id(clock: Callable[[], float] = time.time) -> str:
    """Make an id for a run that begins now; ``clock`` gives Unix seconds."""
    ticks = max(0, int((clock() - _EPOCH) * _TICKS_A_SECOND))
    chance = secrets.randbelow(32 ** (LENGTH - _TIME_CHARACTERS))
    return _base32(ticks, _TIME_CHARACTERS) + _base32(chance, LENGTH - _TIME_CHARACTERS)


def _base32(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
