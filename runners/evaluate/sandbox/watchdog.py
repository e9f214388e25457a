"""Counts what a process tree uses, for machines where no control group enforces it.

It sees what processes have mapped. Files in the sandbox's folders are bounded by the folders' size,
and the filter denies the calls that make other memory without mapping it (``seccomp.py``).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from runners.evaluate.sandbox.process import Usage

_SUSPICIOUS_BYTES = 64 << 20
# Not every kernel is built with it (CONFIG_PROC_CHILDREN).
_TOLD_BY_THE_KERNEL = Path("/proc/self/task", str(os.getpid()), "children").exists()


def tree_usage(pid: int) -> Usage | None:
    """Bytes in memory, threads and CPU seconds of ``pid`` and all below it; None when gone."""
    memory = 0
    threads = 0
    cpu = 0.0
    for member in tree(pid):
        try:
            process = psutil.Process(member)
            with process.oneshot():
                memory += _share(process)
                threads += process.num_threads()
                spent = process.cpu_times()
                cpu += spent.user + spent.system + spent.children_user + spent.children_system
        except psutil.NoSuchProcess:
            continue
    return Usage(memory, threads, cpu) if threads else None


def _share(process: psutil.Process) -> int:
    """The process's bytes in memory, with its share only of what it shares with others.

    A fork shares nearly everything with its parent, and would count twice. The share takes a walk
    over all pages, so a small process is taken for what is mapped; that is never less.
    """
    resident: int = process.memory_info().rss
    if resident < _SUSPICIOUS_BYTES:
        return resident
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # gone, or not ours to look at
        return resident
    shares = (int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return next(shares, resident)


class Crowd:
    """Whether a tree has more threads than it may: asked a hundred times a second, for little.

    A fork bomb doubles every millisecond or two, and the account above takes longer the more there
    is. So only the machine's number of threads is read, until it has grown by as many as the tree
    may have; then the tree is walked, no further than that.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._least = _threads_of_the_machine()

    def __call__(self, pid: int) -> bool:
        """True when ``pid`` and all below it have too many threads."""
        now = _threads_of_the_machine()
        self._least = min(self._least, now)
        if now - self._least < self._most // 2:
            return False
        seen = 0
        for member in tree(pid):
            seen += _threads(member)
            if seen > self._most:
                return True
        return False


def tree(pid: int) -> Iterator[int]:
    """``pid`` and all processes below it, as they are found; some may have ended meanwhile."""
    waiting = [pid]
    while waiting:
        member = waiting.pop()
        yield member
        waiting += _children(member)


def _children(pid: int) -> list[int]:
    if not _TOLD_BY_THE_KERNEL:
        return _children_by_parent(pid)
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:  # gone
        return found
    return found


def _children_by_parent(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def _threads(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # gone
        return 0


def _threads_of_the_machine() -> int:
    """Threads alive, from "0.20 0.18 0.12 1/80 11206" (proc(5))."""
    return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
