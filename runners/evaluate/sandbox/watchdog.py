"""Counts what a process tree uses, for machines where no control group enforces it.

It sees what processes have mapped. Files in the sandbox's folders are bounded by the folders' size,
and the filter denies the calls that make other memory without mapping it (``seccomp.py``).
"""

from pathlib import Path

import psutil

from runners.evaluate.sandbox.process import Usage

_SUSPICIOUS_BYTES = 64 << 20


def tree_usage(pid: int) -> Usage | None:
    """Bytes in memory, threads and CPU seconds of ``pid`` and all below it; None when gone."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    memory = 0
    threads = 0
    cpu = 0.0
    for process in family:
        try:
            with process.oneshot():
                memory += _share(process)
                threads += process.num_threads()
                spent = process.cpu_times()
                cpu += spent.user + spent.system + spent.children_user + spent.children_system
        except psutil.NoSuchProcess:
            continue
    return Usage(memory, threads, cpu)


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
    return next(
        (int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), resident
    )
