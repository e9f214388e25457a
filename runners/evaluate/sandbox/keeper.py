"""Runs a program without a sandbox and leaves nothing behind: ``keeper.py FOLDER PROGRAM …``.

Everything that the program starts stays below this process, daemons too, because orphans are given
to it and not to init (PR_SET_CHILD_SUBREAPER). When the program ends, when SIGTERM comes, or when
whoever started the keeper dies, all of it is killed; in the last case the folder is removed too. A
process of its own, since the evaluation has children of other kinds.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_UNTOUCHABLE = {signal.SIGKILL, signal.SIGSTOP}
_libc = ctypes.CDLL(None, use_errno=True)


class _Asked(BaseException):
    """SIGTERM came: from the evaluation, or from the kernel because that is gone."""


def main() -> None:
    """Run the program, end what it left, and end as it did."""
    parent = os.getppid()
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _ask)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    status = 0
    try:
        if os.getppid() != parent:
            raise _Asked
        program = os.fork()
        if program == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - a program is what it is for
        _close_streams()
        status = _wait(program)
    except _Asked:
        status = -signal.SIGKILL
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_all()
    if os.getppid() != parent:
        shutil.rmtree(sys.argv[1], ignore_errors=True)
    _end_as(status)


def _ask(*_: object) -> None:
    raise _Asked


def _close_streams() -> None:
    # The evaluation waits for the end of the program's output, and this process writes none.
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)


def _wait(program: int) -> int:
    while True:
        pid, raw = os.wait()
        if pid == program:
            return os.waitstatus_to_exitcode(raw)


def _end_all() -> None:
    """Kill children until there are none: killing one may make its children ours."""
    while children := _children():
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)


def _children() -> list[int]:
    """Process ids whose parent is this process (proc_pid_stat(5))."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def _end_as(status: int) -> None:
    if status < 0:
        # The same signal tells the same story, without a core of our own.
        if -status not in _UNTOUCHABLE:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 0xFF)


if __name__ == "__main__":
    main()
