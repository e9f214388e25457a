"""One supervisor a run: a lock that the kernel gives back when its holder dies.

Two people may resume the same run at once, and a watcher may tidy up after a run that somebody just
resumed. The database's compare-and-set decides who goes first; this lock makes sure that nobody
acts on what was true a moment ago.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path, wait_while: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """Hold the lock at ``path`` for the block; yields False when somebody else has it.

    That is told at once, or as soon as ``wait_while``, asked again and again, no longer holds.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while not (alone := _taken(handle)) and wait_while():
            time.sleep(0.01)
        yield alone
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
