"""The two kernel services that keep a job from outliving its supervisor; Linux only.

``prctl`` is not in the standard library. Elsewhere these do nothing and the marker in the
environment is all there is.
"""

import ctypes
import signal
import sys

_SET_PDEATHSIG = 1
_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have this process killed when the thread that started it ends."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, argument: int) -> None:
    if sys.platform == "linux":
        # A kernel that refuses leaves us with the marker, as on other systems.
        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)
