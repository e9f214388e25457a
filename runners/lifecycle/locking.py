"""One supervisor a run: a lock that the kernel gives back when its holder dies.

Two people may resume the same run at once, and a watcher may tidy up after a run that somebody just
resumed. The database's compare-and-set decides who goes first; this lock makes sure that nobody
acts on what was true a moment ago.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Hold the lock at ``path`` for the block; yields False, at once, when somebody else has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
