"""Counts what a process tree uses, for machines where no control group enforces it."""

import psutil

from runners.evaluate.sandbox.process import Usage


def tree_usage(pid: int) -> Usage | None:
    """Resident bytes, threads and CPU seconds of ``pid`` and all below it; None when gone."""
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
                memory += process.memory_info().rss
                threads += process.num_threads()
                spent = process.cpu_times()
                cpu += spent.user + spent.system + spent.children_user + spent.children_system
        except psutil.NoSuchProcess:
            continue
    return Usage(memory, threads, cpu)
